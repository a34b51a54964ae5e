from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic
from scipy.stats import false_discovery_control, mannwhitneyu

import smalti as sm


@pytest.fixture
def mdata():
    """A mosaic in which the second feature of every modality marks the first label."""
    mdata = make_mosaic(pattern="every", n_obs=210)
    marked = mdata.obs["label"] == "label_0"
    for adata in mdata.mod.values():
        here = marked[adata.obs_names].to_numpy()
        x = adata.X.tolil() if hasattr(adata.X, "tolil") else adata.X
        x[np.flatnonzero(here), 1] = 60
        adata.X = x.tocsr() if hasattr(x, "tocsr") else x
    return mdata


def test_a_planted_marker_comes_first_in_every_modality(mdata) -> None:
    table = sm.tl.rank_features(mdata, "label", n=1)
    best = table[table["group"] == "label_0"].set_index("modality")["feature"]
    assert best.to_dict() == {name: adata.var_names[1] for name, adata in mdata.mod.items()}
    assert (table["score"] > 0).all()


def test_scores_are_those_of_a_rank_sum_test_of_the_cells_that_were_measured(mdata) -> None:
    table = sm.tl.rank_features(mdata, "label", modalities=["c"])
    group = mdata.obs["label"][mdata["c"].obs_names] == "label_1"
    x = mdata["c"].X
    p = np.array([mannwhitneyu(c[group], c[~group], use_continuity=False).pvalue for c in x.T])
    own = table[table["group"] == "label_1"].set_index("feature").loc[mdata["c"].var_names]
    np.testing.assert_allclose(own["pval"].iloc[2:], p[2:], rtol=1e-3)  # without ties
    np.testing.assert_allclose(own["pval_adj"], false_discovery_control(own["pval"]), rtol=1e-6)
    np.testing.assert_allclose(own["difference"], x[group].mean(0) - x[~group].mean(0), rtol=1e-4, atol=1e-6)


def test_a_group_that_a_modality_lacks_is_left_out_of_it(mdata) -> None:
    mdata.obs["where"] = np.where(sm.data.presence(mdata, ["a"]).ravel(), "has a", "has no a")
    mdata.obs.loc[mdata["a"].obs_names[:40], "where"] = "other"
    table = sm.tl.rank_features(mdata, "where", n=2)
    assert set(table.loc[table["modality"] == "a", "group"]) == {"has a", "other"}
    mdata.obs["one"] = "all"
    with pytest.raises(ValueError, match="two groups of at least 3 cells"):
        sm.tl.rank_features(mdata, "one")


def test_nothing_is_written(mdata) -> None:
    before = {name: (set(adata.uns), set(adata.layers), set(adata.obs)) for name, adata in mdata.mod.items()}
    sm.tl.rank_features(mdata, "label", n=1)
    assert {name: (set(adata.uns), set(adata.layers), set(adata.obs)) for name, adata in mdata.mod.items()} == before
