"""Running a training to whatever end: done, stopped by the user, or failed; the model is usable after the first two."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.multiprocessing import ProcessRaisedException

from smalti._errors import NonFiniteLossError
from smalti.nn import SparseRows
from smalti.train import CarryState, RestoreBest, StopTogether, compiled, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scvi.train import TrainRunner

    from smalti.data import MosaicBatch

    from ._host import MosaicHost


IDLE = (
    ".*does not have many workers.*",
    ".*early_stopping was automatically disabled.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
)
"""Warnings that ask for nothing: early stopping is a callback of ours, and data are in memory."""


def run_training(model: MosaicHost, runner: TrainRunner, earlier: dict[str, Any] | None) -> bool:
    """Run a training; return whether it came to its end.

    Ctrl-C stops after the batch at hand: the history is kept, the best weights so far are in the model, and the program
    goes on (a second Ctrl-C stops at once). After any other error the model has its last good weights: the best of
    this training, or those from before it.

    Parameters
    ----------
    model
        The model.
    runner
        Its training, ready to start.
    earlier
        History of trainings before this one; that of this one is added.

    Raises
    ------
    NonFiniteLossError
        If a loss is NaN or infinite; the message names term, modality, batches and the first cells.
    """
    trainer, was_trained = runner.trainer, model.is_trained_
    before = {name: weight.detach().cpu().clone() for name, weight in model.module.state_dict().items()}
    failures: list[BaseException] = []
    fit = trainer.fit

    def kept(*args: Any, **kwargs: Any) -> None:
        vars(trainer).pop("fit")  # or other processes could not be given the trainer
        try:
            fit(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001, it is raised again below
            failures.append(error)

    trainer.fit = kept  # scvi-tools prints a riddle about any error and gives the model up
    with _stop_gently(trainer) as asked, compiled(model.module, runner.training_plan.options.compile):
        runner()
    plan = runner.training_plan
    for callback in trainer.callbacks:
        if isinstance(callback, CarryState):
            callback.bring_home(plan, trainer.callbacks)
    model.history_ = joined(earlier, plan.history.tables()) or None
    failure = _from_elsewhere(failures[0]) if failures else None
    by_user = isinstance(failure, KeyboardInterrupt) or (isinstance(failure, SystemExit) and trainer.interrupted)
    stopped = bool(asked) or by_user
    if failure is None and not stopped:
        return True
    finished = _epochs(plan.history.tables())
    if failure is not None and not _restore_best(model, trainer):
        good = stopped and finished > 0 and all(bool(torch.isfinite(w).all()) for w in model.module.parameters())
        if not good:
            model.module.load_state_dict(before)
            finished = finished if stopped else 0
    model.module.eval()
    if stopped:
        model.is_trained_ = was_trained or finished > 0
        warnings.warn(
            f"Training was stopped after {finished} epochs. The model has its best weights so far and can be used; "
            "call `train` again for a training of full length.",
            UserWarning,
            stacklevel=3,
        )
        return model.is_trained_
    model.is_trained_ = was_trained
    assert failure is not None
    if isinstance(failure, NonFiniteLossError):
        raise NonFiniteLossError(f"{failure} {_place(model, runner.training_plan)}".strip()) from failure
    if isinstance(failure, ConnectionError | EOFError) or "DataLoader worker" in str(failure):
        raise RuntimeError(
            f"A loader process ended unexpectedly ({' '.join(str(failure).split())}). The model is as it was before "
            "this training, or has the best weights of it. Train again with `num_workers=0`, or look for what used up "
            "memory."
        ) from failure
    raise failure


def _from_elsewhere(failure: BaseException) -> BaseException:
    """Return the error of a process that was started for the training as one of this process."""
    if isinstance(failure, ProcessRaisedException):
        name = f"{NonFiniteLossError.__qualname__}: "
        _, found, text = str(failure).rpartition(name)
        return NonFiniteLossError(text.strip()) if found else failure
    return failure


def _epochs(history: dict[str, Any]) -> int:
    return max((len(table) for name, table in history.items() if name.startswith("train")), default=0)


def _restore_best(model: MosaicHost, trainer: Any) -> bool:
    """Put the best weights of this training into the model, if there are some."""
    found = False
    for callback in trainer.callbacks:
        if isinstance(callback, RestoreBest) and callback.best_epoch >= 0:
            callback.restore(model.module)
            found = found or callback.only is None
    return found


@contextmanager
def _stop_gently(trainer: Any) -> Iterator[list[int]]:
    """Let the first Ctrl-C stop the trainer after its batch; afterwards signals do what they did before.

    Several processes stop after the epoch at hand.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        together = [each for each in trainer.callbacks if isinstance(each, StopTogether)]
        for each in together:
            each.asked = True
        trainer.should_stop = not together  # one process must not stop while others wait for it

    signal.signal(signal.SIGINT, stop)
    try:
        yield asked
    finally:  # Lightning switches the signal off after an interruption
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)


def _place(model: MosaicHost, plan: Any) -> str:
    """Say where the values lie that most likely spoiled the loss."""
    minibatch: MosaicBatch | None = getattr(plan, "failed", None)
    if minibatch is None or model.adata is None:
        return ""
    names = model.adata.obs_names[minibatch["index"].cpu().numpy()]
    worst = []
    for name, block in minibatch["values"].items():
        size = _largest(block)
        here = minibatch["present"][:, model.modalities.index(name)].cpu().numpy()
        if here.any():
            cells = np.argsort(-np.where(here, size, -np.inf), kind="stable")[:3]
            typical = float(np.median(size[here])) or 1.0
            worst.append((float(size[cells[0]]) / typical, name, cells, float(size[cells[0]])))
    if not worst:
        return ""
    _, name, cells, value = max(worst)
    codes = minibatch["batch"][cells, 0].tolist()
    batches = sorted({model.batch_categories[code] for code in codes if 0 <= code < len(model.batch_categories)})
    where = f" of batch {', '.join(map(repr, batches))}" if batches else ""
    return (
        f"In the minibatch at fault, modality {name!r} stands out most: values up to {value:.3g}, first in cells "
        f"{', '.join(repr(names[cell]) for cell in cells)}{where}."
    )


def _largest(block: SparseRows | torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the largest size of a value in each row; infinite where one is not finite."""
    if isinstance(block, SparseRows):
        out = np.zeros(block.n_rows)
        values = torch.nan_to_num(block.values.detach().cpu().double().abs(), nan=torch.inf)
        np.maximum.at(out, block.row_index().cpu().numpy(), values.numpy())
        return out
    return torch.nan_to_num(block.detach().cpu().double().abs(), nan=torch.inf).amax(dim=1).numpy()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's announcements (devices, tips) out of notebooks; its warnings stay, but for idle ones."""
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed")
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(max(each.getEffectiveLevel(), logging.WARNING))
    try:
        with warnings.catch_warnings():
            for message in IDLE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Let PyTorch compute with so many threads on the CPU; ``None`` changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
