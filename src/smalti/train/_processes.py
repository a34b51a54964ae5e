"""Training in several processes: how they are started, and what they tell each other between batches."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from smalti._compat import prepare_ddp, send_mudata_whole

from ._sampler import rank_and_world

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor, nn

START = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork", "ddp_notebook": "fork"}
"""How the processes of a strategy come to be."""
SUFFIXES = ("_find_unused_parameters_true", "_find_unused_parameters_false")


def resolve_strategy(strategy: object, devices: int | list[int] | str = "auto", n_nodes: int = 1) -> Any:
    """Return a strategy that fits all models, made from a name; ``"auto"`` stays where there is one device.

    Parameters that a process has no gradient for are looked for in every step (its batch may have no cell of a
    modality), and buffers are shared once per epoch by :class:`ShareBuffers` instead of at every step: inputs that were
    fitted before training are buffers, too, and large.

    Parameters
    ----------
    strategy
        ``"ddp"``, ``"ddp_spawn"``, ``"ddp_fork"``, ``"ddp_notebook"``, ``"auto"``, or a strategy of Lightning.
    devices
        Number or list of devices; with several, ``"auto"`` means ``"ddp"``, or ``"ddp_notebook"`` in a notebook.
    n_nodes
        Number of machines.

    Raises
    ------
    ValueError
        If the name means anything but these.
    """
    if isinstance(strategy, DDPStrategy):
        return prepare_ddp(strategy)
    if strategy == "auto" and (n_nodes > 1 or _count(devices) > 1):
        strategy = "ddp_notebook" if hasattr(sys, "ps1") or "ipykernel" in sys.modules else "ddp"
    if not isinstance(strategy, str) or strategy == "auto":
        return strategy
    name = strategy
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    if name not in START:
        raise ValueError(
            f"Expected `strategy` to be 'auto' or one of {', '.join(map(repr, START))}, found {strategy!r}. Every "
            "process must hold the whole network: strategies that cut it up are not offered."
        )
    send_mudata_whole()
    return prepare_ddp(DDPStrategy(start_method=START[name]))  # type: ignore[arg-type]


def _count(devices: int | list[int] | str) -> int:
    if isinstance(devices, str):
        if devices == "auto":
            return 1
        try:
            devices = [int(part) for part in devices.split(",")] if "," in devices else int(devices)
        except ValueError:
            raise ValueError(
                f"Expected `devices` to be a number, a list of numbers or 'auto', found {devices!r}."
            ) from None
    if isinstance(devices, list):
        return len(devices)
    return devices if devices >= 0 else torch.cuda.device_count()


def is_distributed(strategy: object) -> bool:
    """Return whether a strategy, as :func:`resolve_strategy` returns it, runs several processes."""
    return isinstance(strategy, DDPStrategy)


def several_processes() -> bool:
    """Return whether this is one of several processes that train together."""
    return rank_and_world()[1] > 1


@torch.no_grad()
def share_state(module: nn.Module, *, buffers_only: bool = False) -> None:
    """Give all processes the weights and buffers of the first one, all of a type in one message."""
    if not several_processes():
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in [*module.buffers(), *(() if buffers_only else module.parameters())]:
        by_type.setdefault(tensor.dtype, []).append(tensor.detach())
    for tensors in by_type.values():
        whole = torch.cat([tensor.flatten() for tensor in tensors])
        sent = whole.to(torch.uint8) if whole.dtype is torch.bool else whole
        dist.broadcast(sent, src=0)
        for tensor, part in zip(tensors, torch.split(sent, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def average_rows(gradients: Iterable[Tensor]) -> None:
    """Average sparse gradients over processes, in place; all processes must have the same rows in them.

    Parameters
    ----------
    gradients
        Coalesced sparse tensors, in the same order in every process.
    """
    values = [gradient.values() for gradient in gradients]
    if not values or not several_processes():
        return
    flat = torch.cat([value.flatten() for value in values])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for value, mean in zip(values, torch.split(flat, [value.numel() for value in values]), strict=True):
        value.copy_(mean.view_as(value))


def gather_sums(sums: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return sums and weights by name, added up over processes; a process may lack some names."""
    found: list[Any] = [dict(sums)]
    if several_processes():
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, dict(sums))
    names = dict.fromkeys(name for each in found for name in each)
    have = {name: [each[name] for each in found if name in each] for name in names}
    return {name: (sum(s for s, _ in values), sum(w for _, w in values)) for name, values in have.items()}


@contextmanager
def one_voice() -> Iterator[None]:
    """Keep all processes but the first from saying anything; errors are raised."""
    logger = logging.getLogger("smalti")
    level = logger.level
    with warnings.catch_warnings():
        if getattr(rank_zero_only, "rank", 0):
            hush()
        try:
            yield
        finally:
            logger.setLevel(level)


def hush() -> None:
    """Say nothing any more in this process."""
    logging.getLogger("smalti").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


class ShareBuffers(Callback):
    """Gives all processes the buffers of the first one, such as running statistics: before validation and checkpoints.

    Put it before callbacks that write or keep weights.
    """

    def __init__(self) -> None:
        self._due = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the same network, whatever each process fitted by itself."""
        if not trainer.is_global_zero:
            hush()
        share_state(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that an epoch changes buffers."""
        self._due = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share before networks are compared by their validation loss."""
        self._share(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share before weights are stored."""
        self._share(pl_module)

    def _share(self, plan: LightningModule) -> None:
        if self._due:
            share_state(plan, buffers_only=True)
        self._due = False


class StopTogether(Callback):
    """Lets Ctrl-C end a training of several processes after the epoch at hand, in all of them.

    Attributes
    ----------
    asked
        Whether this process was asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in a process that was started for this training."""
        if multiprocessing.parent_process() is not None:
            signal.signal(signal.SIGINT, self._ask)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if any process was asked to."""
        if several_processes() and trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.should_stop = True

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
