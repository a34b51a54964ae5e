"""The training plan: one optimiser, a schedule in steps, means over epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from scvi.train import TrainingPlan

from smalti._compat import leave_to_us
from smalti._errors import NonFiniteLossError

from ._history import History
from ._losses import EpochMeans, LossWatch
from ._options import PlanOptions
from ._processes import average_rows, several_processes
from ._row_adamw import RowAdamW, clip_gradients

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from scvi.module.base import BaseModuleClass, LossOutput

    from smalti.nn import FeatureGate


GATE_SCALE_STEP = 10
"""Step after which the typical gradient of a gate is known."""


class MosaicPlan(TrainingPlan):
    """Plan with one optimiser and a learning-rate schedule that is explicit in steps.

    Parameters
    ----------
    module
        The network.
    options
        Learning rate and the like.
    """

    def __init__(self, module: BaseModuleClass, options: PlanOptions | None = None) -> None:
        self.options = options or PlanOptions()  # the base class asks for the weight of the divergence right away
        super().__init__(module, lr=self.options.lr, weight_decay=self.options.weight_decay)
        self.unused = torch.nn.Parameter(torch.zeros(()))  # or torch warns that looking for such parameters was idle
        self.means = {"train": EpochMeans(), "validation": EpochMeans()}
        self.history = History()
        """Everything logged, whatever loggers there are."""
        self.watch = LossWatch()
        self.failed: Any = None
        """The minibatch whose loss was not finite, if one was."""

    @property
    def n_steps(self) -> int:
        """Number of batches of the whole training."""
        if self._trainer is None:
            return 1
        total = self.trainer.max_epochs * self.trainer.num_training_batches
        return max(int(total), 1) if math.isfinite(total) else 1

    @property
    def step(self) -> int:
        """Number of batches seen, whatever the number of optimisers."""
        if self._trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.total_batch_idx + 1

    @property
    def kl_weight(self) -> float:
        """Weight of the divergence at this step, in ``[0, 1]``."""
        return self.ramp(self.options.kl_warmup)

    def ramp(self, share: float) -> float:
        """Return how far this step is on a linear rise over a ``share`` of all steps, in ``[0, 1]``."""
        length = share * self.n_steps
        return min(1.0, self.step / length) if length > 0 else 1.0

    def lr_factor_at(self, step: int) -> float:
        """Return the learning rate at ``step`` as a share of its peak."""
        share, length = self.options.warmup_share, float(self.options.n_steps_warmup)
        warm = min(1.0, (step + 1) / max(length if share is None else share * self.n_steps, 1))
        if self.options.lr_schedule == "constant":
            return warm
        return warm * 0.5 * (1 + math.cos(math.pi * min(step / self.n_steps, 1.0)))

    def _count_batches(self) -> None:
        """Let the trainer count its batches, which a share of all steps needs from the first step on."""
        if self.options.warmup_share is not None and self._trainer is not None:
            _ = self.trainer.estimated_stepping_batches

    @property
    def row_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters whose gradients have the rows of a step's features only, as sparse tensors."""
        decoding = getattr(self.module, "decoding", None)
        if decoding is None or self.options.optimizer != "AdamW":
            return []
        found: list[torch.nn.Parameter] = decoding.row_parameters()
        return found

    def setup(self, stage: str) -> None:
        """Let output layers have gradients of the rows of a step; several processes draw the same rows."""
        own = {id(p) for p in self.row_parameters}
        decoding = getattr(self.module, "decoding", None)
        if decoding is not None:
            decoding.row_gradients, decoding.stream = bool(own), None
        if several_processes():
            leave_to_us(self, [name for name, p in self.named_parameters() if id(p) in own])

    def make_optimizer(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser for some parameters; those of gates get a learning rate of their own."""
        of_gates = {id(p) for gate in self.gates for p in gate.parameters()}
        gated = [p for p in parameters if id(p) in of_gates]
        parameters = [p for p in parameters if id(p) not in of_gates]
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if self.options.decay == "matrices":
            chosen = {id(p) for name, p in self.module.named_parameters() if is_matrix(name, p)}
            groups = [
                {"params": [p for p in parameters if id(p) in chosen]},
                {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
            ]
        groups.append({"params": gated, "lr": self.options.gate_lr, "weight_decay": 0.0, "gates": True})
        groups = [group for group in groups if group["params"]]
        if self.options.optimizer == "RMSprop":
            return torch.optim.RMSprop([{"weight_decay": 0.0, **group} for group in groups], lr=self.lr)
        fused = self.device.type in ("cpu", "cuda") and all(p.is_floating_point() for p in parameters)
        return RowAdamW(groups, lr=self.lr, betas=self.options.betas, weight_decay=self.weight_decay, fused=fused)

    def generator_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of the first optimiser."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule, stepped after every batch."""
        self._count_batches()
        optimizer = self.make_optimizer(self.generator_parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.lr_factor_at)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Average row gradients over processes, and clip all (one pass over the parameters, before every step)."""
        self._average_rows(optimizer)
        limit = gradient_clip_val or self.options.gradient_clip
        if limit is not None:
            for gates in (False, True):  # the price of gates must not slow the rest
                groups = [group for group in optimizer.param_groups if group.get("gates", False) is gates]
                clip_gradients([p for group in groups for p in group["params"]], limit)

    def _average_rows(self, optimizer: torch.optim.Optimizer) -> None:
        own = {id(p) for p in self.row_parameters} if several_processes() else set()
        for parameter in (p for group in optimizer.param_groups for p in group["params"] if id(p) in own):
            if parameter.grad is None:  # no cell here, maybe in another process
                parameter.grad = self.module.decoding.zero_row_gradient(parameter)
            parameter.grad = parameter.grad.coalesce()
        average_rows(
            p.grad for group in optimizer.param_groups for p in group["params"] if id(p) in own and p.grad is not None
        )

    @property
    def gates(self) -> list[FeatureGate]:
        """Gates in front of encoders; none for most models."""
        return list(getattr(self.module, "gates", ()))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set price and noise of gates, and the features that all processes decode."""
        if several_processes() and self.row_parameters:
            self.module.decoding.stream = self.step
        for gate in self.gates:
            gate.anneal(self.step / self.n_steps)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the parameters of gates where they have a gradient."""
        for gate in self.gates:
            gate.project()
        if self.gates and self.step == GATE_SCALE_STEP:
            # steps of Adam have the size of their sign: gates of features that matter little should move little
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    gated = group["params"] if group.get("gates") else []  # output layers have sparse gradients
                    gradients = [p.grad.ravel() for p in gated if p.grad is not None]
                    if gradients:
                        group["eps"] = max(float(torch.cat(gradients).square().mean().sqrt()), 1e-12)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network and stop at the first loss that is not finite."""
        out = self.module(*args, **kwargs)
        try:
            self.watch.add(out[2])
        except NonFiniteLossError:
            self.failed = args[0] if args else None
            raise
        return out

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Return the loss of one batch."""
        _, _, output = self.forward(batch, loss_kwargs={"kl_weight": self.kl_weight})
        self.means["train"].add(output)
        self._show(output)
        return output.loss

    def _show(self, output: LossOutput) -> None:
        """Hand the loss to the progress bar, if there is one."""
        if self._trainer is not None and self.trainer.progress_bar_callback is not None:
            self.log("train_loss", output.loss, prog_bar=True, logger=False, batch_size=output.n_obs_minibatch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Evaluate one batch with the full weight of the divergence, so that epochs can be compared."""
        _, _, output = self.forward(batch, loss_kwargs={"kl_weight": 1.0})
        self.means["validation"].add(output)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        self.log_epoch()

    def log_epoch(self) -> None:
        """Log the means of the epoch, unless this was done; what stores the state of training calls it before."""
        self.watch.check()
        self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the means of the pass; early stopping reads them."""
        self._log_means("validation")

    def _log_means(self, mode: str) -> None:
        if self.means[mode].empty or self._trainer is None:
            return
        names = {"loss": f"{mode}_loss"}
        values = {names.get(k, f"{k}_{mode}"): v for k, v in self.means[mode].pop().items()}
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        if self.trainer.sanity_checking:
            return
        epoch = self.trainer.current_epoch
        self.history.add(epoch, values)
        for logger in self.trainer.loggers:  # Lightning's own way costs a table of results per name
            logger.log_metrics({**values, "epoch": epoch}, step=self.trainer.global_step)


def is_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Return whether a parameter is the matrix of a linear map: its own name ends in ``weight``, and it has two axes.

    Biases may have two axes as well, a row per token or batch; learned tokens have as many, but other names.
    """
    return parameter.dim() >= 2 and name.rpartition(".")[2].endswith("weight")
