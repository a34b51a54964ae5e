from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LinearRegression

from smalti._mudata import no_pull
from smalti.data import presence
from smalti.simulate import factor_views


def log_rate(adata):
    """Counts per expected count of the cell, on the log scale."""
    return np.log1p(1000 * adata.X.toarray() / adata.obs["size_factor"].to_numpy()[:, None] / adata.X.sum(1).mean())


def explained(x, y, n_train=1500):
    return LinearRegression().fit(x[:n_train], y[:n_train]).score(x[n_train:], y[n_train:])


def test_every_cell_has_every_modality_and_a_name_of_its_own():
    mdata = factor_views(50, n_features={"x": 7, "y": 6, "z": 5})
    assert presence(mdata).all()
    assert mdata.obs_names.is_unique
    assert mdata.var_names.is_unique
    assert {name: adata.shape for name, adata in mdata.mod.items()} == {"x": (50, 7), "y": (50, 6), "z": (50, 5)}


def test_a_sequence_of_sizes_names_modalities_by_letters():
    assert list(factor_views(10, n_features=(4, 3, 2)).mod) == ["a", "b", "c"]


def test_gaussian_views_are_the_planted_linear_model():
    mdata = factor_views(500, n_batches=3, noise=0.0)
    batch = mdata.obs["batch"].cat.codes.to_numpy()
    for adata in mdata.mod.values():
        factors = np.hstack([mdata.obsm["shared"], adata.obsm["private"]])
        shift = adata.varm["batch_shift"].to_numpy()
        expected = adata.var["offset"].to_numpy() + factors @ adata.varm["loadings"].T + shift[:, batch].T
        np.testing.assert_allclose(adata.X, expected, atol=1e-5)
        assert adata.X.dtype == np.float32


def test_factors_give_each_feature_unit_variance_and_noise_adds_its_own():
    silent, noisy = factor_views(5000, noise=0.0), factor_views(5000, noise=2.0)
    assert silent["a"].X.var(0).mean() == pytest.approx(1, abs=0.1)
    assert noisy["a"].X.var(0).mean() == pytest.approx(5, abs=0.2)


@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
def test_counts_have_the_mean_and_variance_of_their_family(likelihood):
    """One factor model, its mean known exactly: standardised residuals have mean 0 and variance 1."""
    noise = {"nb": 0.7, "poisson": 0.0}[likelihood]
    adata = factor_views(4000, likelihood=likelihood, noise=noise, depth=2000.0)["a"]
    shared = factor_views(4000, likelihood=likelihood, noise=noise, depth=2000.0).obsm["shared"]
    eta = np.hstack([shared, adata.obsm["private"]]) @ adata.varm["loadings"].T + adata.var["offset"].to_numpy()
    rate = adata.obs["size_factor"].to_numpy()[:, None] * np.exp(eta)
    rate *= 2000 / np.exp(adata.var["offset"].to_numpy() + 0.5).sum()
    residual = (adata.X.toarray() - rate) / np.sqrt(rate + (noise * rate) ** 2)
    assert residual.mean() == pytest.approx(0, abs=0.01)
    assert residual.var() == pytest.approx(1, abs=0.03)
    assert adata.X.sum(1).mean() == pytest.approx(2000, rel=0.05)


def test_bernoulli_values_are_bits_with_the_planted_logit():
    mdata = factor_views(4000, likelihood="bernoulli")
    adata = mdata["a"]
    assert set(adata.X.data.tolist()) == {1.0}
    eta = np.hstack([mdata.obsm["shared"], adata.obsm["private"]]) @ adata.varm["loadings"].T
    chance = 1 / (1 + np.exp(-eta - adata.var["offset"].to_numpy()))
    residual = (adata.X.toarray() - chance) / np.sqrt(chance * (1 - chance))
    assert residual.mean() == pytest.approx(0, abs=0.01)
    assert residual.var() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "poisson", "bernoulli"])
def test_each_view_tells_shared_and_own_factors_but_not_those_of_others(likelihood):
    mdata = factor_views(3000, likelihood=likelihood)
    a, b = mdata["a"], mdata["b"]
    x = log_rate(a) if likelihood in ("nb", "poisson") else a.X.toarray() if likelihood == "bernoulli" else a.X
    floor = 0.6 if likelihood == "bernoulli" else 0.85
    assert explained(x, mdata.obsm["shared"]) > floor
    assert explained(x, a.obsm["private"]) > floor
    assert explained(x, b.obsm["private"]) < 0.05


@pytest.mark.parametrize("likelihood", ["nb", "poisson", "bernoulli"])
def test_counts_come_as_sparse_rows(likelihood):
    x = factor_views(5000, n_features=(3, 3), likelihood=likelihood)["a"].X  # more rows than are drawn at once
    assert isinstance(x, sp.csr_matrix)
    assert x.shape == (5000, 3)
    assert x.dtype == np.float32
    assert (x.data == np.rint(x.data)).all()
    assert (x.data > 0).all()


def test_clusters_hold_the_asked_share_of_the_shared_variance():
    mdata = factor_views(4000, n_clusters=5, cluster_share=0.7)
    label, z = mdata.obs["label"], mdata.obsm["shared"]
    means = np.vstack([z[label == category].mean(0) for category in label.cat.categories])
    np.testing.assert_allclose(means.var(0), 0.7, atol=0.06)
    np.testing.assert_allclose(z.var(0), 1.0, atol=0.08)
    assert label.value_counts().tolist() == [800] * 5
    assert "label" not in factor_views(10).obs


def test_batches_are_even_and_shift_each_view_on_its_own():
    mdata = factor_views(3000, n_batches=3, batch_effect=2.0)
    assert mdata.obs["batch"].value_counts().tolist() == [1000] * 3
    for adata in mdata.mod.values():
        here = np.column_stack([adata.X[mdata.obs["batch"] == b].mean(0) for b in mdata.obs["batch"].cat.categories])
        shift = adata.varm["batch_shift"].to_numpy()
        np.testing.assert_allclose(here - here.mean(1, keepdims=True), shift, atol=0.25)
        assert shift.std() == pytest.approx(2 * np.sqrt(2 / 3), rel=0.1)  # centred over three batches
    assert not np.allclose(mdata["a"].varm["batch_shift"], mdata["b"].varm["batch_shift"])


def test_settings_may_differ_between_modalities():
    mdata = factor_views(
        200,
        n_features={"x": 10, "y": 20},
        n_private={"x": 0, "y": 3},
        likelihood={"x": "gaussian", "y": "poisson"},
        depth={"x": 1.0, "y": 50.0},
    )
    assert "private" not in mdata["x"].obsm
    assert mdata["y"].obsm["private"].shape == (200, 3)
    assert mdata["y"].X.sum(1).mean() == pytest.approx(50, rel=0.25)


def test_the_seed_decides_and_other_modalities_do_not():
    one, two = factor_views(100, random_state=3), factor_views(100, random_state=3)
    other = factor_views(100, random_state=4)
    more = factor_views(100, n_features={"a": 200, "b": 200, "c": 9}, random_state=3)
    np.testing.assert_array_equal(one["b"].X, two["b"].X)
    np.testing.assert_array_equal(one["b"].X, more["b"].X)
    assert not np.allclose(one["b"].X, other["b"].X)


def test_canonical_correlation_matches_cells():
    mdata = factor_views(1200, likelihood={"a": "gaussian", "b": "gaussian"})
    cca = CCA(10, max_iter=2000).fit(mdata["a"].X[:600], mdata["b"].X[:600])
    u, v = cca.transform(mdata["a"].X[600:], mdata["b"].X[600:])
    distance = ((u[:, None] - v[None]) ** 2).sum(2)
    assert (distance < distance.diagonal()[:, None]).mean() < 0.01  # FOSCTTM


def test_the_result_can_be_written_and_read(tmp_path):
    mdata = factor_views(30, n_features=(5, 4), likelihood="nb", n_batches=2, n_clusters=2)
    with no_pull():
        mdata.write(tmp_path / "views.h5mu")
        again = mudata.read_h5mu(tmp_path / "views.h5mu")
    np.testing.assert_array_equal(again.obsm["shared"], mdata.obsm["shared"])
    assert again.obs["label"].tolist() == mdata.obs["label"].tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_obs": 0}, ValueError, "n_obs"),
        ({"n_features": (5,)}, ValueError, "two modalities"),
        ({"n_features": {"a": 5, "b": 0}}, ValueError, r"n_features\['b'\]"),
        ({"likelihood": "gamma"}, ValueError, "likelihood of modality 'a'.*'nb'.*found 'gamma'"),
        ({"likelihood": {"a": "nb", "z": "nb"}}, KeyError, "'z' not found"),
        ({"noise": {"a": 1.0}}, KeyError, "`noise` by modality: 'b' not found"),
        ({"noise": -1.0}, ValueError, "noise"),
        ({"n_clusters": 1}, ValueError, "n_clusters"),
        ({"cluster_share": 1.5}, ValueError, "cluster_share"),
        ({"n_batches": 0}, ValueError, "n_batches"),
    ],
)
def test_bad_settings_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        factor_views(**{"n_obs": 20} | arguments)
