"""How long a training will take, said while it begins."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)

TIMED = 5
"""Batches that are timed; the one before them pays for what is set up once."""


class TellTime(Callback):
    """Says after the first few batches how long training will take at most.

    The sentence goes to the log (level INFO). Where a progress bar is shown and the log does not reach the user, it is
    written above the bar.

    Parameters
    ----------
    stops_early
        Whether training ends before its last epoch once the validation loss no longer falls.
    """

    def __init__(self, *, stops_early: bool) -> None:
        self.stops_early = stops_early
        self._seen, self._start = 0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time the first batches, then tell."""
        self._seen += 1
        if self._seen == 1:
            self._start = time.perf_counter()
        if self._seen != 1 + TIMED or not trainer.is_global_zero:
            return
        n_batches, n_epochs = int(trainer.num_training_batches), int(trainer.max_epochs or 1)
        left = (n_epochs - trainer.current_epoch) * n_batches
        seconds = (time.perf_counter() - self._start) / TIMED * left
        text = (
            f"Training: at most {n_epochs:,} epochs of {n_batches:,} {'batch' if n_batches == 1 else 'batches'}, "
            f"about {duration(seconds)}"
            f"{'; it stops earlier when the validation loss no longer falls' if self.stops_early else ''}."
        )
        logger.info(text)
        if trainer.progress_bar_callback is not None and not logger.isEnabledFor(logging.INFO):
            tqdm.write(text)


def duration(seconds: float) -> str:
    """Return a time in words, rounded as an estimate deserves.

    Parameters
    ----------
    seconds
        Time in seconds, not negative.
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"{round(seconds, -1):.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
