from __future__ import annotations

import pytest
import torch

from smalti.train import EveryEpochs, MosaicPlan


def test_calls_come_before_every_nth_epoch_in_evaluation_mode_without_gradients(toy, fit):
    plan, seen = MosaicPlan(toy()), []
    call = EveryEpochs(3, lambda epoch: seen.append((epoch, plan.training, torch.is_grad_enabled())))
    fit(plan, max_epochs=7, callbacks=[call])
    assert seen == [(0, False, False), (3, False, False), (6, False, False)]


def test_what_is_drawn_in_a_call_does_not_move_the_stream_of_training(toy, fit):
    draws = []
    for call in (lambda _: None, lambda _: torch.randn(100)):
        torch.manual_seed(0)
        plan = MosaicPlan(toy())
        fit(plan, max_epochs=3, callbacks=[EveryEpochs(1, call)])
        draws.append(torch.randn(3))
    assert torch.equal(*draws)


def test_a_period_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`every`"):
        EveryEpochs(0, print)
