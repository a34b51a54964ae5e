"""The objective of UnpairedCCA, term by term, and both sides of its modality game."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from scvi.module.base import LossOutput

from smalti.losses import (
    covariance_drift,
    energy_distance,
    max_sliced_wasserstein,
    mmd,
    modality_game,
    plan_correlation,
    structural_similarity,
)

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.losses import Player

    from ._options import Align, UnpairedOptions

PAIRWISE = {"mmd": mmd, "max_sliced": max_sliced_wasserstein}


class BatchPlan(NamedTuple):
    """The plan between the cells of two modalities in a minibatch."""

    plan: Tensor
    """``(n_a, n_b)``."""
    entropy: Tensor | None
    """Of plans with gradients."""
    link_cost: Tensor | None
    """Cost of evidence under a plan with gradients, per cell."""


class Opinion(NamedTuple):
    """What the discriminator says of the profiles of a minibatch."""

    logits: Tensor
    """``(N, M)``."""
    modality: Tensor
    """``(N,)`` true codes."""
    parts: tuple[slice, ...] | None = None
    """Rows of each modality by its code."""


@dataclass(frozen=True)
class UnpairedOutputs:
    """What the network says of one minibatch."""

    latents: dict[str, Tensor]
    """``(n, n_latent)`` by modality, cells that have it, not normalised."""
    n_cells: int
    plans: dict[tuple[str, str], BatchPlan]
    """By pair of modalities that have evidence."""
    has_gradients: bool
    """Whether plans depend on latents (solver ``"gumbel"``)."""
    variance: Tensor
    """``(n_latent,)`` of the latents at the start."""
    judged: Opinion | None
    """``None`` without a modality game."""


def unpaired_loss(
    options: UnpairedOptions, align: Align, outputs: UnpairedOutputs, *, game_ramp: float = 1.0
) -> LossOutput:
    """Compute every term of the objective on one minibatch.

    Parameters
    ----------
    options, align
        Of the model.
    outputs
        What the network says.
    game_ramp
        Share of the game that counts at this step, in [0, 1].
    """
    latents = outputs.latents
    zero = sum((z.sum() * 0.0 for z in latents.values()), outputs.variance.new_zeros(()))
    parts: dict[str, Tensor] = {"correlation": zero, "drift": zero}
    structured = options.structure_weight > 0 or align == "ssim"
    if structured:
        parts["structure"] = zero
    if outputs.has_gradients:
        parts |= {"entropy": zero, "link_cost": zero}
    for (a, b), found in outputs.plans.items():
        parts["correlation"] = parts["correlation"] + 1 - plan_correlation(latents[a], latents[b], found.plan)
        if structured:
            parts["structure"] = parts["structure"] + structural_similarity(
                unit(latents[a]), unit(latents[b]), found.plan
            )
        if found.entropy is not None and found.link_cost is not None:
            parts["entropy"] = parts["entropy"] + found.entropy
            parts["link_cost"] = parts["link_cost"] + found.link_cost
    for name in ("correlation", "structure", "entropy", "link_cost"):
        if name in parts:
            parts[name] = parts[name] / max(len(outputs.plans), 1)
    for z in latents.values():
        parts["drift"] = parts["drift"] + covariance_drift(z, outputs.variance) / len(latents)
    if align in ("mmd", "max_sliced", "energy"):
        parts["align"] = zero + _distance(align, latents, outputs.variance.new_zeros(()))
    weights = {
        "correlation": 1.0,
        "drift": options.drift,
        "entropy": options.entropy,
        "link_cost": options.link_cost,
        "align": options.align_weight,
        "structure": options.structure_weight + (options.align_weight if align == "ssim" else 0.0),
    }
    total = zero + sum(weights[name] * value for name, value in parts.items())
    monitor = total.detach()
    if outputs.judged is not None:
        parts["adversarial"] = zero + _game("encoder", outputs.judged)
        total = total + game_ramp * options.align_weight * parts["adversarial"]
    return LossOutput(
        loss=total,
        reconstruction_loss=total.detach().expand(outputs.n_cells),
        kl_local=total.new_zeros(outputs.n_cells),
        extra_metrics={**{name: value.detach() for name, value in parts.items()}, "monitor": monitor},
    )


def discriminator_loss(judged: Opinion, penalty: Tensor) -> Tensor:
    """Return the discriminator's side: to tell modalities apart, with a penalty on the gradient of its opinion."""
    return _game("discriminator", judged) + penalty


def _game(player: Player, judged: Opinion) -> Tensor:
    """Return the loss of one player."""
    return modality_game("ovr", player, judged.logits, judged.modality, parts=judged.parts)


def unit(z: Tensor) -> Tensor:
    """Return rows of unit length."""
    return F.normalize(z.float(), dim=1, eps=1e-8)


def _distance(align: Align, latents: dict[str, Tensor], nothing: Tensor) -> Tensor:
    """Return the distance between the modalities' latents as distributions."""
    z = {name: unit(value) for name, value in latents.items() if len(value)}
    if len(z) < 2:
        return nothing
    if align == "energy":
        codes = torch.cat([torch.full((len(v),), i, device=v.device) for i, v in enumerate(z.values())])
        return energy_distance(torch.cat(list(z.values())), codes, len(z))
    return torch.stack([PAIRWISE[align](z[a], z[b]) for a, b in combinations(z, 2)]).mean()
