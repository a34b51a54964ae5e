from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from torch.multiprocessing import ProcessRaisedException

from smalti._errors import NonFiniteLossError
from smalti.model.base._running import _from_elsewhere
from smalti.train import CarryState, History, RestoreBest


def carry(folder=None, notes=None):
    """Return the callback, what it was told to take up, and a plan."""
    taken = []
    plan = SimpleNamespace(history=History())
    callback = CarryState(lambda: notes or {}, taken.append, folder)
    callback.setup(None, plan, "fit")
    return callback, taken, plan


def test_history_notes_and_best_epochs_come_home_from_other_processes(tmp_path):
    there, _, plan = carry(str(tmp_path), {"placed": [1.0, math.nan], "reseeded": 2})
    plan.history.add(0, {"loss": 0.1 + 0.2})
    best, part, untouched = RestoreBest("monitor"), RestoreBest("part"), RestoreBest("never")
    best.best, best.best_epoch, part.best, part.best_epoch = 0.5, 3, 0.25, 1
    there.on_fit_end(SimpleNamespace(is_global_zero=True, callbacks=[best, there, part, untouched]), plan)

    here, taken, mine = carry(str(tmp_path))
    waiting = [RestoreBest("part"), RestoreBest("monitor"), RestoreBest("never")]
    here.bring_home(mine, waiting)
    assert mine.history.rows == {"loss": [[0, 0.1 + 0.2]]}
    assert taken[0]["reseeded"] == 2
    assert math.isnan(taken[0]["placed"][1])
    assert [(each.best, each.best_epoch) for each in waiting] == [(0.25, 1), (0.5, 3), (math.inf, -1)]


@pytest.mark.parametrize("zero", [True, False])
def test_only_the_first_process_leaves_a_file_and_only_if_somebody_waits(tmp_path, zero):
    for folder in (None, str(tmp_path)):
        callback, _, plan = carry(folder)
        callback.on_fit_end(SimpleNamespace(is_global_zero=zero, callbacks=[]), plan)
    assert len(list(tmp_path.iterdir())) == int(zero)


def test_nothing_is_taken_up_where_processes_failed(tmp_path):
    callback, taken, plan = carry(str(tmp_path))
    callback.bring_home(plan, [])
    assert (taken, plan.history.rows) == ([], {})


def test_a_loss_that_is_not_finite_is_told_as_such_from_a_process_that_was_started():
    text = "Traceback ...\nsmalti._errors.NonFiniteLossError: The loss became nan; terms that are not finite: kl."
    found = _from_elsewhere(ProcessRaisedException(text, 0, 1))
    assert isinstance(found, NonFiniteLossError)
    assert str(found) == "The loss became nan; terms that are not finite: kl."
    other = ProcessRaisedException("Traceback ...\nKeyError: 1", 0, 1)
    assert _from_elsewhere(other) is other
