"""Options of training plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smalti._validate import check_choice, check_count, check_in_range, check_positive

LRSchedule = Literal["cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How weights are updated; pass them as ``model.train(plan_kwargs={...})``."""

    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    decay: Literal["all", "matrices"] = "all"
    """What decays: all weights, or those of linear maps alone, without biases, norms, learned tokens and scales."""
    n_steps_warmup: int = 20
    """Steps over which the learning rate rises linearly."""
    warmup_share: float | None = None
    """Share of all steps over which it rises, instead of ``n_steps_warmup``."""
    lr_schedule: LRSchedule = "cosine"
    """``"cosine"`` falls to zero at the last epoch, which makes results insensitive to the length of training."""
    kl_warmup: float = 0.25
    """Share of all steps over which the weight of the divergence rises from 0 to 1."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Moments of AdamW; games are often played with (0.5, 0.999)."""
    game_warmup: float = 0.0
    """Share of all steps over which the encoders' part in a modality game rises from 0 to its weight."""
    gradient_clip: float | None = 10.0
    """Largest norm of the gradient; ``None`` for no limit."""
    optimizer: Literal["AdamW", "RMSprop"] = "AdamW"
    """``"RMSprop"`` is that of the release of CLUE."""
    discriminator_lr: float | None = None
    """Learning rate of the discriminator, by default that of the networks."""
    n_discriminator_steps: int = 1
    """Discriminator steps per batch."""
    burn_in: float = 0.17
    """Share of all steps over which noise on the discriminator's input falls from 1 to 0 standard deviations
    (release of CLUE: 12 of 72 units)."""

    gate_lr: float = 1e-2
    """Peak learning rate of the parameters of gates, which have no weight decay."""

    compile: bool | str = False
    """Whether encoders and decoders run compiled (:func:`torch.compile`, with a backend of that name). It takes a
    minute at the start and pays in long trainings on a GPU."""

    def __post_init__(self) -> None:
        for name in ("lr", "gate_lr", "weight_decay", "n_steps_warmup"):
            check_positive(getattr(self, name), name, allow_zero=True)
        for name in ("kl_warmup", "burn_in", "game_warmup"):
            check_in_range(getattr(self, name), 0, 1, name)
        if self.warmup_share is not None:
            check_in_range(self.warmup_share, 0, 1, "warmup_share")
        for beta in self.betas:
            check_in_range(beta, 0, 1, "betas")
        if self.gradient_clip is not None:
            check_positive(self.gradient_clip, "gradient_clip")
        if self.discriminator_lr is not None:
            check_positive(self.discriminator_lr, "discriminator_lr", allow_zero=True)
        check_choice(self.lr_schedule, ("cosine", "constant"), "lr_schedule")
        check_choice(self.decay, ("all", "matrices"), "decay")
        check_choice(self.optimizer, ("AdamW", "RMSprop"), "optimizer")
        check_count(self.n_discriminator_steps, "n_discriminator_steps")
