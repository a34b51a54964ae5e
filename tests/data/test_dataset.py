from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from _factories import PATTERNS, STORAGES, make_mosaic, numbers

from smalti.data import Modality, presence, to_device
from smalti.nn import SparseRows

COUNTS = dict.fromkeys("abc", "nb")


def first_feature(block):
    """Value of the first feature of every row of a minibatch block."""
    if not isinstance(block, SparseRows):
        return block[:, 0].numpy()
    out = np.zeros(block.n_rows)
    first = block.indices.numpy() == 0
    out[block.row_index().numpy()[first]] = block.values.numpy()[first]
    return out


def dense(block, n_features):
    if not isinstance(block, SparseRows):
        return block.numpy()
    csr = (block.values.numpy(), block.indices.numpy(), block.indptr.numpy())
    return sp.csr_matrix(csr, shape=(block.n_rows, n_features)).toarray()


def assert_rows_match_names(mdata, dataset, cells):
    """Every row of a minibatch, in every modality, is that of the cell at the position it claims."""
    batch = dataset[cells]
    expected = numbers(mdata.obs_names)[cells]
    np.testing.assert_array_equal(batch["index"], cells)
    np.testing.assert_array_equal(batch["present"], presence(mdata)[cells])
    for column, name in enumerate(mdata.mod):
        here = batch["present"][:, column].numpy()
        found = np.rint(first_feature(batch["values"][name])).astype(int)
        np.testing.assert_array_equal(found[here], expected[here] + 1)
        assert (found[~here] == 0).all()


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_row_is_that_of_its_cell(register, rng, pattern, storage, index_dtype):
    mdata = make_mosaic(pattern=pattern, storage=storage, index_dtype=index_dtype, stamp=True, likelihood=COUNTS)
    dataset = register(mdata).create_torch_dataset()
    assert len(dataset) == mdata.n_obs
    for cells in np.array_split(rng.permutation(mdata.n_obs), 5):
        assert_rows_match_names(mdata, dataset, cells)


def test_blocks_hold_all_values_of_their_cells_and_zeros_elsewhere(register, rng):
    mdata = make_mosaic(storage={"a": "csc", "b": "csr_array", "c": "dense"})
    cells = rng.permutation(mdata.n_obs)
    batch = register(mdata).create_torch_dataset()[cells]
    for name, adata in mdata.mod.items():
        x = adata.X.toarray() if sp.issparse(adata.X) else adata.X
        rows = adata.obs_names.get_indexer(mdata.obs_names[cells])
        expected = np.where(rows[:, None] >= 0, x[rows], 0)
        np.testing.assert_array_equal(dense(batch["values"][name], adata.n_vars), expected.astype(np.float32))


def test_stamps_fail_if_rows_of_another_cell_are_read(register):
    """The oracle itself can fail: with rows taken by global position, as in a stock loader, stamps disagree."""
    mdata = make_mosaic(pattern="mosaic", stamp=True, likelihood=COUNTS)
    dataset = register(mdata).create_torch_dataset()
    dataset.maps["a"] = np.minimum(np.arange(mdata.n_obs), mdata["a"].n_obs - 1)
    with pytest.raises(AssertionError):
        assert_rows_match_names(mdata, dataset, np.arange(mdata.n_obs))


def test_shuffling_the_cells_of_each_modality_changes_no_minibatch(register, rng):
    from smalti._mudata import build_mudata

    mdata = make_mosaic(stamp=True, likelihood=COUNTS)
    shuffled = build_mudata(
        {name: adata[rng.permutation(adata.n_obs)].copy() for name, adata in mdata.mod.items()}, obs=mdata.obs
    )
    one, two = register(mdata).create_torch_dataset(), register(shuffled).create_torch_dataset()
    same = one[mdata.obs_names.get_indexer(shuffled.obs_names)], two[np.arange(shuffled.n_obs)]
    for name, adata in mdata.mod.items():
        a, b = (dense(batch["values"][name], adata.n_vars) for batch in same)
        np.testing.assert_array_equal(a, b)
    torch.testing.assert_close(same[0]["batch"], same[1]["batch"])
    torch.testing.assert_close(same[0]["labels"], same[1]["labels"])


def test_a_subset_keeps_global_positions(register):
    mdata = make_mosaic(stamp=True, likelihood=COUNTS)
    dataset = register(mdata).create_torch_dataset([70, 3, 40])
    assert len(dataset) == 3
    assert dataset[[2, 0]]["index"].tolist() == [40, 70]
    found = first_feature(dataset[[1]]["values"]["a"])
    expected = numbers(mdata.obs_names)[3] + 1 if presence(mdata)[3, 0] else 0
    assert found.tolist() == [expected]


@pytest.mark.parametrize("cells", [5, [5], []])
def test_minibatches_of_one_cell_and_of_none_have_all_keys(register, cells):
    mdata = make_mosaic()
    batch = register(mdata).create_torch_dataset()[cells]
    n = np.size(cells)
    assert batch["batch"].shape == batch["labels"].shape == (n, 1)
    assert batch["present"].shape == (n, 3)
    for name, adata in mdata.mod.items():
        assert dense(batch["values"][name], adata.n_vars).shape == (n, adata.n_vars)


def test_a_cell_may_be_drawn_twice(register):
    mdata = make_mosaic(stamp=True, likelihood=COUNTS)
    assert_rows_match_names(mdata, register(mdata).create_torch_dataset(), np.array([4, 9, 4, 4]))


def test_a_profile_of_zeros_is_present_and_absent_ones_are_not(register):
    mdata = make_mosaic(empty=("a",))
    at = mdata.obs_names.get_loc(mdata["a"].obs_names[0])
    absent = int(np.flatnonzero(~presence(mdata, ["a"])[:, 0])[0])
    batch = register(mdata).create_torch_dataset()[[at, absent]]
    assert batch["present"][:, 0].tolist() == [True, False]
    assert not dense(batch["values"]["a"], mdata["a"].n_vars).any()
    assert batch["values"]["a"].indptr[1] == batch["values"]["a"].indptr[2]


def test_the_first_tensor_tells_the_batch_size(register):
    first = next(iter(register(make_mosaic()).create_torch_dataset()[np.arange(7)].values()))
    assert first.shape[0] == 7


def test_given_components_are_rows_of_the_same_cells(register):
    mdata = make_mosaic()
    mdata["a"].obsm["X_own"] = 1.0 + numbers(mdata["a"].obs_names)[:, None] * np.ones(3)
    dataset = register(mdata, {"a": Modality(encoder_input="X_own"), "b": None, "c": None}).create_torch_dataset()
    batch = dataset[np.arange(mdata.n_obs)]
    here = presence(mdata, ["a"])[:, 0]
    expected = np.where(here, 1.0 + numbers(mdata.obs_names), 0.0)
    np.testing.assert_array_equal(batch["components"]["a"].numpy(), np.repeat(expected[:, None], 3, axis=1))


def test_a_layer_is_read_instead_of_x(register):
    mdata = make_mosaic(stamp=True, likelihood=COUNTS)
    mdata["a"].layers["raw"] = mdata["a"].X.copy()
    mdata["a"].X = sp.csr_matrix(mdata["a"].shape, dtype=np.float32)
    dataset = register(mdata, {"a": Modality(layer="raw"), "b": None, "c": None}).create_torch_dataset()
    assert_rows_match_names(mdata, dataset, np.arange(mdata.n_obs))


def test_device_transfer_keeps_kinds_and_values(register):
    batch = register(make_mosaic()).create_torch_dataset()[np.arange(4)]
    moved = to_device(batch, torch.device("cpu"))
    assert isinstance(moved["values"]["a"], SparseRows)
    assert moved.keys() == batch.keys()
    torch.testing.assert_close(moved["values"]["a"].values, batch["values"]["a"].values)
    assert {t.device.type for t in to_device(batch, "meta")["values"]["a"]} == {"meta"}


def test_worker_processes_hand_over_the_same_minibatches(register):
    from torch.utils.data import DataLoader

    dataset = register(make_mosaic(stamp=True, likelihood=COUNTS)).create_torch_dataset()
    order = [[3, 1], [0, 80, 2]]
    loader = DataLoader(dataset, batch_size=None, sampler=order, num_workers=1)
    for cells, batch in zip(order, loader, strict=True):
        direct = dataset[cells]
        assert isinstance(batch["values"]["a"], SparseRows)
        for ours, theirs in zip(direct["values"]["a"], batch["values"]["a"], strict=True):
            torch.testing.assert_close(ours, theirs)
