"""The objective of CLUE, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from scvi.module.base import LossOutput

from smalti.data import UNLABELED
from smalti.losses import (
    agreement,
    info_nce,
    kl_standard_normal,
    masked_average,
    modality_confusion,
    modality_cross_entropy,
)
from smalti.model.parts import modality_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smalti.data import Cells
    from smalti.model.parts import GatePrice
    from smalti.nn import Gaussian

    from ._options import CLUEOptions, CLUEWeights

    Reconstruct = Callable[[str, list[tuple[Tensor, Tensor]]], list[Tensor]]
    """Modality and any number of full latents ``(B, K d)``, each with positions ``(n,)`` of cells, to the losses of
    these cells, ``(n,)`` each, mean over features."""


class Profiles(NamedTuple):
    """What the discriminator says of the profiles of a minibatch, one row per cell and modality."""

    logits: Tensor
    """``(N, M)``."""
    modality: Tensor
    """``(N,)`` true codes."""
    weight: Tensor | None
    """``(N,)``; low for populations without a counterpart in another modality."""


@dataclass(frozen=True)
class CLUEOutputs:
    """What the network says of one minibatch; all the objective looks at besides reconstructions."""

    present: dict[str, Tensor]
    """``(B,)`` bool by modality."""
    cells: Cells
    """The same as positions."""
    latents: dict[str, Gaussian]
    """Posterior of all blocks side by side, ``(B, K d)``, by source."""
    aligned: dict[str, Tensor]
    """``(B, J, n_align)`` unit vectors of each alignment encoder by modality (in evaluation linear CCA's are the last);
    empty without the contrastive term."""
    samples: dict[str, Tensor]
    """One sample of each posterior."""
    fused: Tensor
    """The samples of a cell's modalities, fused."""
    n_features: dict[str, int]
    matched: tuple[tuple[str, str], ...]
    """Pairs of modalities with training cells in common."""
    log_inverse_temperature: Tensor
    labelled: dict[str, tuple[Tensor, Tensor]] | None
    """Logits and labels, -1 where not known, of profiles by modality; ``None`` without a label head."""
    judged: Profiles | None
    """``None`` without a modality game."""
    gates: GatePrice | None


def clue_loss(
    weights: CLUEWeights,
    options: CLUEOptions,
    outputs: CLUEOutputs,
    reconstruct: Reconstruct,
    *,
    kl_weight: float | Tensor = 1.0,
    label_smoothing: float = 0.0,
) -> LossOutput:
    """Compute every term of the objective on one minibatch (spec of terms: Tu et al. 2022 and its release).

    Reconstructions are means over cells and features, the divergence is divided by the number of features, so that
    wide and narrow modalities weigh the same. The cross and agreement terms use only cells with at least two
    modalities: for others they would be a copy of the self term, or zero.

    Parameters
    ----------
    weights, options
        Of the model.
    outputs
        What the network says.
    reconstruct
        Losses of decoding a modality from any latents, all of them in one call.
    kl_weight
        Share of the divergence that counts at this step, in [0, 1].
    label_smoothing
        Of the contrastive term.
    """
    present, cells = outputs.present, outputs.cells
    n_cells = len(outputs.fused)
    share = modality_weights(weights.modality, list(outputs.n_features))
    parts: dict[str, Tensor] = {}
    rec_per_cell: dict[str, Tensor] = {}
    zero = outputs.log_inverse_temperature.new_zeros(())
    kl_per_cell = zero.new_zeros(n_cells)
    data, kl, joint, cross = zero, zero, zero, zero
    for name, here in present.items():
        n_features = outputs.n_features[name]
        asked = {("data", name): (outputs.samples[name], cells.having[name])} if weights.data > 0 else {}
        if weights.joint > 0:
            asked["joint", name] = (outputs.fused, cells.several[name])
        if weights.cross > 0:
            asked |= {("cross", m): (outputs.samples[m], cells.both(m, name)) for m in present if m != name}
        found = dict(zip(asked, reconstruct(name, list(asked.values())), strict=True))
        divergence = kl_standard_normal(*outputs.latents[name]) * here
        kl = kl + share[name] * masked_average(divergence, here) / n_features
        kl_per_cell = kl_per_cell + divergence.detach()
        parts[f"nll_{name}"], rec_per_cell[name] = zero, zero.new_zeros(n_cells)
        for (term, _), loss in found.items():
            mean = loss.sum() / max(len(loss), 1)
            if term == "joint":
                joint = joint + mean
            elif term == "cross":
                cross = cross + mean
            else:
                data, parts[f"nll_{name}"] = data + share[name] * mean, mean
                rec_per_cell[name] = rec_per_cell[name].index_copy(0, cells.having[name], loss.detach() * n_features)
    parts["data"], parts["kl"], parts["joint"], parts["cross"] = data, kl, joint, cross
    if weights.agreement > 0:
        parts["agreement"] = sum(
            (
                agreement(outputs.samples[name], outputs.fused, cells.several[name], cosine=options.normalize_latent)
                for name in present
            ),
            zero,
        )
    if outputs.aligned:
        parts["contrastive"] = _contrastive(outputs, options, label_smoothing)
    if outputs.labelled is not None:
        parts["label"] = _label(outputs.labelled, zero)
    total = zero
    for term, value in parts.items():
        if not term.startswith("nll_"):
            scale = weights.data * kl_weight * weights.kl if term == "kl" else getattr(weights, term)
            total = total + scale * value
    monitor = total.detach()
    if outputs.judged is not None:
        parts["adversarial"] = encoder_game(outputs.judged, options)
        total = total + weights.adversarial * parts["adversarial"]
    if outputs.gates is not None:
        total = total + outputs.gates.total
        parts |= outputs.gates.terms()
    return LossOutput(
        loss=total,
        reconstruction_loss=rec_per_cell,
        kl_local=kl_per_cell,
        n_obs_minibatch=n_cells,
        extra_metrics={**{key: value.detach() for key, value in parts.items()}, "monitor": monitor},
    )


def encoder_game(judged: Profiles, options: CLUEOptions) -> Tensor:
    """Return the encoders' side of the modality game: to be taken for any modality, or for another one."""
    if options.adversary == "uniform":
        return modality_confusion(judged.logits, judged.weight)
    return -modality_cross_entropy(judged.logits, judged.modality, judged.weight)


def discriminator_loss(judged: Profiles) -> Tensor:
    """Return the discriminator's side: to tell modalities apart."""
    return modality_cross_entropy(judged.logits, judged.modality, judged.weight)


def _contrastive(outputs: CLUEOutputs, options: CLUEOptions, smoothing: float) -> Tensor:
    """Mean over pairs of modalities that are both in the minibatch, and over alignment encoders."""
    aligned, cells, log_scale = outputs.aligned, outputs.cells, outputs.log_inverse_temperature
    losses, n = [], options.n_aligners
    for a, b in combinations(aligned, 2):
        if (a, b) in outputs.matched or (b, a) in outputs.matched:
            both = cells.both(a, b)
            in_a, in_b = (both, both) if options.negatives == "paired" else (cells.having[a], cells.having[b])
            x, y = aligned[a][:, :n], aligned[b][:, :n]
            losses.append(info_nce(x, y, in_a, in_b, log_scale, smoothing, pair=both))
    return torch.stack(losses).mean() if losses else 0.0 * log_scale


def _label(labelled: dict[str, tuple[Tensor, Tensor]], zero: Tensor) -> Tensor:
    """Cross-entropy of the label head on every labelled profile."""
    total = zero
    for logits, labels in labelled.values():
        loss = F.cross_entropy(logits.float(), labels, reduction="sum", ignore_index=UNLABELED)
        total = total + loss / (labels != UNLABELED).sum().clamp(min=1)
    return total
