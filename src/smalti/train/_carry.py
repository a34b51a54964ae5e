"""What a training knows besides weights: stored in checkpoints, and brought home from processes that ran it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch.callbacks import Callback

from ._callbacks import RestoreBest
from ._processes import several_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lightning.pytorch import LightningModule, Trainer

    from ._history import History
    from ._plans import MosaicPlan

FILE = "training.json"


class CarryState(Callback):
    """Stores the history and what a model notes during training with every checkpoint, and takes it up from there.

    Where processes of their own train, the first one leaves it in a file for the process that started them.

    Parameters
    ----------
    get, put
        Return and take up what the model noted, plain values only.
    folder
        Where to leave the file, if training runs in other processes.
    """

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], None], folder: str | None = None) -> None:
        self.get, self.put, self.folder = get, put, folder
        self._history: History | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get to know the history of this process."""
        self._history = cast("MosaicPlan", pl_module).history

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on from here."""
        rows = {} if self._history is None else self._history.rows
        return {"history": {name: list(map(list, each)) for name, each in rows.items()}, "model": self.get()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        if self._history is not None:
            self._history.rows = state_dict["history"]
        self.put(state_dict["model"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let all processes go on with the notes of the first one, which checkpoints hold."""
        notes = self.get() if several_processes() else {}
        if notes:  # whether there are some depends on the model only
            self.put(trainer.strategy.broadcast(notes))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave everything for the process that waits."""
        if self.folder is not None and trainer.is_global_zero:
            best = {each.state_key: [each.best, each.best_epoch] for each in _best(trainer.callbacks)}  # type: ignore[attr-defined]
            (Path(self.folder) / FILE).write_text(json.dumps({"state": self.state_dict(), "best": best}))

    def bring_home(self, plan: MosaicPlan, callbacks: Iterable[Any]) -> None:
        """Take up in the starting process what the others left, if they came to an end."""
        file = None if self.folder is None else Path(self.folder) / FILE
        if file is None or not file.exists():
            return
        found = json.loads(file.read_text())
        self._history = plan.history
        self.load_state_dict(found["state"])
        for each in _best(callbacks):
            each.best, each.best_epoch = found["best"][each.state_key]


def _best(callbacks: Iterable[Any]) -> list[RestoreBest]:
    return [each for each in callbacks if isinstance(each, RestoreBest)]
