"""The one ``train`` of all models."""

from __future__ import annotations

import logging
import math
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping
from scvi.train import TrainRunner

from smalti._compat import runs_elsewhere
from smalti._files import check_writable
from smalti._validate import check_count, check_path
from smalti.nn import GateSchedule
from smalti.train import (
    AdversarialPlan,
    CarryState,
    EveryEpochs,
    MosaicPlan,
    MosaicSplitter,
    PlanOptions,
    RestoreBest,
    SeedEpochs,
    ShareBuffers,
    StopTogether,
    TellTime,
    WriteCheckpoint,
    is_distributed,
    one_voice,
    resolve_strategy,
)

from ._checkpoint import safe_checkpoint, training_identity
from ._checks import check_arguments, epochs_between_checks
from ._gates import GateMixin
from ._running import quiet, run_training, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from smalti.train import MakeSampler

logger = logging.getLogger(__name__)

MONITOR, BEST_EPOCH = "monitor_validation", "best_epoch"
"""What early stopping looks at: the weighted sum of all terms but adversarial ones, on validation cells."""
FEW_BATCHES, QUICK = 2, 8
"""With so few batches per epoch, training waits for an eighth of all passes instead of a third: the network sees the
same cells hundreds of times, and over-fits early (four omics of 92 patients: best at epoch 75 of 1,500)."""


class TrainingMixin(GateMixin):
    """Training with progress bar, early stopping, history, seed, device choice and checkpoints."""

    default_batch_size = 256
    default_steps = 1500
    """Batches of a training whose length is not given."""
    n_epochs_: int = 0
    """Epochs planned for the training in progress, for what :meth:`epoch_calls` does by stages."""

    def train(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int | Literal["auto"] | None = None,
        train_size: float = 0.9,
        validation_indices: Sequence[int] | NDArray[Any] | None = None,
        paired_share: float = 0.5,
        early_stopping: bool = True,
        early_stopping_patience: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        strategy: Any = "auto",
        plan_kwargs: dict[str, Any] | None = None,
        trainer_kwargs: dict[str, Any] | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        num_workers: int = 0,
        n_threads: int | None = 1,
        on_device: bool | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        """Train the model; afterwards ``history`` holds every logged term per epoch.

        After a few batches it says how long it will take at most. Ctrl-C stops the training after the batch at hand;
        the model keeps history and best weights and can be used.

        Parameters
        ----------
        max_epochs
            Epochs; an epoch draws as many cells as there are. By default as many as give ``default_steps`` batches.
        batch_size
            Cells per batch; by default, or ``"auto"``, ``default_batch_size`` or what a loss of correlations needs
            (:func:`smalti.planning.recommended_batch_size`) if that is more.
        train_size
            Share of cells to train on, in ``(0, 1]``; the rest is held out, evenly over presence patterns, to choose
            the best epoch. With 1 nothing is held out and the last epoch is kept.
        validation_indices
            Positions of the cells to hold out, instead of a random share.
        paired_share
            Smallest share of paired cells per batch, in ``[0, 1]``.
        early_stopping
            Whether to stop when the monitor no longer falls. It contains no adversarial term. The weights of the best
            epoch are restored in any case.
        early_stopping_patience
            Validation passes without improvement before stopping; by default a third of all, or an eighth where one or
            two batches are an epoch, and at least five.
        accelerator, devices
            As in Lightning: ``"cpu"``, ``"gpu"``, ``"auto"``; number or list of devices. With several, each has a
            process of its own with batches of ``batch_size`` cells, and gradients are averaged.
        strategy
            How several processes come to be: ``"ddp"`` runs the script once more for each, which is what ``torchrun``
            and SLURM expect; ``"ddp_spawn"`` starts them here, and the model at hand is the trained one afterwards. By
            default one process for one device, and ``"ddp"`` for several (in a notebook ``"ddp_notebook"``).
        plan_kwargs
            Options of the training plan, see :class:`~smalti.train.PlanOptions`.
        trainer_kwargs
            Passed to :class:`scvi.train.Trainer`, such as ``{"precision": "bf16-mixed"}``.
        checkpoint
            File to which the full state of training is written after every epoch.
        resume
            Continue from ``checkpoint`` if it exists. The file must hold tensors and plain values only.
        num_workers
            Loader processes; 0 is fastest for data in memory.
        n_threads
            Threads for every operation of PyTorch on the CPU while it trains. With two, a training took 0.85 to 1.04
            times as long on an idle machine, and more than five times as long beside other programs, because the
            threads wait for each other thousands of times a second. ``None`` leaves PyTorch's number as it is.
        on_device
            Whether the data lie on the device, so that minibatches are gathered there. By default if that is a GPU and
            they take at most 60 % of its free memory; otherwise they are copied one minibatch ahead.
        progress
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            If options contradict each other or the data lack what a loss term needs.
        NonFiniteLossError
            If a loss term becomes NaN or infinite.
        """
        if self.adata is not None:
            self._validate_anndata()
        self._check_trainable()
        if batch_size is None or batch_size == "auto":
            batch_size = max(self.default_batch_size, self.least_batch_size())
        check_count(batch_size, "batch_size")
        check_arguments(plan_kwargs, trainer_kwargs, num_workers, n_threads)
        options = {"logger": False, **(trainer_kwargs or {})}  # plans keep the history
        strategy = resolve_strategy(options.pop("strategy", strategy), devices, options.get("num_nodes", 1))
        splitter = MosaicSplitter(
            self.adata_manager,
            train_size=train_size,
            batch_size=batch_size,
            paired_share=paired_share,
            validation_indices=validation_indices,
            strata=self.strata(),
            make_sampler=self.make_sampler(batch_size),
            seed=self.random_state,
            num_workers=num_workers,
            on_device=on_device,
        )
        if max_epochs is None:
            max_epochs = max(1, math.ceil(self.suggested_steps(splitter) / splitter.sampler.n_batches))
        max_epochs = check_count(max_epochs, "max_epochs")
        self.n_epochs_ = max_epochs
        update = PlanOptions(**{**self.plan_defaults(), **(plan_kwargs or {})})
        check_every = epochs_between_checks(max_epochs, splitter)
        gated = self.gate_names()
        stops = bool(early_stopping and splitter.n_val and not gated)  # gates need their schedule
        share = QUICK if splitter.sampler.n_batches <= FEW_BATCHES else 3
        callbacks = [SeedEpochs(self.random_state), TellTime(stops_early=stops), *options.pop("callbacks", [])]
        if is_distributed(strategy):
            callbacks = [ShareBuffers(), StopTogether(), *callbacks]
        callbacks += [EveryEpochs(every, call) for every, call in self.epoch_calls()]
        if splitter.n_val:
            start = int(GateSchedule().refit * max_epochs) if gated else 0  # before, gates were others
            callbacks.append(RestoreBest(MONITOR, first_epoch=start))
            for name, part in self.part_monitors(splitter).items():
                callbacks.append(RestoreBest(name, only=part, first_epoch=start))
            options.setdefault("check_val_every_n_epoch", check_every)
            if stops:
                patience = early_stopping_patience or max(5, max_epochs // check_every // share)
                # after validation, so that a checkpoint of the epoch knows the result
                callbacks.append(EarlyStopping(MONITOR, patience=patience, check_on_train_epoch_end=False))
        if checkpoint is not None:
            checkpoint = check_path(checkpoint, "checkpoint")
            check_writable(checkpoint)
            identity = training_identity(self, splitter, update)
            callbacks.append(WriteCheckpoint(checkpoint, identity=identity))
            if resume and checkpoint.exists():
                options["ckpt_path"] = str(safe_checkpoint(checkpoint, identity, max_epochs))
        if progress != "auto":
            options["enable_progress_bar"] = progress
        plan_cls = AdversarialPlan if self.uses_adversary else MosaicPlan
        with threads(n_threads), torch.random.fork_rng(), quiet(), one_voice(), TemporaryDirectory() as folder:
            carry = CarryState(self._noted, self._take_notes, folder if runs_elsewhere(strategy) else None)
            torch.manual_seed(self.random_state)
            self._before_training(splitter)
            self.module.train()  # Lightning keeps the mode, and inference leaves the network in evaluation mode
            plan = plan_cls(self.module, update)
            runner = TrainRunner(
                self,
                training_plan=plan,
                data_splitter=splitter,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                strategy=strategy,
                callbacks=[*callbacks, carry],
                use_distributed_sampler=False,
                **options,
            )
            earlier = self.history_
            try:
                if run_training(self, runner, earlier):
                    self._after_training()
                    self._fit_readouts()
                    self.report_gates()
            finally:
                self._note_best_epoch(callbacks)

    def _note_best_epoch(self, callbacks: list[Any]) -> None:
        """Write the epoch whose weights were kept, and its monitor, into the history."""
        kept = [each for each in callbacks if isinstance(each, RestoreBest) and each.only is None]
        if self.history_ and kept and kept[0].best_epoch >= 0:
            epoch = pd.Index([kept[0].best_epoch], name="epoch")
            self.history_[BEST_EPOCH] = pd.DataFrame({BEST_EPOCH: [kept[0].best]}, index=epoch)

    # ------------------------------------------------------- what models may change

    @property
    def uses_adversary(self) -> bool:
        """Whether training needs a second optimiser."""
        return getattr(self.module, "discriminator", None) is not None

    def plan_defaults(self) -> dict[str, Any]:
        """Return the model's own defaults of the training plan."""
        return {}

    def part_monitors(self, splitter: MosaicSplitter) -> dict[str, tuple[str, ...]]:
        """Return parts of the network (beginnings of weight names) with a best epoch of their own, by monitor."""
        return {}

    def epoch_calls(self) -> list[tuple[int, Callable[[int], None]]]:
        """Return what to call every so many epochs, with the number of the epoch, before it starts.

        For what looks at all cells, such as pseudo-labels: the network is in evaluation mode then, without gradients,
        and the random numbers of training are not touched.
        """
        return []

    def strata(self) -> NDArray[np.int64] | None:
        """Return a code per cell by which validation cells are drawn; by default presence patterns."""
        return None

    def least_batch_size(self) -> int:
        """Return how many cells a loss of correlations needs in a batch; 1 for a model without one."""
        return 1

    def make_sampler(self, batch_size: int) -> MakeSampler | None:
        """Return what makes the sampler of training batches, see :class:`~smalti.train.MosaicSplitter`."""
        return None

    def _noted(self) -> dict[str, Any]:
        """Return what the model noted during training besides weights, plain values only; checkpoints store it."""
        return {}

    def _take_notes(self, notes: dict[str, Any]) -> None:
        """Take up what :meth:`_noted` returned, in a training that goes on or that ran in other processes."""

    def _after_training(self) -> None:
        """Fit what depends on the trained network, such as the temperature of probabilities."""

    def _fit_readouts(self) -> None:
        """Fit the latents that are made from the trained network."""

    def suggested_steps(self, splitter: MosaicSplitter) -> int:
        """Return how many batches to train for when the user does not say."""
        return self.default_steps

    def _check_trainable(self) -> None:
        """Raise ``ValueError`` if the data lack what the model needs."""
        if self.adata is None:
            raise ValueError("The model was loaded without data. Set `model.adata = mdata` first.")

    def _before_training(self, splitter: MosaicSplitter) -> None:
        """Initialise what depends on which cells are for training."""
