from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, spearmanr

from smalti.metrics import translation_error, translation_summary

STORAGES = {
    "dense": np.asarray,
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "coo": sp.coo_matrix,
}


def reference(true, predicted, metric):
    if metric in ("mse", "rmse"):
        mse = np.mean((true - predicted) ** 2)
        return mse if metric == "mse" else np.sqrt(mse)
    return (pearsonr if metric == "pearson" else spearmanr)(true, predicted).statistic


@pytest.fixture
def tables(rng):
    true = rng.poisson(0.8, size=(60, 11)).astype(np.float32)
    return true, (0.5 * true + rng.gamma(1.0, size=true.shape)).astype(np.float32)


@pytest.mark.parametrize("metric", ["pearson", "spearman", "rmse", "mse"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_each_feature_equals_the_reference(metric, storage, chunk_size, tables):
    true, predicted = tables
    expected = [reference(a, b, metric) for a, b in zip(true.T.astype(float), predicted.T.astype(float), strict=True)]
    found = translation_error(STORAGES[storage](true), predicted, metric=metric, chunk_size=chunk_size)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    both = translation_error(STORAGES[storage](true), sp.csr_matrix(predicted), metric=metric, chunk_size=chunk_size)
    np.testing.assert_allclose(both, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("metric", ["pearson", "spearman", "rmse", "mse"])
def test_masked_values_are_ignored(metric, tables, rng):
    true, predicted = (t.astype(float) for t in tables)
    mask = rng.random(true.shape) < 0.6
    expected = [reference(true[m, j], predicted[m, j], metric) for j, m in enumerate(mask.T)]
    true[~mask], predicted[~mask] = np.nan, np.inf
    np.testing.assert_allclose(translation_error(true, predicted, metric=metric, mask=mask), expected, rtol=1e-11)


@pytest.mark.parametrize("storage", ["dense", "csr", "csc", "csr_array"])
def test_a_mask_of_cells_leaves_rows_out(storage, tables):
    true, predicted = tables
    rows = np.arange(60) % 3 > 0
    expected = translation_error(true[rows], predicted[rows])
    predicted[~rows] = np.nan
    found = translation_error(STORAGES[storage](true), predicted, mask=rows)
    np.testing.assert_array_equal(found, expected)
    full = translation_error(STORAGES[storage](true), predicted, mask=np.repeat(rows[:, None], 11, axis=1))
    np.testing.assert_allclose(full, expected, rtol=1e-12)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_constant_features_have_no_correlation(metric, tables):
    true, predicted = tables
    true[:, 2], predicted[:, 5] = 0.1, 0.7
    found = translation_error(true, predicted, metric=metric)
    assert np.flatnonzero(np.isnan(found)).tolist() == [2, 5]
    assert np.isfinite(translation_error(true, predicted, metric="rmse")).all()


def test_features_that_nobody_measured_are_undefined(tables):
    true, predicted = tables
    mask = np.ones(true.shape, bool)
    mask[:, 3] = False
    mask[1:, 4] = False
    assert np.flatnonzero(np.isnan(translation_error(true, predicted, metric="mse", mask=mask))).tolist() == [3]
    assert np.flatnonzero(np.isnan(translation_error(true, predicted, mask=mask))).tolist() == [3, 4]


def test_correlations_ignore_scale_and_ranks_ignore_shape(tables):
    true, _ = tables
    np.testing.assert_allclose(translation_error(true, 1e6 + 3.0 * true), 1, atol=1e-9)
    np.testing.assert_allclose(translation_error(true, -true), -1)
    np.testing.assert_allclose(translation_error(true, np.exp(true), metric="spearman"), 1)
    assert (translation_error(true, np.exp(2 * true)) < 0.99).all()


def test_truth_is_made_dense_only_by_blocks(rng):
    true = sp.random_array((2000, 4000), density=0.002, format="csr", dtype=np.float32, rng=rng)
    tracemalloc.start()
    translation_error(true, true, chunk_size=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 4000 * 4 / 4


def test_a_summary_leaves_undefined_features_out(rng):
    values = rng.normal(size=30)
    summary = translation_summary(np.concatenate([values, [np.nan, np.nan]]))
    assert summary == {
        "mean": pytest.approx(values.mean()),
        "median": pytest.approx(np.median(values)),
        "q25": pytest.approx(np.quantile(values, 0.25)),
        "q75": pytest.approx(np.quantile(values, 0.75)),
        "n_features": 32,
        "n_undefined": 2,
    }
    assert np.isnan(translation_summary([np.nan])["mean"])


def test_bad_arguments_are_refused(tables):
    true, predicted = tables
    with pytest.raises(ValueError, match=r"one shape, found \(60, 11\) and \(60, 10\)"):
        translation_error(true, predicted[:, 1:])
    with pytest.raises(ValueError, match="`metric` to be one of 'pearson'"):
        translation_error(true, predicted, metric="kendall")
    with pytest.raises(ValueError, match=r"`mask` to be boolean of shape \(60,\) or \(60, 11\)"):
        translation_error(true, predicted, mask=np.ones(11, bool))
    with pytest.raises(ValueError, match="`true` to be a numeric matrix"):
        translation_error(true[0], predicted[0])
    with pytest.raises(ValueError, match="`chunk_size` to be a whole number"):
        translation_error(true, predicted, chunk_size=0)
    with pytest.raises(ValueError, match="one value per feature"):
        translation_summary(true)
    predicted[3, 7] = np.nan
    with pytest.raises(ValueError, match="`predicted` to be finite, .* in 1 features, first in column 7"):
        translation_error(true, predicted, chunk_size=3)
