"""What happens around epochs: keeping the best weights, writing checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from smalti._files import replacing
from smalti._validate import check_count

from ._processes import share_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor, nn


class RestoreBest(Callback):
    """Keeps the weights of the epoch with the lowest monitor in memory and restores them when training ends.

    Parameters
    ----------
    monitor
        Name of the logged quantity; lower is better.
    only
        Beginnings of the names of the weights it cares for; all by default. Parts that share no weight have their best
        epochs at different times.
    first_epoch
        Epochs before it do not count: their objective was another one.
    """

    def __init__(self, monitor: str, *, only: tuple[str, ...] | None = None, first_epoch: int = 0) -> None:
        self.monitor, self.only, self.first_epoch = monitor, only, first_epoch
        self.best = math.inf
        self.best_epoch = -1
        self._weights: dict[str, Tensor] | None = None

    @property
    def state_key(self) -> str:
        """Name of its state in a checkpoint; there may be one per monitor."""
        return f"{type(self).__qualname__}[{self.monitor}]"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the monitor with the best so far."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.current_epoch < self.first_epoch:
            return
        if trainer.sanity_checking or value is None or not float(value) < self.best:
            return
        self.best, self.best_epoch = float(value), trainer.current_epoch
        network = cast("nn.Module", pl_module.module)
        chosen = {n: w for n, w in network.state_dict().items() if self.only is None or n.startswith(self.only)}
        self._weights = {name: w.detach().cpu().clone() for name, w in chosen.items()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back."""
        self.restore(cast("nn.Module", pl_module.module))

    def restore(self, network: nn.Module) -> None:
        """Put the best weights back into a network, if any epoch was looked at."""
        if self._weights is not None:
            network.load_state_dict(self._weights, strict=self.only is None)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on from here."""
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self._weights = state_dict["weights"]


class SeedEpochs(Callback):
    """Gives every epoch its own stream of random numbers, so that resumed training draws what it would have drawn.

    Parameters
    ----------
    seed
        Seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed torch by seed, epoch and process, once the loader has drawn a seed of its own."""
        if batch_idx == 0:
            key = (self.seed, trainer.current_epoch, *([trainer.global_rank] if trainer.global_rank else []))
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


class WriteCheckpoint(Callback):
    """Writes the full state of training, optimisers included, after every ``every`` epochs.

    Parameters
    ----------
    path
        File; replaced each time in one step, so that it is whole at any moment.
    every
        Epochs between writes.
    identity
        What training must have in common to go on from the file, plain values; stored in it.
    """

    def __init__(self, path: str | Path, every: int = 1, identity: dict[str, Any] | None = None) -> None:
        self.path, self.every, self.identity = Path(path), every, dict(identity or {})

    def state_dict(self) -> dict[str, Any]:
        """Return what is stored with the weights."""
        return self.identity

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write if it is time."""
        if (trainer.current_epoch + 1) % self.every == 0:
            getattr(pl_module, "log_epoch", lambda: None)()  # plans log later, but the epoch belongs to the state
            if not trainer.is_global_zero:
                trainer.save_checkpoint(self.path)  # writes nothing, but all processes must meet
                return
            with replacing(self.path) as beside:
                try:
                    trainer.save_checkpoint(beside)
                except RuntimeError as error:
                    if "PytorchStreamWriter" not in str(error):
                        raise
                    raise OSError(str(error)) from error  # so does a full disk end


class EveryEpochs(Callback):
    """Calls a function before every ``every``-th epoch, the first included, with the number of the epoch.

    The network is in evaluation mode and without gradients meanwhile, and the stream of random numbers of training goes
    on as if nothing had been called: for pseudo-labels and whatever else looks at all cells. Several processes call it
    each by itself, and then take over the network of the first one.

    Parameters
    ----------
    every
        Epochs between calls, at least 1.
    call
        Receives the number of the epoch, from 0.
    """

    def __init__(self, every: int, call: Callable[[int], None]) -> None:
        self.every, self.call = int(check_count(every, "every")), call

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Call if it is time."""
        if trainer.current_epoch % self.every:
            return
        training = pl_module.training
        pl_module.eval()
        with torch.no_grad(), torch.random.fork_rng():
            self.call(trainer.current_epoch)
        share_state(cast("nn.Module", pl_module.module))
        pl_module.train(training)
