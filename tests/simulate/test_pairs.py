from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic, numbers, stamps
from scipy.stats import spearmanr
from sklearn.cross_decomposition import CCA

from smalti._mudata import build_mudata
from smalti.data import presence
from smalti.simulate import drop, factor_views, hidden_pairs, hide_pairs, mosaic, shuffle_pairs


def test_split_cells_become_one_observation_per_modality():
    mdata = make_mosaic(pattern="paired", n_obs=50)
    split = hide_pairs(mdata, 0.2)
    hidden = split.obs["hidden"].to_numpy()
    assert split.n_obs == 40 + 3 * 10
    assert hidden.sum() == 30
    assert (presence(split)[hidden].sum(1) == 1).all()
    assert presence(split)[~hidden].all()
    names = split.obs["cell"][hidden] + "_" + np.array(["a", "b", "c"])[presence(split)[hidden].argmax(1)]
    assert names.tolist() == split.obs_names[hidden].tolist()
    assert split.obs["cell"][~hidden].tolist() == split.obs_names[~hidden].tolist()


def test_the_hidden_cells_are_the_start_of_one_permutation_of_paired_cells():
    mdata = make_mosaic(pattern="every")
    several = np.flatnonzero(presence(mdata).sum(1) > 1)
    expected = np.random.default_rng(7).permutation(several)[: round(0.3 * len(several))]
    split = hide_pairs(mdata, 0.3, random_state=7)
    assert set(split.obs["cell"][split.obs["hidden"]]) == set(mdata.obs_names[expected])


def test_parts_keep_values_and_what_is_known_of_the_cell():
    mdata = make_mosaic(pattern="every", stamp=True)
    split = hide_pairs(mdata, 0.5)
    for adata in split.mod.values():
        np.testing.assert_array_equal(stamps(adata.X), numbers(adata.obs_names))
    where = mdata.obs_names.get_indexer(split.obs["cell"])
    np.testing.assert_array_equal(split.obsm["shared"], mdata.obsm["shared"][where])
    assert split.obs["label"].tolist() == mdata.obs["label"].iloc[where].tolist()


def test_hidden_pairs_point_to_the_parts_of_the_same_cell():
    split = hide_pairs(make_mosaic(pattern="every"), 0.6)
    masked = mosaic(split, paired=0.5)
    for first, second in (("a", "b"), ("c", "a")):
        rows, others = hidden_pairs(masked, first, second)
        assert len(rows) > 0
        cell = masked.obs["cell"].to_numpy()
        assert cell[rows].tolist() == cell[others].tolist()
        assert presence(masked, [first])[rows].all()
        assert presence(masked, [second])[others].all()
        hidden = masked.obs[masked.obs["hidden"]].groupby("cell").groups.values()
        both = [{f"_{first}", f"_{second}"} <= {name[-2:] for name in names} for names in hidden]
        assert len(rows) == sum(both)


def test_hidden_pairs_survive_the_loss_of_a_part():
    split = hide_pairs(make_mosaic(pattern="paired", n_obs=20), 0.5)
    rows, _ = hidden_pairs(split, "a", "b")
    keep = np.ones((split.n_obs, 3), dtype=bool)
    keep[rows[0]] = False
    assert len(hidden_pairs(drop(split, keep), "a", "b")[0]) == len(rows) - 1


def test_a_second_call_splits_further_cells_and_keeps_the_truth():
    mdata = make_mosaic(pattern="paired", n_obs=40)
    twice = hide_pairs(hide_pairs(mdata, 0.25), 0.5, random_state=1)
    assert len(hidden_pairs(twice, "a", "b")[0]) == 10 + 15
    assert set(twice.obs["cell"]) == set(mdata.obs_names)


def test_hiding_refuses_what_cannot_be_split():
    with pytest.raises(ValueError, match="no pair to hide"):
        hide_pairs(make_mosaic(pattern="diagonal"))
    with pytest.raises(ValueError, match="fraction"):
        hide_pairs(make_mosaic(), 1.1)
    mdata = make_mosaic(pattern="paired", n_obs=4)
    clash = {name: adata.copy() for name, adata in mdata.mod.items()}
    for adata in clash.values():
        adata.obs_names = ["x", "x_a", "y", "z"]
    with pytest.raises(ValueError, match="'x_a' exist already"):
        hide_pairs(build_mudata(clash), 1.0)
    with pytest.raises(KeyError, match="hide_pairs"):
        hidden_pairs(mdata, "a", "b")


def test_shuffling_moves_whole_profiles_and_nobody_keeps_its_own():
    mdata = make_mosaic(pattern="paired", stamp=True)
    shuffled = shuffle_pairs(mdata, "b")
    taken = numbers(pd.Index(shuffled["b"].obs["cell"]))
    np.testing.assert_array_equal(stamps(shuffled["b"].X), taken)
    np.testing.assert_array_equal(shuffled["b"].obsm["private"], mdata["b"].obsm["private"][taken])
    assert (taken != numbers(shuffled["b"].obs_names)).all()
    assert sorted(taken) == list(range(mdata.n_obs))
    np.testing.assert_array_equal(stamps(shuffled["a"].X), numbers(shuffled["a"].obs_names))
    assert shuffled.obs_names.tolist() == mdata.obs_names.tolist()
    np.testing.assert_array_equal(shuffled.obsm["shared"], mdata.obsm["shared"])


def test_shuffling_leaves_presence_and_unpaired_cells():
    mdata = make_mosaic(pattern="every", stamp=True)
    shuffled = shuffle_pairs(mdata, "b")
    assert shuffled.obs_names.tolist() == mdata.obs_names.tolist()
    np.testing.assert_array_equal(presence(shuffled), presence(mdata))
    alone = mdata.obs_names[presence(mdata, ["b"])[:, 0] & (presence(mdata).sum(1) == 1)]
    own = shuffled["b"].obs["cell"].to_numpy() == shuffled["b"].obs_names.to_numpy()
    assert set(shuffled["b"].obs_names[own]) == set(alone)


def test_shuffling_within_batches_stays_within():
    mdata = make_mosaic(pattern="every", n_batches=3)
    shuffled = shuffle_pairs(mdata, "c", within="batch")
    adata = shuffled["c"]
    batch = mdata.obs["batch"]
    assert batch[adata.obs["cell"]].tolist() == batch[adata.obs_names].tolist()
    moved = adata.obs["cell"].to_numpy() != adata.obs_names.to_numpy()
    paired = (presence(mdata).sum(1) > 1)[mdata.obs_names.get_indexer(adata.obs_names)]
    np.testing.assert_array_equal(moved, paired)


def test_shuffling_removes_what_canonical_correlation_finds():
    mdata = factor_views(800, n_features=(40, 40), n_shared=3, noise=0.5)

    def held_out_correlation(mdata):
        a, b = mdata["a"].X, mdata["b"].X
        u, v = CCA(1).fit(a[:400], b[:400]).transform(a[400:], b[400:])
        return abs(spearmanr(u[:, 0], v[:, 0]).statistic)

    assert held_out_correlation(mdata) > 0.8
    assert held_out_correlation(shuffle_pairs(mdata, "b")) < 0.2


def test_shuffling_needs_pairs_and_a_known_column():
    with pytest.raises(ValueError, match="two paired cells in modality 'a', found 0"):
        shuffle_pairs(make_mosaic(pattern="diagonal"), "a")
    with pytest.raises(KeyError, match="'z' not found"):
        shuffle_pairs(make_mosaic(), "z")
    with pytest.raises(KeyError, match="'site' not found"):
        shuffle_pairs(make_mosaic(), "a", within="site")


@pytest.mark.parametrize(
    "act", [lambda m, s: hide_pairs(m, random_state=s), lambda m, s: shuffle_pairs(m, "a", random_state=s)]
)
def test_the_seed_decides(act):
    mdata = make_mosaic(pattern="paired")
    one, two, other = (act(mdata, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["a"].X.toarray(), two["a"].X.toarray())
    assert one.obs_names.tolist() == two.obs_names.tolist()
    assert one.obs_names.tolist() != other.obs_names.tolist() or (one["a"].X != other["a"].X).nnz
