from __future__ import annotations

import numpy as np
import pytest

from smalti.benchmark import mosaic_split, pooled_scores
from smalti.benchmark._split import batch_split, bridge_split, paired_split
from smalti.data import presence


def test_the_mosaic_has_every_profile_once_and_no_hidden_pair(small):
    roles = mosaic_split(small)
    mdata = small.training_mudata(roles)
    kept = {m: np.isin(roles, ("test", "paired", m)) for m in small.modalities}
    assert {m: mod.n_obs for m, mod in mdata.mod.items()} == {m: here.sum() for m, here in kept.items()}
    row, profile = mdata.obs["row"].to_numpy(), mdata.obs["profile"].to_numpy()
    assert (profile == "both").sum() == (roles == "paired").sum()
    assert (presence(mdata).all(axis=1) == (profile == "both")).all()
    for name, mod in mdata.mod.items():
        cells = mdata.obs.loc[mod.obs_names, "row"].to_numpy()
        assert (mod.X != small.counts[name][cells]).nnz == 0
    assert (mdata.obs["batch"].to_numpy() == small.batch[row]).all()
    assert "label" not in mdata.obs


def test_scatter_brings_every_latent_back_to_its_cell(small):
    roles = mosaic_split(small, 1)
    mdata = small.training_mudata(roles)
    row = mdata.obs["row"].to_numpy()
    z = small.scatter(mdata, np.column_stack([row, np.arange(mdata.n_obs)]))
    for name in small.modalities:
        here = np.isin(roles, ("test", "paired", name))
        assert (z[name][here, 0] == np.flatnonzero(here)).all()
        assert np.isnan(z[name][~here]).all()
    test = roles == "test"
    assert (z["one"][test, 1] != z["two"][test, 1]).all()
    assert (z["one"][roles == "paired"] == z["both"][roles == "paired"]).all()


def test_splits_have_their_shares(small):
    complete, roles = small.complete, mosaic_split(small, 3)
    assert (roles[~complete] == "one").all()
    counts = {role: int((roles[complete] == role).sum()) for role in ("test", "paired", "one", "two")}
    assert counts == {"test": 48, "paired": 96, "one": 48, "two": 48}
    bridge = bridge_split(small, 0)
    assert ((bridge == "test").sum(), (bridge == "paired").sum()) == (48, 192)
    assert (paired_split(small, 0) == "paired").all()


def test_splits_differ_by_seed_and_only_by_it(small):
    assert (mosaic_split(small, 0) == mosaic_split(small, 0)).all()
    assert (mosaic_split(small, 0) != mosaic_split(small, 1)).any()


@pytest.mark.parametrize(("seed", "hidden"), [(0, "y"), (1, "x"), (2, "y")])
def test_a_hidden_batch_has_no_pair_and_the_others_keep_all(small, seed, hidden):
    roles, complete = batch_split(small, seed), small.complete
    assert (roles[complete & (small.batch == hidden)] == "test").all()
    assert (roles[complete & (small.batch != hidden)] == "paired").all()


def test_a_subset_keeps_rows_together(small):
    part = small.subset(np.arange(300) % 2 == 0)
    assert part.n_cells == 150
    assert (part.counts["two"] != small.counts["two"][::2]).nnz == 0
    assert (part.measured["two"] == small.measured["two"][::2]).all()


def test_pooled_scores_of_a_perfect_and_of_a_blind_embedding(small, rng):
    roles = mosaic_split(small)
    truth = rng.normal(size=(300, 6)) + 5 * (small.labels == "B")[:, None]
    good = pooled_scores(small, roles, dict.fromkeys(small.modalities, truth), leiden=False)
    assert good["foscttm"] == 0
    assert good["lt_1to2"] == good["lt_2to1"] > 0.9
    blind = {m: rng.normal(size=(300, 6)) for m in small.modalities}
    assert pooled_scores(small, roles, blind, leiden=False)["foscttm"] == pytest.approx(0.5, abs=0.1)
    blind["two"][roles == "test"] = np.nan
    with pytest.raises(ValueError, match="`y` to be finite"):
        pooled_scores(small, roles, blind)
