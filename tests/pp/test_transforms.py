from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.preprocessing import StandardScaler

from smalti._errors import NotFittedError
from smalti.nn import SparseRows
from smalti.pp import CLR, LSI, PCA, LinearTransform

STORAGES = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "coo": sp.coo_matrix,
    "dense": np.asarray,
    "int64": lambda x: sp.csr_matrix(x.astype(np.int64)),
}


def make_counts(rng, n=120, g=40):
    """Counts of three groups of cells, with a feature that is always zero and one that is constant."""
    rates = rng.gamma(1.0, 1.0, (3, g))[rng.integers(0, 3, n)] * rng.lognormal(0, 0.4, (n, 1))
    x = rng.poisson(rates).astype(np.float32)
    x[:, 0], x[:, 1] = 0, 1
    return x


def same_up_to_sign(a, b, atol=1e-4):
    sign = np.sign(np.sum(a * b, axis=0))
    np.testing.assert_allclose(a, b * sign, atol=atol * np.abs(b).max())


def test_pca_of_reals_is_that_of_scikit_learn(rng):
    x = rng.normal(size=(80, 15)) * rng.uniform(1, 5, 15) + 10
    expected = SklearnPCA(6).fit_transform(StandardScaler().fit_transform(x))
    pca = PCA(6, kind="identity")
    same_up_to_sign(pca.fit_transform(x), expected)
    same_up_to_sign(PCA(6, kind="identity", standardize=False).fit_transform(x), SklearnPCA(6).fit_transform(x))
    singular = SklearnPCA(6).fit(StandardScaler().fit_transform(x)).singular_values_
    np.testing.assert_allclose(pca.singular_values, singular, rtol=1e-5)


@pytest.mark.parametrize("standardize", [False, True])
def test_log_normalised_pca_is_that_of_scikit_learn(standardize, rng):
    x = make_counts(rng)
    y = np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)
    expected = SklearnPCA(5).fit_transform(StandardScaler().fit_transform(y) if standardize else y)
    same_up_to_sign(PCA(5, kind="lognorm", standardize=standardize).fit_transform(sp.csr_matrix(x)), expected, 1e-3)


def test_lsi_is_the_uncentred_decomposition_of_tf_idf(rng):
    x = make_counts(rng)
    idf = np.where((x > 0).any(axis=0), len(x) / np.maximum((x > 0).sum(axis=0), 1), 1.0)
    y = np.log1p(x / x.sum(axis=1, keepdims=True) * idf * 30.0)
    u, s, _ = np.linalg.svd(y, full_matrices=False)
    z = (u * s)[:, :5]
    lsi = LSI(5, target_sum=30.0)
    same_up_to_sign(lsi.fit_transform(x), z - z.mean(axis=0), 1e-3)
    np.testing.assert_allclose(lsi.singular_values, s[:5], rtol=1e-5)
    dropped = LSI(4, target_sum=30.0, drop_first=True).fit_transform(x)
    same_up_to_sign(dropped, (z - z.mean(axis=0))[:, 1:], 1e-3)


def test_row_standardised_lsi_gives_every_row_unit_spread(rng):
    x = make_counts(rng)
    z = LSI(6, row_standardize=True, batch_center=False).fit_transform(x)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=1), 1, atol=1e-5)


def test_clr_is_the_pca_of_logs_of_ratios_to_the_geometric_mean(rng):
    x = rng.poisson(20.0 * rng.lognormal(0, 1, 9), (100, 9)).astype(np.float32)
    y = np.log1p(x / np.exp(np.log1p(x).mean(axis=1, keepdims=True)))
    same_up_to_sign(CLR(4).fit_transform(x), SklearnPCA(4).fit_transform(y), 1e-3)


def test_a_small_panel_gives_all_its_directions_and_says_so(rng, caplog):
    x = rng.poisson(20.0, (100, 9))
    with caplog.at_level("INFO", logger="smalti.pp"):
        assert CLR(30).fit_transform(x).shape == (100, 9)
    assert "CLR has 9 components instead of 30: 100 cells by 9 features" in caplog.text


@pytest.mark.parametrize("n", [2, 7])
def test_fewer_cells_than_components_lower_them(n, rng):
    z = PCA(30).fit_transform(make_counts(rng, n=n))
    assert z.shape == (n, n - 1)
    assert np.isfinite(z).all()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("transform", [LSI(5), PCA(5), CLR(5), PCA(5, kind="identity")], ids=str)
def test_storage_does_not_matter(transform, storage, rng):
    x = make_counts(rng)
    batch = rng.integers(0, 2, len(x))
    expected = LinearTransform.from_state(transform.fit(x, batch=batch).state()).transform(x, batch=batch)
    stored = STORAGES[storage](x)
    before = stored.copy()
    np.testing.assert_allclose(transform.fit_transform(stored, batch=batch), expected, rtol=1e-3, atol=1e-3)
    assert abs(stored - before).sum() == 0


@pytest.mark.parametrize("transform", [LSI(5), PCA(5), CLR(5), PCA(5, kind="identity")], ids=str)
def test_rows_transform_alone_as_they_do_together(transform, rng):
    x = sp.csr_matrix(make_counts(rng))
    z = transform.fit(x).transform(x)
    order = rng.permutation(x.shape[0])[:17]
    np.testing.assert_allclose(transform.transform(x[order]), z[order], rtol=1e-4, atol=1e-4)


def test_the_module_maps_rows_as_the_transform_does(rng):
    x, batch = sp.csr_matrix(make_counts(rng)), rng.integers(0, 3, 120)
    lsi = LSI(5).fit(x, batch=batch)
    rows = SparseRows(
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int64)),
        torch.from_numpy(x.data),
    )
    module = lsi.to_module()
    np.testing.assert_allclose(module(rows, torch.from_numpy(batch)), lsi.transform(x, batch=batch), atol=1e-5)
    module.weight.zero_()
    assert lsi.module.weight.abs().sum() > 0


@pytest.mark.parametrize("transform", [LSI(5), PCA(5), CLR(5), PCA(5, kind="identity")], ids=str)
def test_every_batch_is_centred(transform, rng):
    x = make_counts(rng)
    batch = np.repeat([0, 1, 2], 40)
    x[batch == 1] *= 3
    z = transform.fit_transform(x, batch=batch)
    for b in range(3):
        np.testing.assert_allclose(z[batch == b].mean(axis=0), 0, atol=1e-4 * np.abs(z).max())
    unknown = transform.transform(x, batch=np.full(120, -1))
    shift = unknown - z
    np.testing.assert_allclose(sum(shift[batch == b].mean(axis=0) for b in range(3)), 0, atol=1e-3 * np.abs(z).max())


def test_a_batch_of_few_cells_is_centred_by_the_others(rng):
    x = make_counts(rng)
    batch = np.r_[np.zeros(60, int), np.ones(57, int), np.full(3, 2)]
    pca = PCA(4).fit(x, batch=batch)
    np.testing.assert_allclose(pca.module.centre[2], pca.module.centre[:2].mean(0), rtol=1e-5)
    np.testing.assert_allclose(pca.module.centre[2], pca.module.centre[3])


def test_without_batch_centring_components_keep_their_batch_means(rng):
    x = make_counts(rng)
    batch = np.repeat([0, 1], 60)
    x[batch == 1, 5:20] += 4
    z = PCA(4, batch_center=False).fit_transform(x, batch=batch)
    assert np.abs(z[batch == 1].mean(axis=0)).max() > 0.5


@pytest.mark.parametrize("transform", [LSI(4), PCA(4), CLR(4), PCA(4, kind="identity")], ids=str)
def test_values_of_unmeasured_features_do_not_matter(transform, rng):
    x, batch = make_counts(rng), np.repeat([0, 1], 60)
    mask = np.ones((2, 40), bool)
    mask[1, 10:20] = False
    poisoned = x.copy()
    poisoned[60:, 10:20] = rng.poisson(50, (60, 10))
    z = transform.fit_transform(sp.csr_matrix(x), batch=batch, feature_mask=mask)
    np.testing.assert_allclose(
        transform.fit_transform(sp.csr_matrix(poisoned), batch=batch, feature_mask=mask), z, rtol=1e-3, atol=1e-4
    )


def test_unmeasured_features_are_as_if_at_their_mean(rng):
    x, batch = rng.normal(size=(200, 8)) + 3, np.repeat([0, 1], 100)
    mask = np.ones((2, 8), bool)
    mask[1, 6:] = False
    pca = PCA(8, kind="identity", standardize=False, batch_center=False).fit(x, batch=batch, feature_mask=mask)
    filled = x.copy()
    filled[100:, 6:] = x[:100, 6:].mean(axis=0)
    expected = SklearnPCA(8).fit_transform(filled)
    same_up_to_sign(pca.transform(x, batch=batch), expected)


@pytest.mark.parametrize("transform", [LSI(5), PCA(5), CLR(5)], ids=str)
def test_cells_without_counts_lie_at_the_centre(transform, rng):
    x = make_counts(rng)
    x[[3, 70]] = 0
    z = transform.fit_transform(sp.csr_matrix(x), batch=np.repeat([0, 1], 60))
    assert np.isfinite(z).all()
    assert (z[[3, 70]] == 0).all()
    np.testing.assert_allclose(z[:60].mean(axis=0), 0, atol=1e-4 * np.abs(z).max())


@pytest.mark.parametrize("transform", [LSI(5), PCA(5), CLR(5), PCA(5, kind="identity")], ids=str)
def test_features_that_never_vary_have_no_weight(transform, rng):
    x = make_counts(rng)
    transform.fit(x)
    np.testing.assert_allclose(transform.module.weight[0], 0, atol=1e-6)
    assert torch.isfinite(transform.module.weight).all()
    if transform.kind == "identity":
        np.testing.assert_allclose(transform.module.weight[1], 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["tfidf", "lognorm"])
def test_the_scale_of_counts_does_not_matter(kind, rng):
    x = make_counts(rng)
    np.testing.assert_allclose(
        PCA(5, kind=kind).fit_transform(x), PCA(5, kind=kind).fit_transform(x * 8), rtol=1e-2, atol=1e-3
    )


def test_the_default_target_puts_the_median_value_at_log_7(rng):
    x = sp.csr_matrix(make_counts(rng))
    module = LSI(5).fit(x).module
    share = x.data / np.repeat(np.asarray(x.sum(axis=1)).ravel(), np.diff(x.indptr))
    typical = share * module.feature_weight.numpy()[x.indices] * float(module.target_sum)
    np.testing.assert_allclose(np.median(np.log1p(typical)), np.log(7), rtol=1e-4)


@pytest.mark.parametrize(
    "transform",
    [LSI(5, drop_first=True, target_sum=50), LSI(4, row_standardize=True), PCA(5), CLR(5), PCA(5, kind="identity")],
    ids=str,
)
def test_state_survives_json_and_npz(transform, rng, tmp_path):
    x, batch = make_counts(rng), np.repeat([0, 1], 60)
    mask = rng.random((2, 40)) < 0.9
    z = transform.fit_transform(x, batch=batch, feature_mask=mask)
    state = transform.state()
    text = json.loads(json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}))
    np.savez(tmp_path / "state.npz", **state)
    with np.load(tmp_path / "state.npz") as stored:
        for copy in (LinearTransform.from_state(text), type(transform).from_state(dict(stored))):
            assert type(copy) is type(transform)
            assert copy.options() == transform.options()
            np.testing.assert_allclose(copy.transform(x, batch=batch), z, rtol=1e-6)
            np.testing.assert_allclose(copy.singular_values, transform.singular_values)


def test_the_state_of_another_transform_is_refused(rng):
    state = PCA(3).fit(make_counts(rng)).state()
    with pytest.raises(ValueError, match="Expected the state of a LSI, found that of a PCA"):
        LSI.from_state(state)


def test_fitting_twice_gives_the_same(rng):
    x = sp.csr_matrix(make_counts(rng, n=700, g=600))
    np.testing.assert_array_equal(LSI(10).fit_transform(x), LSI(10).fit_transform(x))


def test_sparse_input_is_never_densified(rng, monkeypatch):
    x = sp.random_array((700, 800), density=0.05, rng=rng, format="csr")
    x.data = np.ones_like(x.data)
    for cls in (sp.csr_matrix, sp.csr_array):
        monkeypatch.setattr(cls, "toarray", lambda *_, **__: pytest.fail("densified"))
    z = LSI(10).fit_transform(x, batch=np.arange(700) % 2)
    assert z.shape == (700, 10)
    PCA(10, standardize=True).fit_transform(x)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.array([[1.0, np.nan], [1, 2]]), "expected finite values, found NaN or infinity"),
        (np.array([[1.0, -2.0], [1, 2]]), "expected counts >= 0, found .*-2"),
        (np.ones(4), "found 1 dimension"),
        (np.array([["a", "b"]]), "Expected numbers"),
        (np.ones((5, 3)), "no direction along which the 5 cells vary"),
    ],
)
def test_bad_values_are_refused(x, match):
    with pytest.raises(ValueError, match=match):
        PCA(2).fit(x)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch": [0, 1]}, "Expected `batch` to be 120 whole numbers"),
        ({"batch": np.zeros(120)}, "of type float64"),
        ({"batch": np.full(120, 5), "n_batch": 2}, "codes from -1 to 1, found 5"),
        ({"feature_mask": np.ones((2, 40), bool)}, r"shape \(1, 40\), found bool and \(2, 40\)"),
        ({"feature_mask": np.ones((1, 40))}, "of type bool"),
    ],
)
def test_bad_batches_and_masks_are_refused(options, match, rng):
    with pytest.raises(ValueError, match=match):
        PCA(2).fit(make_counts(rng), **options)


def test_other_features_and_unfitted_use_are_refused(rng):
    with pytest.raises(NotFittedError, match="This LSI was not fitted"):
        LSI().transform(make_counts(rng))
    pca = PCA(3).fit(make_counts(rng))
    with pytest.raises(ValueError, match="fitted on 40 features, found 39"):
        pca.transform(make_counts(rng)[:, 1:])


@pytest.mark.parametrize("n_components", [0, 2.5, True])
def test_the_number_of_components_is_a_whole_number(n_components):
    with pytest.raises(ValueError, match="Expected `n_components` to be a whole number"):
        LSI(n_components)
