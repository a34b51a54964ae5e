from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from smalti import pp
from smalti._errors import NotFittedError

SCALERS = {"zscore": StandardScaler, "minmax": MinMaxScaler, None: FunctionTransformer}
KINDS = ("methylation", "counts", "reals")


def make_counts(rng, n=40, g=25):
    """Counts of two groups, with a feature that is hardly counted."""
    rates = rng.lognormal(3, 1, (2, g))[rng.integers(0, 2, n)] * rng.lognormal(0, 0.4, (n, 1))
    x = (rng.poisson(rates) + 1).astype(np.float64)
    x[:, 0] = 1
    return x


def make_betas(rng, n=40, g=25):
    """Levels with gaps, zeros among them, and a probe that hardly varies."""
    x = rng.beta(0.7, 0.7, (n, g)).clip(0.01, 0.99)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.02] = 0
    x[:, 0] = rng.uniform(0.5, 0.6, n)
    return x


def make_reals(rng, n=40, g=25):
    """Correlated values with gaps."""
    x = rng.normal(size=(n, 3)) @ rng.normal(size=(3, g)) * rng.uniform(1, 5, g) + rng.normal(10, 3, g)
    x[rng.random(x.shape) < 0.05] = np.nan
    return x


MAKE = {"methylation": make_betas, "counts": make_counts, "reals": make_reals}


def flat(state):
    """Return a state in a form that compares exactly, NaN included."""
    return {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in state.items()}


@pytest.mark.parametrize("scale", SCALERS)
@pytest.mark.parametrize("n_components", [None, 3])
def test_reals_go_the_way_of_a_scikit_learn_pipeline(scale, n_components, rng):
    x = make_reals(rng)
    steps = [SimpleImputer(), SCALERS[scale]()]
    if n_components:
        steps.append(SklearnPCA(n_components, svd_solver="full"))
    reference = make_pipeline(*steps).fit(x[:25])
    transform = pp.BulkTransform("reals", scale=scale, n_components=n_components).fit(x[:25])
    out, expected = transform.transform(x), reference.transform(x)
    if n_components:
        expected = expected * np.sign((expected * out).sum(axis=0))
        np.testing.assert_allclose(transform.explained, reference[-1].explained_variance_ratio_, rtol=1e-5)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    assert out.dtype == np.float32


def test_methylation_goes_the_way_of_the_single_functions(rng):
    x = make_betas(rng)
    transform = pp.BulkTransform("methylation", scale=None)
    out = transform.fit_transform(x)
    kept = pp.filter_probes(AnnData(x))
    expected = pp.beta_to_m(pp.impute_mean(kept, zero_is_missing=True))
    np.testing.assert_allclose(out, expected.X, rtol=1e-5)
    assert 0 < transform.kept.sum() == kept.n_vars < 25
    assert not transform.kept[0]


def test_counts_go_the_way_of_the_single_functions(rng):
    x = make_counts(rng)
    transform = pp.BulkTransform("counts", scale=None)
    out = transform.fit_transform(x)
    expected = pp.median_of_ratios(pp.filter_low_counts(AnnData(x)))
    np.testing.assert_allclose(out, expected.X, rtol=1e-5)
    assert not transform.kept[0]


@pytest.mark.parametrize("kind", KINDS)
def test_training_samples_are_scaled_to_mean_0_and_deviation_1(kind, rng):
    z = pp.BulkTransform(kind).fit_transform(MAKE[kind](rng))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-5)
    z = pp.BulkTransform(kind, scale="minmax").fit_transform(MAKE[kind](rng))
    np.testing.assert_allclose([z.min(axis=0), z.max(axis=0)], [np.zeros(z.shape[1]), np.ones(z.shape[1])], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_transformed_by_itself(kind, rng):
    x = MAKE[kind](rng)
    transform = pp.BulkTransform(kind, n_components=3).fit(x[:30])
    alone = np.vstack([transform.transform(x[i : i + 1]) for i in range(30, 40)])
    np.testing.assert_allclose(alone, transform.transform(x[30:]), atol=1e-5)


def test_depth_of_a_new_sample_does_not_matter(rng):
    x = make_counts(rng) * 1000
    transform = pp.BulkTransform("counts").fit(x[:30])
    np.testing.assert_allclose(transform.transform(7 * x[30:]), transform.transform(x[30:]), atol=1e-5)


def test_positive_counts_serve_when_no_feature_is_in_all_samples(rng):
    x = make_counts(rng)
    x[np.arange(40), np.arange(40) % 25] = 0
    with pytest.raises(ValueError, match="Use `positive=True`"):
        pp.BulkTransform("counts").fit(x)
    transform = pp.BulkTransform(pp.Counts(positive=True), scale=None)
    expected = pp.median_of_ratios(pp.filter_low_counts(AnnData(x)), positive=True)
    np.testing.assert_allclose(transform.fit_transform(x), expected.X, rtol=1e-5)


@pytest.mark.parametrize("storage", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
@pytest.mark.parametrize("scale", SCALERS)
@pytest.mark.parametrize("kind", ["counts", "reals"])
def test_sparse_values_give_what_dense_ones_give(kind, scale, storage, rng):
    x = make_counts(rng) * (rng.random((40, 25)) < 0.8)
    x[:, 5] += 1
    for n_components in (None, 3):
        dense, sparse = (pp.BulkTransform(kind, scale=scale, n_components=n_components) for _ in range(2))
        a, b = dense.fit_transform(x), sparse.fit_transform(storage(x))
        np.testing.assert_allclose(a, b * np.sign((a * b).sum(axis=0)), atol=1e-3 * np.abs(a).max())
        undone = (t.inverse_transform(z) for t, z in ((dense, a), (sparse, b)))
        np.testing.assert_allclose(*undone, atol=1e-3 * x.max())


@pytest.mark.parametrize("scale", SCALERS)
@pytest.mark.parametrize("n_components", [None, 25])
def test_scaling_and_a_full_projection_can_be_undone(scale, n_components, rng):
    x = make_reals(rng)
    x[:, 4] = 3.0  # does not vary
    transform = pp.BulkTransform("reals", scale=scale, n_components=n_components).fit(x[:35])
    if n_components:  # others may lie outside the space that training samples span
        x = x[:35]
    known = np.isfinite(x)
    back = transform.inverse_transform(transform.transform(x))
    np.testing.assert_allclose(back[known], x[known], rtol=1e-3, atol=1e-3)


def test_features_that_do_not_vary_become_zero(rng):
    x = make_reals(rng)
    x[:30, 4] = 3.0
    x[30:, 4] = 1000.0
    for scale in ("zscore", "minmax"):
        z = pp.BulkTransform("reals", scale=scale).fit(x[:30]).transform(x)
        np.testing.assert_array_equal(z[:, 4], 0)
        assert np.isfinite(z).all()


def test_features_that_training_never_observed_are_left_out(rng):
    x = make_reals(rng)
    x[:30, 4] = np.nan
    transform = pp.BulkTransform("reals").fit(x[:30])
    assert np.flatnonzero(~transform.kept).tolist() == [4]
    assert transform.transform(x).shape == (40, 24)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_components", [None, 3])
def test_a_stored_transform_does_the_same(kind, n_components, rng, tmp_path):
    x = MAKE[kind](rng)
    options = {"methylation": {"offset": 0.02, "zero_is_missing": False}, "counts": {"positive": True}, "reals": {}}
    made = {"methylation": pp.Methylation, "counts": pp.Counts, "reals": pp.Reals}[kind](**options[kind])
    transform = pp.BulkTransform(made, scale=None if n_components else "minmax", n_components=n_components).fit(x)
    np.savez(tmp_path / "state.npz", **transform.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        read = pp.BulkTransform.from_state(dict(file))
    through_json = json.loads(json.dumps(transform.state(), default=lambda a: a.tolist()))
    for other in (read, pp.BulkTransform.from_state(through_json)):
        assert repr(other) == repr(transform)
        np.testing.assert_array_equal(other.transform(x), transform.transform(x))
        np.testing.assert_array_equal(other.explained, transform.explained)
    assert flat(read.state()) == flat(transform.state())


def test_fitting_again_leaves_nothing_of_the_first_fit(rng):
    a, b = make_counts(rng), make_counts(rng)[:, :12]
    transform = pp.BulkTransform("counts", n_components=2).fit(a).fit(b)
    assert flat(transform.state()) == flat(pp.BulkTransform("counts", n_components=2).fit(b).state())


def test_values_are_left_as_they_were(rng):
    for kind, make in MAKE.items():
        x = make(rng)
        before = x.copy()
        pp.BulkTransform(kind).fit_transform(x)
        np.testing.assert_array_equal(x, before)


def test_wrong_use_is_explained(rng):
    with pytest.raises(ValueError, match="`kind` to be one of 'methylation', 'counts', 'reals', found 'rna'"):
        pp.BulkTransform("rna")
    with pytest.raises(TypeError, match="or such an object, found 3"):
        pp.BulkTransform(3)
    with pytest.raises(ValueError, match="`scale` to be one of"):
        pp.BulkTransform("reals", scale="log")
    with pytest.raises(NotFittedError, match="Call `fit` first"):
        pp.BulkTransform("reals").transform(np.ones((2, 2)))
    with pytest.raises(ValueError, match="at least one sample"):
        pp.BulkTransform("reals").fit(np.ones((0, 2)))
    with pytest.raises(ValueError, match=r"Counts\(min_counts=5.* keeps none of the 3 features of the 4 samples"):
        pp.BulkTransform("counts").fit(np.ones((4, 3)))
    transform = pp.BulkTransform("counts").fit(make_counts(rng))
    with pytest.raises(ValueError, match="fitted on 25 features, found 24"):
        transform.transform(np.ones((2, 24)))
    with pytest.raises(ValueError, match="found 1 without: 'row 1'"):
        transform.transform(np.vstack([np.ones(25), np.zeros(25)]))
    with pytest.raises(ValueError, match=r"shape \(n, 24\), found \(2, 25\)"):
        transform.inverse_transform(np.ones((2, 25)))
    with pytest.raises(ValueError, match="`class` to be one of 'BulkTransform', found 'PCA'"):
        pp.BulkTransform.from_state(pp.PCA(2, kind="identity").fit(make_counts(rng)).state())
