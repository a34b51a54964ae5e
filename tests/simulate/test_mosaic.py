from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from _factories import STORAGES, make_mosaic, numbers, stamps

from smalti.data import presence
from smalti.simulate import diagonal, drop, indirect, mosaic


def paired(**kwargs):
    return make_mosaic(pattern="paired", **kwargs)


def by_name(mdata, names):
    """Presence of cells, looked up by name; no modality for cells that are gone."""
    table = pd.DataFrame(presence(mdata), index=mdata.obs_names)
    return table.reindex(names, fill_value=False).to_numpy()


def counts_of_patterns(mdata):
    rows, n = np.unique(presence(mdata), axis=0, return_counts=True)
    return {"".join(np.array(list(mdata.mod))[row]): int(k) for row, k in zip(rows, n, strict=True)}


@pytest.mark.parametrize("pattern", ["paired", "every"])
def test_drop_leaves_presence_and_pattern(rng, pattern):
    mdata = make_mosaic(pattern=pattern)
    keep = rng.random((mdata.n_obs, 3)) < 0.6
    expected = presence(mdata) & keep
    dropped = drop(mdata, keep)
    np.testing.assert_array_equal(by_name(dropped, mdata.obs_names), expected)
    assert dropped.n_obs == expected.any(1).sum()


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_kept_keeps_its_values(rng, storage):
    mdata = paired(stamp=True, storage=storage)
    before = {name: adata.X.copy() for name, adata in mdata.mod.items()}
    dropped = drop(mdata, rng.random((mdata.n_obs, 3)) < 0.5)
    for name, adata in dropped.mod.items():
        np.testing.assert_array_equal(stamps(adata.X), numbers(adata.obs_names))
        assert type(adata.X) is type(before[name])
        assert adata.X.dtype == before[name].dtype


def test_what_is_known_of_a_cell_stays_with_it(rng):
    mdata = paired()
    mdata.obsm["table"] = pd.DataFrame({"n": numbers(mdata.obs_names)}, index=mdata.obs_names)
    mdata.obsp["graph"] = sp.csr_matrix(np.diag(numbers(mdata.obs_names)))
    mdata.uns["note"] = {"inner": 1}
    mdata.uns["_scvi_uuid"], mdata.obs["_scvi_batch"] = "x", 0
    dropped = drop(mdata, rng.random((mdata.n_obs, 3)) < 0.4)
    where = mdata.obs_names.get_indexer(dropped.obs_names)
    assert not np.array_equal(where, np.sort(where))  # MuData really changed the order
    np.testing.assert_array_equal(dropped.obsm["shared"], mdata.obsm["shared"][where])
    assert dropped.obs["label"].tolist() == mdata.obs["label"].iloc[where].tolist()
    assert dropped.obs["batch"].dtype == "category"
    np.testing.assert_array_equal(dropped.obsm["table"]["n"], where)
    np.testing.assert_array_equal(dropped.obsp["graph"].diagonal(), where)
    assert dropped.uns["note"] == {"inner": 1}
    assert dropped.uns["note"] is not mdata.uns["note"]
    assert "_scvi_uuid" not in dropped.uns
    assert "_scvi_batch" not in dropped.obs


def test_the_given_mudata_stays_as_it_was(rng):
    mdata, twin = paired(), paired()
    dropped = drop(mdata, rng.random((mdata.n_obs, 3)) < 0.5)
    dropped["a"].X.data[:] = 0
    assert presence(mdata).all()
    pd.testing.assert_frame_equal(mdata.obs, twin.obs)
    np.testing.assert_array_equal(mdata["a"].X.toarray(), twin["a"].X.toarray())


def test_a_pattern_can_be_a_table_with_named_columns(rng):
    mdata = paired()
    keep = rng.random((mdata.n_obs, 3)) < 0.5
    table = pd.DataFrame(keep[:, ::-1], columns=["c", "b", "a"])
    np.testing.assert_array_equal(presence(drop(mdata, table)), presence(drop(mdata, keep)))


def test_drop_refuses_patterns_that_do_not_fit():
    mdata = paired(n_obs=10)
    with pytest.raises(ValueError, match=r"boolean of shape \(10, 3\).*found bool of shape \(10, 2\)"):
        drop(mdata, np.ones((10, 2), dtype=bool))
    with pytest.raises(ValueError, match="found int64"):
        drop(mdata, np.ones((10, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="no cell of modality 'b'"):
        drop(mdata, np.array([[True, False, True]] * 10))
    with pytest.raises(KeyError, match="'c' not found"):
        drop(mdata, pd.DataFrame(np.ones((10, 2), dtype=bool), columns=["a", "b"]))


def test_the_asked_fraction_stays_paired_and_the_rest_is_dealt_evenly():
    assert counts_of_patterns(mosaic(paired(n_obs=100), paired=0.4)) == {"abc": 40, "a": 20, "b": 20, "c": 20}


def test_all_or_none_can_stay_paired():
    assert counts_of_patterns(mosaic(paired(n_obs=12), paired=1.0)) == {"abc": 12}
    assert counts_of_patterns(mosaic(paired(n_obs=12), paired=0.0)) == {"a": 4, "b": 4, "c": 4}


def test_patterns_and_proportions_of_the_rest_can_be_chosen():
    masked = mosaic(paired(n_obs=100), paired=0.2, patterns={"a": 5, ("c", "b"): 3, "b": 0, "c": 2})
    assert counts_of_patterns(masked) == {"abc": 20, "a": 40, "bc": 24, "c": 16}


def test_fewer_pairs_are_among_more_and_unpaired_cells_keep_what_they_have():
    mdata = paired(n_obs=100)
    few, many = (by_name(mosaic(mdata, paired=p, random_state=5), mdata.obs_names) for p in (0.2, 0.6))
    assert (many.all(1) | ~few.all(1)).all()
    unpaired = ~many.all(1)
    np.testing.assert_array_equal(few[unpaired], many[unpaired])


def test_cells_that_were_incomplete_stay_as_they_are():
    mdata = make_mosaic(pattern="every")
    before = presence(mdata)
    after = by_name(mosaic(mdata, paired=0.5), mdata.obs_names)
    complete = before.all(1)
    np.testing.assert_array_equal(after[~complete], before[~complete])
    assert after[complete].all(1).mean() == pytest.approx(0.5)


def test_diagonal_leaves_each_cell_one_modality_that_it_had():
    mdata = make_mosaic(pattern="every")
    before, after = presence(mdata), by_name(diagonal(mdata), mdata.obs_names)
    assert (after.sum(1) == 1).all()
    assert (before | ~after).all()


def test_diagonal_keeps_to_proportions():
    assert counts_of_patterns(diagonal(paired(n_obs=100))) == {"a": 34, "b": 33, "c": 33}
    masked = diagonal(paired(n_obs=100), proportions={"a": 6, "b": 3, "c": 1})
    assert counts_of_patterns(masked) == {"a": 60, "b": 30, "c": 10}


def test_diagonal_refuses_proportions_that_leave_a_cell_nothing():
    with pytest.raises(ValueError, match="proportions of 'c'"):
        diagonal(make_mosaic(pattern="every"), proportions={"a": 1, "b": 1})


def test_indirect_pairs_neighbours_only():
    assert counts_of_patterns(indirect(paired(n_obs=50))) == {"ab": 25, "bc": 25}
    assert counts_of_patterns(indirect(paired(n_obs=50), chain=["b", "a", "c"])) == {"ab": 25, "ac": 25}
    assert counts_of_patterns(indirect(paired(n_obs=50), proportions=(4, 1))) == {"ab": 40, "bc": 10}


def test_indirect_needs_three_modalities_and_complete_cells():
    with pytest.raises(ValueError, match="at least three modalities, found 2"):
        indirect(paired(n_features={"a": 5, "b": 5}))
    with pytest.raises(ValueError, match="are not"):
        indirect(make_mosaic(pattern="every"))
    with pytest.raises(KeyError, match="'c' not found"):
        indirect(paired(), chain=["a", "b"])
    with pytest.raises(ValueError, match="not unique"):
        indirect(paired(), chain=["a", "b", "c", "a"])
    with pytest.raises(ValueError, match="Expected 2 numbers"):
        indirect(paired(), proportions=(1, 1, 1))


@pytest.mark.parametrize("mask", [mosaic, diagonal, indirect])
def test_the_seed_decides(mask):
    mdata = paired()
    one, two, other = (by_name(mask(mdata, random_state=seed), mdata.obs_names) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paired": 1.2}, ValueError, "paired"),
        ({"patterns": {"z": 1}}, KeyError, "'z' not found"),
        ({"patterns": {"a": -1}}, ValueError, "numbers >= 0"),
        ({"patterns": {"a": 0}}, ValueError, "not all zero"),
    ],
)
def test_bad_masks_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        mosaic(paired(), **arguments)
