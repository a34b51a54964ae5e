from __future__ import annotations

import logging
import time

import pytest
from lightning.pytorch.callbacks import Callback

from smalti.train import MosaicPlan, TellTime
from smalti.train._tell_time import duration

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec.*", "ignore:.*have no `val_dataloader`"
)


class Slow(Callback):
    def on_train_batch_start(self, *_) -> None:
        time.sleep(0.01)


def test_the_estimate_is_made_of_the_first_batches_and_all_that_are_left(toy, fit, caplog, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("smalti.train._tell_time.duration", lambda seconds: told.append(seconds) or "a while")
    with caplog.at_level(logging.INFO, logger="smalti"):
        trainer = fit(MosaicPlan(toy()), max_epochs=30, callbacks=[Slow(), TellTime(stops_early=True)])
    assert caplog.text.count("Training: at most 30 epochs of") == 1
    assert "it stops earlier" in caplog.text
    n_batches = int(caplog.text.split("epochs of ")[1].split()[0])
    assert 0.01 * 20 * n_batches < told[0] < 0.1 * 30 * n_batches
    del trainer


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "a few seconds"), (42, "40 seconds"), (89, "90 seconds"), (91, "2 minutes"), (7200, "2.0 hours")],
)
def test_times_are_rounded_as_estimates_are(seconds, words) -> None:
    assert duration(seconds) == words
