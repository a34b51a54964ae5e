"""What a GPU would have to be waited for within a step, counted on a CPU."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from _clue import build_clue, options
from _factories import make_mosaic
from torch.utils._python_dispatch import TorchDispatchMode

from smalti.train import MosaicPlan, PlanOptions

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}
WAITS = ("nonzero", "_local_scalar_dense", "item", "is_nonzero", "masked_select", "unique", "equal", "bincount")
"""Operations whose result the host must see before it can go on."""


class Waits(TorchDispatchMode):
    """Counts them; taking by a boolean mask is a ``nonzero``, too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        if by_mask or name in WAITS or any(name.startswith(f"{wait}.") for wait in WAITS):
            self.found["mask" if by_mask else name] += 1
        return func(*args, **(kwargs or {}))


def step_of(model, monkeypatch):
    """A step as on a GPU: targets are dense, and losses are looked at together."""
    monkeypatch.setattr("smalti.model.parts._decoding.Decoding._dense_is_better", lambda *_: True)
    monkeypatch.setattr("smalti.losses._negative_binomial.may_look", lambda _: False)
    module = model.module.train()
    plan = MosaicPlan(module, PlanOptions())
    plan.watch.waits = True
    batch = model.adata_manager.create_torch_dataset()[np.arange(model.adata.n_obs)]
    with Waits() as counted:
        loss = plan.training_step(batch, 0)
        loss.backward()
    return counted.found


def test_the_count_sees_masks_and_numbers():
    x = torch.arange(4.0)
    with Waits() as counted:
        x[x > 1].sum().item()
    assert set(counted.found) == {"mask", "_local_scalar_dense"}


@pytest.mark.parametrize("labelled", [False, True])
def test_a_step_of_clue_waits_for_nothing(monkeypatch, labelled):
    setup = {} if labelled else {"labels_key": None}
    chosen = options(n_features_per_step=5)
    model = build_clue(make_mosaic(unlabeled=0.3), MODALITIES, setup=setup, options=chosen)
    assert step_of(model, monkeypatch) == {}
