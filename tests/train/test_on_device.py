"""Training on data that lie on the device gives what training from the host gives; here the device is the processor."""

from __future__ import annotations

import pytest
import torch
from contract._models import MODELS
from contract.conftest import contract_mosaic

from smalti.train import MosaicSplitter

SPEC = MODELS[0]


def weights(**changes):
    model = SPEC.fit(SPEC.build(contract_mosaic()), **changes)
    return model.module.state_dict(), model.history


def test_training_on_the_device_is_training_from_the_host_bit_for_bit():
    (a, history_a), (b, history_b) = weights(on_device=False), weights(on_device=True)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert history_a["train_loss"].equals(history_b["train_loss"])


def test_packed_batches_read_ahead_train_the_same(monkeypatch):
    expected, _ = weights()

    class Gpu(torch.nn.Module):
        type = "cuda"

    monkeypatch.setattr(MosaicSplitter, "device", property(lambda self: Gpu()))
    monkeypatch.setattr("smalti.train._splitter.can_reside", lambda *_: False)
    found, _ = weights()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_wrong_choice_is_refused():
    with pytest.raises(ValueError, match="on_device"):
        weights(on_device="yes")
