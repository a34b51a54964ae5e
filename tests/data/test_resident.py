from __future__ import annotations

import numpy as np
import pytest
import torch
from _factories import make_mosaic
from _waits import Waits
from contract._models import MODELS

from smalti.data import Ahead, ResidentDataset, _resident, can_reside, pack, resident_bytes
from smalti.data._transfer import map_tensors

CLUE_SPEC = MODELS[0]


def tensors(minibatch):
    found = []
    map_tensors(minibatch, lambda x: found.append(x) or x)
    return found


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert list(a["cells"].patterns) == list(b["cells"].patterns)
    for x, y in zip(tensors(a), tensors(b), strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


@pytest.fixture(params=["csr", "csc", "dense", "int"])
def dataset(request):
    mdata = make_mosaic(storage=request.param, empty=("a",))
    c = np.array(mdata["c"].X.toarray() if request.param != "dense" else mdata["c"].X, dtype=np.float32)
    c[::3, 1] = np.nan  # missing values have readers of their own
    mdata["c"].X = c
    mdata["b"].obsm["X_given"] = np.random.default_rng(0).normal(size=(mdata["b"].n_obs, 3))
    modalities = {
        "a": {"likelihood": "gaussian"},
        "b": {"likelihood": "gaussian", "encoder_input": "X_given"},
        "c": {"likelihood": "gaussian"},
    }
    CLUE_SPEC.cls.setup_mudata(mdata, modalities=modalities, batch_key="batch", labels_key="label")
    return CLUE_SPEC.cls(mdata, **CLUE_SPEC.kwargs).adata_manager.create_torch_dataset(np.arange(3, mdata.n_obs))


@pytest.mark.parametrize("index", [[5, 0, 17, 5], np.arange(60), 4, [0]])
def test_minibatches_on_the_device_are_those_of_the_host_bit_for_bit(dataset, index):
    resident = ResidentDataset(dataset, "cpu")
    assert len(resident) == len(dataset)
    assert_same(resident[index], dataset[index])
    other = resident.subset(np.arange(10))
    dataset.indices = np.arange(10)
    assert_same(other[[3, 9]], dataset[[3, 9]])


def test_gathering_waits_for_nothing(dataset):
    resident = ResidentDataset(dataset, "cpu")
    with Waits() as counted:
        resident[np.arange(40)]
    assert not counted.found


def test_a_packed_minibatch_is_the_same_and_one_buffer(dataset):
    minibatch = dataset[np.arange(30)]
    moved = pack(minibatch).on("cpu")
    assert_same(moved, minibatch)
    assert len({x.untyped_storage().data_ptr() for x in tensors(moved) if x.numel()}) == 1


def test_a_thread_ahead_keeps_the_order_and_passes_errors_on(dataset):
    batches = [dataset[np.arange(i, i + 5)] for i in range(4)]
    for _ in range(2):
        for ready, expected in zip(Ahead(batches), batches, strict=True):
            assert_same(ready.on("cpu"), expected)

    def broken():
        yield batches[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(Ahead(broken()))


def test_data_reside_on_a_gpu_that_has_room_and_nowhere_else(dataset, monkeypatch):
    needed = resident_bytes(dataset)
    stored = sum(
        x.nbytes
        for r in ResidentDataset(dataset, "cpu").readers.values()
        for x in vars(r).values()
        if isinstance(x, torch.Tensor)
    )
    assert stored <= needed <= 2 * stored + 20_000
    assert not can_reside(dataset, "cpu")
    for free, fits in ((needed, False), (2 * needed, True)):
        monkeypatch.setattr(_resident.torch.cuda, "mem_get_info", lambda _, free=free: (free, free))
        assert can_reside(dataset, "cuda") is fits
