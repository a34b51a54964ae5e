from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import logit
from scipy.stats import gmean

from smalti import pp

STORAGES = (np.asarray, sp.csr_matrix, sp.csr_array, sp.csc_matrix)


def test_m_values_are_binary_logits():
    x = np.array([[0.5, 0.8, 0.2], [0.9, np.nan, 0.1]])
    m = pp.beta_to_m(AnnData(x)).X
    np.testing.assert_allclose(m[0], [0, 2, -2], atol=1e-12)
    np.testing.assert_allclose(m, logit(x) / np.log(2))
    np.testing.assert_allclose(pp.m_to_beta(AnnData(m)).X, x)


def test_m_values_are_bounded_by_the_offset():
    m = pp.beta_to_m(AnnData(np.array([[0.0, 1.0]])), offset=1 / 1025).X
    np.testing.assert_allclose(m, [[-10, 10]])
    with pytest.raises(ValueError, match="`offset` to be between 0 and 0.5, found 0.7"):
        pp.beta_to_m(AnnData(np.array([[0.0, 1.0]])), offset=0.7)
    with pytest.raises(ValueError, match="found values from 0 to 1.5"):
        pp.beta_to_m(AnnData(np.array([[0.1, 1.5]])))


def test_only_the_layer_is_changed():
    adata = AnnData(np.ones((2, 2)), layers={"beta": np.full((2, 2), 0.5, np.float32)})
    out = pp.beta_to_m(adata, layer="beta")
    np.testing.assert_array_equal(out.layers["beta"], 0)
    np.testing.assert_array_equal(out.X, 1)
    assert out.layers["beta"].dtype == np.float32
    np.testing.assert_array_equal(adata.layers["beta"], 0.5)


@pytest.mark.parametrize("storage", STORAGES)
def test_size_factors_are_those_worked_out_by_hand(storage):
    # Geometric means of a, b, c: 2, 4, 6; the last feature has a zero and is no reference.
    # Ratios: (1/2, 1/4, 1/2), (2, 4, 2), so the medians are 1/2 and 2.
    x = np.array([[1, 1, 3, 900], [4, 16, 12, 0]])
    np.testing.assert_allclose(pp.size_factors(AnnData(storage(x.astype(float)))), [0.5, 2])


@pytest.mark.parametrize("storage", STORAGES)
def test_positive_size_factors_are_those_worked_out_by_hand(storage):
    # n-th roots of the product of positive counts: 2, 3 (a zero instead of 9 counts as 1), 4.
    # Ratios: 1/2, 3, - and 2, -, 4; medians 7/4 in logarithms sqrt(3/2), sqrt(8); divided by their geometric mean.
    x = np.array([[1, 9, 0], [4, 0, 16]])
    raw = np.array([np.sqrt(0.5 * 3), np.sqrt(2 * 4)])
    found = pp.size_factors(AnnData(storage(x.astype(float))), positive=True)
    np.testing.assert_allclose(found, raw / gmean(raw))


def test_size_factors_follow_depth_and_ignore_a_few_changed_features(rng):
    rates = rng.uniform(50, 500, 200)
    depth = rng.uniform(0.3, 3, 12)
    x = np.outer(depth, rates)
    np.testing.assert_allclose(pp.size_factors(AnnData(x)), depth / gmean(depth))
    x[:4, :40] *= 50
    changed = pp.size_factors(AnnData(x))
    np.testing.assert_allclose(changed / gmean(changed), depth / gmean(depth), rtol=1e-6)
    for positive in (False, True):
        some = pp.size_factors(AnnData(rng.poisson(x) + 1), positive=positive)
        np.testing.assert_allclose(some / gmean(some), depth / gmean(depth), rtol=0.1)


def test_both_kinds_of_size_factors_agree_up_to_a_constant_if_all_counts_are_positive(rng):
    adata = AnnData(rng.poisson(30, (9, 50)) + 1.0)
    ratio = pp.size_factors(adata, positive=True) / pp.size_factors(adata)
    np.testing.assert_allclose(ratio, ratio[0])


def test_without_a_feature_in_all_samples_the_remedy_is_named():
    adata = AnnData(np.array([[3.0, 0.0, 2.0], [0.0, 1.0, 0.0]]), obs=pd.DataFrame(index=["p1", "p2"]))
    with pytest.raises(ValueError, match=r"in each of the 2 samples.*among 3 features. Use `positive=True`"):
        pp.size_factors(adata)
    assert np.isfinite(pp.size_factors(adata, positive=True)).all()
    adata.X[1] = 0
    with pytest.raises(ValueError, match=r"found 1 without: 'p2'. Remove these samples"):
        pp.size_factors(adata, positive=True)
    adata.X[1] = -1
    with pytest.raises(ValueError, match="Expected counts >= 0, found -1"):
        pp.size_factors(adata)
    with pytest.raises(ValueError, match=r"in any of the 2 samples.*Check that the values are counts"):
        pp.size_factors(AnnData(np.zeros((2, 3))), positive=True)


@pytest.mark.parametrize("storage", STORAGES)
def test_normalised_counts_are_divided_by_size_factors(storage):
    x = np.array([[1, 1, 3, 900], [4, 16, 12, 0]], dtype=np.int32)
    adata = AnnData(storage(x))
    plain = np.array([[2, 2, 6, 1800], [2, 8, 6, 0]])
    for log, expected in ((False, plain), (True, np.log2(plain + 1))):
        out = pp.median_of_ratios(adata, log=log)
        assert sp.issparse(out.X) == sp.issparse(adata.X)
        assert out.X.dtype == np.float32
        values = out.X.toarray() if sp.issparse(out.X) else out.X
        np.testing.assert_allclose(values, expected, rtol=1e-6)
        np.testing.assert_allclose(out.obs["size_factor"], [0.5, 2])
    assert list(pp.median_of_ratios(adata, key_added=None).obs) == list(adata.obs) == []
    assert (adata.X != storage(x)).sum() == 0


def test_missing_counts_stay_missing_and_are_no_reference():
    x = np.array([[1, 1, 3, np.nan], [4, 16, 12, 8]])
    out = pp.median_of_ratios(AnnData(x))
    np.testing.assert_allclose(out.obs["size_factor"], [0.5, 2])
    np.testing.assert_array_equal(np.isnan(out.X), np.isnan(x))
