"""The training plan of a modality game: two optimisers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ._plans import MosaicPlan

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from scvi.module.base import BaseModuleClass

    from ._options import PlanOptions


class AdversarialPlan(MosaicPlan):
    """Plan with a second optimiser for the discriminator: its step first, then the networks', one each per batch.

    The module must have ``discriminator``, ``discriminator_loss(tensors, inference_outputs)``, ``noise_level`` (of the
    burn-in) and ``game_ramp`` (share of the game's weight at this step).

    Parameters
    ----------
    module
        The network.
    options
        Learning rates and the like.
    """

    def __init__(self, module: BaseModuleClass, options: PlanOptions | None = None) -> None:
        super().__init__(module, options)
        self.automatic_optimization = False

    def generator_parameters(self) -> list[torch.nn.Parameter]:
        """Return all parameters but the discriminator's."""
        mine = {id(p) for p in self.module.discriminator.parameters()}
        return [p for p in super().generator_parameters() if id(p) not in mine]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return two optimisers with the same schedule."""
        self._count_batches()
        optimizers = [
            self.make_optimizer(self.generator_parameters()),
            self.make_optimizer(list(self.module.discriminator.parameters())),
        ]
        if self.options.discriminator_lr is not None:
            for group in optimizers[1].param_groups:
                group["lr"] = self.options.discriminator_lr
        return optimizers, [torch.optim.lr_scheduler.LambdaLR(o, self.lr_factor_at) for o in optimizers]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Take the discriminator's steps, then one of the networks."""
        burn_in = self.options.burn_in * self.n_steps
        self.module.noise_level = max(1 - self.step / burn_in, 0.0) if burn_in > 0 else 0.0
        self.module.game_ramp = self.ramp(self.options.game_warmup)
        generator, discriminator = self.optimizers()
        for _ in range(self.options.n_discriminator_steps):
            with torch.no_grad():
                outputs = self.module.inference(**self.module._get_inference_input(batch))
            game = self.module.discriminator_loss(batch, outputs)
            self._step(discriminator, game)
        _, _, output = self.forward(batch, loss_kwargs={"kl_weight": self.kl_weight})
        self._step(generator, output.loss)
        for schedule in self.lr_schedulers():
            schedule.step()
        self.means["train"].add(output, discriminator_loss=game)
        self._show(output)
        return output.loss

    def _step(self, optimizer: Any, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.configure_gradient_clipping(optimizer)
        optimizer.step()
