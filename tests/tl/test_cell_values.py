from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.data import row_maps


@pytest.fixture
def mdata():
    mdata = make_mosaic(pattern="every", n_obs=105)
    mdata.obs["score"] = np.arange(105.0)
    return mdata


def test_a_column_is_returned_as_it_is(mdata) -> None:
    pd.testing.assert_series_equal(sm.tl.cell_values(mdata, "batch"), mdata.obs["batch"])


@pytest.mark.parametrize("storage", ["csr", "csc", "dense"])
def test_a_feature_is_read_at_every_cell_and_missing_where_not_measured(storage: str) -> None:
    mdata = make_mosaic(pattern="every", n_obs=105, storage=storage)
    feature = mdata["a"].var_names[3]
    values = sm.tl.cell_values(mdata, f"a:{feature}", log=False)
    rows = row_maps(mdata, ["a"])["a"]
    assert values.isna().to_numpy().tolist() == (rows < 0).tolist()
    own = values[mdata["a"].obs_names].to_numpy()
    x = mdata["a"].X
    np.testing.assert_array_equal(own, np.asarray(x.todense() if hasattr(x, "todense") else x)[:, 3])


def test_counts_are_shown_as_logs_per_median_cell_and_reals_as_they_are(mdata) -> None:
    x = mdata["a"].X.toarray()
    total = x.sum(axis=1)
    expected = np.log1p(x[:, 0] / total * np.median(total))
    found = sm.tl.cell_values(mdata, f"a:{mdata['a'].var_names[0]}")
    np.testing.assert_allclose(found[mdata["a"].obs_names], expected, rtol=1e-6)
    assert "median" in found.attrs["scale"]
    real = sm.tl.cell_values(mdata, f"c:{mdata['c'].var_names[0]}")
    np.testing.assert_allclose(real[mdata["c"].obs_names], mdata["c"].X[:, 0], rtol=1e-6)


def test_a_feature_of_one_modality_needs_no_prefix_and_one_of_two_does(mdata) -> None:
    name = mdata["a"].var_names[0]
    pd.testing.assert_series_equal(
        sm.tl.cell_values(mdata, name), sm.tl.cell_values(mdata, f"a:{name}"), check_names=False
    )
    both = sm.simulate.factor_views(30, n_features={"a": 5, "b": 5})
    for adata in both.mod.values():
        adata.var_names = [f"g{i}" for i in range(5)]
    with pytest.raises(KeyError, match=r"is in modalities 'a', 'b': say which"):
        sm.tl.cell_values(both, "g0")


def test_layers_and_predictions_are_found(mdata) -> None:
    name = mdata["a"].var_names[0]
    mdata["a"].layers["twice"] = mdata["a"].X * 2
    twice = sm.tl.cell_values(mdata, f"a:{name}", layer="twice", log=False)
    np.testing.assert_allclose(twice, 2 * sm.tl.cell_values(mdata, f"a:{name}", log=False))
    mdata.obsm["predicted_a"] = pd.DataFrame({name: np.arange(105.0)}, index=mdata.obs_names)
    found = sm.tl.cell_values(mdata, f"predicted a:{name}")
    np.testing.assert_allclose(found, np.log1p(np.arange(105.0)))
    with pytest.raises(KeyError, match="has no column 'x'"):
        sm.tl.cell_values(mdata, "predicted a:x")


def test_an_unknown_name_says_what_is_near(mdata) -> None:
    name = str(mdata["a"].var_names[0])
    with pytest.raises(KeyError, match=f"did you mean '{name}'"):
        sm.tl.cell_values(mdata, name.upper())
    with pytest.raises(KeyError, match="Modality 'a' has no feature"):
        sm.tl.cell_values(mdata, "a:nothing")


def test_keys_are_found_with_and_without_their_prefix(mdata) -> None:
    mdata.obsm["X_clue"], mdata.obsm["plain"] = np.zeros((105, 2)), np.zeros((105, 2))
    assert sm.tl.find_key(mdata, "clue") == sm.tl.find_key(mdata, "X_clue") == "X_clue"
    assert sm.tl.find_key(mdata, "X_plain") == "plain"
    with pytest.raises(KeyError, match="'other' not found"):
        sm.tl.find_key(mdata, "other")
    with pytest.raises(KeyError, match="'a' not found"):  # mudata's own mask of the modality is no latent
        sm.tl.find_key(mdata, "a")
