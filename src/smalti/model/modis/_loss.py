"""The objective of MODIS, term by term, and both sides of its modality game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from scvi.module.base import LossOutput

from smalti.data import UNLABELED
from smalti.losses import (
    class_cross_entropy,
    divergence_clustering,
    energy_distance,
    kl_standard_normal,
    modality_game,
)
from smalti.model.parts import spread_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smalti.losses import Player
    from smalti.model.parts import GatePrice
    from smalti.nn import Gaussian, JudgedLatent

    from ._options import MODISOptions, MODISWeights


class Reconstruct(Protocol):
    """Loss of the cells ``rows``, mean over features, of decoding a modality from full or shared latents."""

    def __call__(self, name: str, z: Tensor, rows: Tensor, shared_only: bool = False) -> Tensor:
        """Return ``(n,)``."""


class Profiles(NamedTuple):
    """The shared latents of all modalities of a minibatch, one row per measured profile."""

    mean: Tensor
    """``(N, n_latent)``."""
    sample: Tensor
    """``(N, n_latent)``."""
    modality: Tensor
    """``(N,)`` position of the modality."""
    labels: Tensor
    """``(N,)``, -1 where not known."""
    parts: tuple[slice, ...] | None = None
    """Rows of each modality by its position, empty for one that the minibatch does not have."""


class JudgedProfiles(NamedTuple):
    """What the discriminator says of profiles."""

    said: JudgedLatent
    rows: Profiles
    frequency: Tensor
    """``(M, n_classes)`` expected share of each class by modality."""
    has_labels: bool
    """Whether the data have labels; otherwise classes are clusters."""

    @property
    def has_game(self) -> bool:
        """Whether modalities are told apart at all."""
        return self.said.modality.shape[1] > 0


@dataclass(frozen=True)
class MODISOutputs:
    """What the network says of one minibatch; all the objective looks at besides reconstructions."""

    present: dict[str, Tensor]
    """``(B,)`` bool by modality."""
    cells: dict[str, Tensor]
    """The same as positions, ``(n,)`` int64."""
    pairs: dict[tuple[str, str], Tensor]
    """Positions of the cells that have both of two modalities."""
    latents: dict[str, Gaussian]
    """Posterior of the ``n`` cells that have a modality, shared part first, ``(n, n_latent + n_private)``."""
    borrowed: dict[str, Tensor]
    """``(n,)`` bool: rows whose input was altered, so that it is not the target."""
    samples: dict[str, Tensor]
    n_latent: int
    n_features: dict[str, int]
    detach_shared: bool
    """Whether reconstruction leaves the shared latent alone."""
    judged: Callable[[], JudgedProfiles]
    gates: GatePrice | None


def modis_loss(
    weights: MODISWeights,
    options: MODISOptions,
    outputs: MODISOutputs,
    reconstruct: Reconstruct,
    *,
    kl_weight: float | Tensor = 1.0,
    game_ramp: float = 1.0,
) -> LossOutput:
    """Compute every term of the encoders and decoders on one minibatch.

    Parameters
    ----------
    weights, options
        Of the model.
    outputs
        What the network says.
    reconstruct
        Loss of decoding a modality.
    kl_weight, game_ramp
        Shares of the divergences, and of game and alignment, that count at this step, in [0, 1].
    """
    d = outputs.n_latent
    first = next(iter(outputs.samples.values()))
    zero = first.new_zeros((), dtype=torch.float32)
    names = ("data", "shared", "kl", "kl_shared", "consistency", "cross")
    parts: dict[str, Tensor] = dict.fromkeys(names, zero)
    n_cells = len(next(iter(outputs.present.values())))
    rec_per_cell, kl_per_cell, nll = {}, first.new_zeros(n_cells, dtype=torch.float32), {}
    for name, here in outputs.cells.items():
        latent, sample = outputs.latents[name], outputs.samples[name]
        shared, private = sample[:, :d], sample[:, d:]
        z = torch.cat([shared.detach() if outputs.detach_shared else shared, private], dim=1)
        own = reconstruct(name, z, here)
        kept = ~outputs.borrowed[name]
        nll[f"nll_{name}"] = _mean(own, kept)
        parts["data"] = parts["data"] + nll[f"nll_{name}"]
        divergence = kl_standard_normal(latent.mean[:, :d], latent.scale[:, :d])
        parts["kl_shared"] = parts["kl_shared"] + _mean(divergence)
        kl_per_cell = kl_per_cell + spread_rows(divergence.detach(), here, n=n_cells)
        rec_per_cell[name] = spread_rows(own.detach() * outputs.n_features[name], here, n=n_cells)
        if options.n_private:
            divergence = kl_standard_normal(latent.mean[:, d:], latent.scale[:, d:])
            parts["kl"] = parts["kl"] + _mean(divergence) / outputs.n_features[name]
            kl_per_cell = kl_per_cell + spread_rows(divergence.detach(), here, n=n_cells)
            if weights.shared > 0:
                parts["shared"] = parts["shared"] + _mean(reconstruct(name, shared.detach(), here, True), kept)
    parts |= _paired(weights, outputs, reconstruct, zero)
    judged = outputs.judged()
    classes = class_terms(weights, options, judged)
    group = comparable(options, judged)
    if weights.alignment > 0:
        n_modalities = len(judged.frequency)
        rows, n_groups = judged.rows, max(judged.frequency.shape[1], 1)
        parts["alignment"] = energy_distance(rows.mean, rows.modality, n_modalities, group, n_groups=n_groups)
    total = sum(classes.values(), zero)
    # what grows with the spread of latents tells nothing of the fit: it is left out of what early stopping looks at
    monitor = classes.get("label", zero).detach()
    for term, value in parts.items():
        ramp = {"kl": kl_weight, "kl_shared": kl_weight, "alignment": game_ramp}.get(term, 1.0)
        total = total + ramp * getattr(weights, term) * value
        if term in ("data", "shared", "kl", "cross"):
            monitor = monitor + getattr(weights, term) * value.detach()
    parts |= {name: value / getattr(weights, name) for name, value in classes.items()}
    if judged.has_game:
        parts["adversarial"] = _game(options, "encoder", judged, group)
        total = total + game_ramp * weights.adversarial * parts["adversarial"]
    if outputs.gates is not None:
        total = total + outputs.gates.total
        parts |= outputs.gates.terms()
    return LossOutput(
        loss=total,
        reconstruction_loss=rec_per_cell,
        kl_local=kl_per_cell,
        extra_metrics={**{key: value.detach() for key, value in (parts | nll).items()}, "monitor": monitor},
    )


def discriminator_loss(
    weights: MODISWeights, options: MODISOptions, judged: JudgedProfiles, penalty: Tensor | None
) -> Tensor:
    """Return the discriminator's side on profiles that do not depend on encoders: classes, clusters, game, penalty.

    Parameters
    ----------
    weights, options
        Of the model.
    judged
        What the discriminator says.
    penalty
        Squared norm of the gradient of its opinion; ``None`` without.
    """
    total = sum(class_terms(weights, options, judged).values(), judged.said.hidden.sum() * 0.0)
    if judged.has_game:
        total = total + _game(options, "discriminator", judged, comparable(options, judged))
    return total if penalty is None else total + options.gamma * penalty


def _game(options: MODISOptions, player: Player, judged: JudgedProfiles, group: Tensor | None) -> Tensor:
    """Return the loss of one player of the game of modalities."""
    said, rows = judged.said, judged.rows
    n_groups = max(judged.frequency.shape[1], 1)
    return modality_game(options.game, player, said.modality, rows.modality, group, parts=rows.parts, n_groups=n_groups)


def comparable(options: MODISOptions, judged: JudgedProfiles) -> Tensor | None:
    """Return whom a row may be compared with, ``(N,)``: samples of its class, known or confidently predicted."""
    if not options.class_conditional or not judged.has_labels:
        return None
    probability, predicted = judged.said.label.detach().softmax(dim=1).max(dim=1)
    guess = torch.where(probability > options.confidence, predicted, torch.full_like(predicted, UNLABELED))
    return torch.where(judged.rows.labels >= 0, judged.rows.labels, guess)


def class_terms(weights: MODISWeights, options: MODISOptions, judged: JudgedProfiles) -> dict[str, Tensor]:
    """Return the weighted class and clustering terms, which both players minimise, summed over modalities."""
    out: dict[str, Tensor] = {}
    said, rows, n_classes = judged.said, judged.rows, judged.frequency.shape[1]
    if n_classes == 0:
        return out
    here: list[Any] = [part for part in rows.parts or () if part.stop > part.start]
    if rows.parts is None:
        here = [part for part in (rows.modality == i for i in range(len(judged.frequency))) if bool(part.any())]
    if judged.has_labels and weights.label > 0:
        terms = [class_cross_entropy(said.label[r], rows.labels[r], balance=options.balance > 0) for r in here]
        out["label"] = weights.label * torch.stack(terms).sum()
    if n_classes < 2 or weights.separation + weights.corners + weights.usage == 0:
        return out
    if options.kernel == "batch":
        clusters = [divergence_clustering(said.hidden, said.label, judged.frequency[rows.modality])]
    else:
        clusters = [
            divergence_clustering(said.hidden[r], said.label[r], judged.frequency[rows.modality[r][:1]][0])
            for r in here
        ]
    for name in ("separation", "corners", "usage"):
        if getattr(weights, name) > 0:
            out[name] = getattr(weights, name) * torch.stack([getattr(c, name) for c in clusters]).sum()
    return out


def _paired(weights: MODISWeights, outputs: MODISOutputs, reconstruct: Reconstruct, zero: Tensor) -> dict[str, Tensor]:
    """Return consistency and cross reconstruction of samples measured in two modalities."""
    cells, d = outputs.cells, outputs.n_latent
    consistency, cross, n_pairs = zero, zero, 0
    if weights.consistency + weights.cross == 0:
        return {"consistency": zero, "cross": zero}
    for a in cells:
        for b in cells:
            if a == b:
                continue
            both = outputs.pairs[(a, b) if (a, b) in outputs.pairs else (b, a)]
            if not len(both):
                continue
            n_pairs += 1
            at_a, at_b = (torch.searchsorted(cells[m], both) for m in (a, b))
            mean_a, mean_b = outputs.latents[a].mean[at_a, :d], outputs.latents[b].mean[at_b, :d]
            consistency = consistency + (mean_a - mean_b).square().mean()
            if weights.cross > 0:
                cross = cross + _mean(reconstruct(b, outputs.samples[a][at_a, :d], both, True))
    return {"consistency": consistency / max(n_pairs, 1), "cross": cross / max(n_pairs, 1)}


def _mean(values: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return the mean, 0 of nothing."""
    if keep is None:
        return values.sum() / max(len(values), 1)
    return (values * keep).sum() / keep.sum().clamp(min=1)
