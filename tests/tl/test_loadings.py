from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic
from sklearn.linear_model import LinearRegression

import smalti as sm


@pytest.fixture
def mdata():
    mdata = make_mosaic(pattern="every", n_obs=140)
    mdata.obsm["X_z"] = np.random.default_rng(0).standard_normal((140, 3))
    return mdata


def test_loadings_are_correlations_over_the_cells_that_have_the_modality(mdata) -> None:
    found = sm.tl.get_loadings(mdata, "z")
    z = mdata.obsm["X_z"][mdata.obs_names.get_indexer(mdata["c"].obs_names)]
    expected = np.corrcoef(mdata["c"].X, z, rowvar=False)[: mdata["c"].n_vars, mdata["c"].n_vars :]
    np.testing.assert_allclose(found.loadings["c"], expected, atol=1e-6)
    assert list(found.loadings["c"].columns) == ["z_0", "z_1", "z_2"]


def test_variance_explained_is_that_of_a_regression_on_all_axes(mdata) -> None:
    found = sm.tl.get_loadings(mdata, "X_z").variance_explained
    z = mdata.obsm["X_z"][mdata.obs_names.get_indexer(mdata["c"].obs_names)]
    x = mdata["c"].X
    residual = x - LinearRegression().fit(z, x).predict(z)
    assert found.loc["c", "all"] == pytest.approx(1 - residual.var(0).sum() / x.var(0).sum(), rel=1e-5)
    one = x - LinearRegression().fit(z[:, :1], x).predict(z[:, :1])
    assert found.loc["c", "z_0"] == pytest.approx(1 - one.var(0).sum() / x.var(0).sum(), rel=1e-4)


def test_an_axis_that_is_a_feature_is_found_and_an_axis_that_repeats_explains_nothing_more(mdata) -> None:
    column = np.zeros(140)
    column[mdata.obs_names.get_indexer(mdata["c"].obs_names)] = mdata["c"].X[:, 4]
    mdata.obsm["X_z"][:, 0] = column
    found = sm.tl.get_loadings(mdata, "z", modalities=["c"])
    assert found.top(0, 1)["feature"].tolist() == [mdata["c"].var_names[4]]
    mdata.obsm["X_twice"] = np.column_stack([mdata.obsm["X_z"], mdata.obsm["X_z"][:, 0]])
    twice = sm.tl.get_loadings(mdata, "twice", modalities=["c"])
    assert twice.variance_explained["all"].item() == pytest.approx(found.variance_explained["all"].item())


def test_too_few_cells_are_refused(mdata) -> None:
    mdata.obsm["X_wide"] = np.random.default_rng(0).standard_normal((140, 200))
    with pytest.raises(ValueError, match="Expected at least 202 cells of modality 'a'"):
        sm.tl.get_loadings(mdata, "wide")
