from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from _factories import PATTERNS, make_mosaic
from mudata import MuData, read_h5mu

from smalti._errors import MosaicAlignmentError
from smalti._mudata import build_mudata, no_pull
from smalti.data import linked_groups, linked_pairs, presence, row_maps, shared_cells


def assert_maps_point_at_names(mdata):
    for name, rows in row_maps(mdata).items():
        here = rows >= 0
        np.testing.assert_array_equal(mdata.obs_names[here], mdata[name].obs_names[rows[here]])
        assert set(mdata.obs_names[~here]).isdisjoint(mdata[name].obs_names)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_maps_point_at_the_cell_of_the_same_name(pattern):
    assert_maps_point_at_names(make_mosaic(pattern=pattern))


def test_presence_is_membership_of_names_and_columns_follow_the_request():
    mdata = make_mosaic()
    expected = np.column_stack([mdata.obs_names.isin(mdata[name].obs_names) for name in ("c", "a")])
    np.testing.assert_array_equal(presence(mdata, ["c", "a"]), expected)


def test_absent_is_minus_one_although_the_map_is_unsigned():
    mdata = make_mosaic(pattern="diagonal")
    assert mdata.obsmap["a"].dtype.kind == "u"
    rows = row_maps(mdata, ["a"])["a"]
    assert rows.dtype == np.int64
    assert rows.min() == -1
    np.testing.assert_array_equal(np.sort(rows[rows >= 0]), np.arange(mdata["a"].n_obs))


def test_a_cell_measured_as_all_zero_is_present():
    mdata = make_mosaic(empty=("a",))
    first = mdata["a"].obs_names[0]
    assert mdata["a"][first].X.sum() == 0
    assert presence(mdata, ["a"])[mdata.obs_names.get_loc(first), 0]


def test_modalities_in_other_orders_of_cells_are_mapped_by_name(rng):
    mdata = make_mosaic(pattern="paired")
    shuffled = build_mudata({name: adata[rng.permutation(adata.n_obs)].copy() for name, adata in mdata.mod.items()})
    assert not (row_maps(shuffled)["b"] == np.arange(shuffled.n_obs)).all()
    assert_maps_point_at_names(shuffled)


@pytest.mark.parametrize("n", [1, 30])
def test_maps_of_views_and_copies_are_their_own(rng, n):
    mdata = make_mosaic()
    chosen = rng.choice(mdata.n_obs, n, replace=False)
    view = mdata[chosen]
    assert_maps_point_at_names(view)
    with no_pull():
        assert_maps_point_at_names(view.copy())


def test_maps_survive_a_file(tmp_path):
    mdata = make_mosaic()
    with no_pull():
        mdata.write(tmp_path / "m.h5mu")
        again = read_h5mu(tmp_path / "m.h5mu")
    for name, rows in row_maps(again).items():
        np.testing.assert_array_equal(rows, row_maps(mdata)[name])


def shorter(mdata):
    mdata.mod["a"] = mdata["a"][:-5].copy()


def reordered(mdata):
    mdata.mod["a"] = mdata["a"][::-1].copy()


def renamed(mdata):
    mdata["a"].obs_names = [f"other_{i}" for i in range(mdata["a"].n_obs)]


def filtered_in_place(mdata):
    sc.pp.filter_cells(mdata["a"], min_counts=int(np.median(np.asarray(mdata["a"].X.sum(axis=1)))))


def longer(mdata):
    extra = mdata["a"][:3].copy()
    extra.obs_names = [f"new_{i}" for i in range(3)]
    mdata.mod["a"] = ad.concat([mdata["a"], extra])


@pytest.mark.parametrize("change", [shorter, reordered, renamed, filtered_in_place, longer])
def test_a_map_that_went_stale_is_refused_with_a_remedy_that_works(change):
    mdata = make_mosaic()
    change(mdata)
    for ask in (row_maps, presence):
        with pytest.raises(MosaicAlignmentError, match=r"'a' has \d+ cells.*mdata.update\(\)"):
            ask(mdata)
    np.testing.assert_array_equal(presence(mdata, ["b"]).sum(), mdata["b"].n_obs)
    with no_pull():
        if change is renamed:
            mdata = MuData(mdata.mod)
        else:
            mdata.update()
    assert_maps_point_at_names(mdata)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_repeated_cell_names_are_refused_by_name():
    names = pd.Index(["x", "y", "y"])
    one = ad.AnnData(sp.csr_matrix(np.ones((3, 2), np.float32)), obs=pd.DataFrame(index=names))
    two = ad.AnnData(np.ones((3, 2), np.float32), obs=pd.DataFrame(index=["x", "y", "z"]))
    with no_pull():
        mdata = MuData({"one": one, "two": two})
    with pytest.raises(MosaicAlignmentError, match=r"'one' has repeated cell names \('y'\).*obs_names_make_unique"):
        presence(mdata)


def test_an_unknown_modality_is_refused_with_those_that_exist():
    with pytest.raises(KeyError, match="'rna' not found; available: 'a', 'b', 'c'"):
        row_maps(make_mosaic(), ["a", "rna"])


def cells(*rows, n=2):
    """Return presence with ``n`` cells of every row."""
    return np.repeat(np.array(rows, dtype=bool), n, axis=0)


def test_a_chain_of_shared_cells_links_and_one_shared_cell_does_not():
    chain = cells((1, 1, 0), (0, 1, 1))
    assert linked_groups(chain) == [[0, 1, 2]]
    assert linked_pairs(chain) == [(0, 1), (1, 2)]
    weak = np.concatenate([cells((1, 1, 0)), cells((0, 1, 1), n=1)])
    assert linked_groups(weak) == [[0, 1], [2]]
    assert linked_groups(weak, least=1) == [[0, 1, 2]]
    assert linked_pairs(weak) == [(0, 1)]


def test_the_largest_group_comes_first_then_that_with_most_pairs_then_the_leftmost():
    two = cells((1, 1, 0, 0, 0, 0), (0, 0, 1, 1, 0, 0), (0, 0, 1, 1, 0, 0), (0, 0, 0, 0, 1, 1))
    assert linked_groups(two) == [[2, 3], [0, 1], [4, 5]]
    assert linked_groups(cells((1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1))) == [[1, 2, 3], [0]]
    assert linked_groups(np.eye(3, dtype=bool)) == [[0], [1], [2]]
    assert linked_groups(np.zeros((4, 0), dtype=bool)) == []


def test_groups_are_those_that_brute_force_finds_whatever_the_order_of_cells_and_modalities():
    rng = np.random.default_rng(0)
    for _ in range(30):
        here = rng.random((12, 5)) < 0.25
        both = {(i, j) for i in range(5) for j in range(5) if (here[:, i] & here[:, j]).sum() >= 2 or i == j}
        for k in range(5):  # transitive closure, Warshall
            both |= {(i, j) for i in range(5) for j in range(5) if (i, k) in both and (k, j) in both}
        expected = {frozenset(j for j in range(5) if (i, j) in both) for i in range(5)}
        assert {frozenset(group) for group in linked_groups(here)} == expected
        order = rng.permutation(5)
        moved = linked_groups(here[rng.permutation(12)][:, order])
        assert {frozenset(int(order[i]) for i in group) for group in moved} == expected
        np.testing.assert_array_equal(shared_cells(here), here.T.astype(int) @ here.astype(int))
