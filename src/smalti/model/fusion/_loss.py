"""The objective of FusionClustering, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from scvi.module.base import LossOutput

from smalti.losses import deep_cca, masked_average

from ._pseudo import pseudo_labels, soft_cross_entropy, within_cluster_partners

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smalti.losses import CCAState

    from ._options import FusionOptions, FusionWeights
    from ._pseudo import PseudoLabels

    Head = Callable[[Tensor], Tensor]
    """Unit vectors ``(n, m)`` to logits ``(n, K)``."""


@dataclass(frozen=True)
class FusionOutputs:
    """What the network says of one minibatch; all the objective looks at."""

    present: dict[str, Tensor]
    """``(B,)`` bool by modality."""
    embeddings: dict[str, Tensor]
    """``(B, m)`` by modality, zero where absent."""
    weights: dict[str, Tensor]
    """Weight of each modality in the fusion."""
    reconstruction: dict[str, Tensor]
    """``(B,)`` loss per cell by modality, zero where absent."""
    head: Head
    n_clusters: int
    n_correlated: int
    stage: int
    """1, 2 or 3."""
    cca: CCAState
    first: Tensor | None = None
    """``(B,)`` clusters that the head started from, -1 where there is none."""
    pairs: dict[tuple[str, str], Tensor] | None = None
    """Positions of the cells that have both of two modalities."""


def fuse_units(embeddings: dict[str, Tensor], present: dict[str, Tensor], weights: dict[str, Tensor]) -> Tensor:
    r"""Return :math:`\sum_v w_v N(e_v) / \sum_v w_v` over the present modalities, ``(B, m)``, N to unit length."""
    share = {name: weights[name] * here for name, here in present.items()}
    total = sum(share[name][:, None] * F.normalize(embeddings[name].float(), dim=1, eps=1e-8) for name in present)
    return total / sum(share.values()).clamp(min=1e-8)[:, None]  # type: ignore[union-attr,operator]


def fusion_loss(weights: FusionWeights, options: FusionOptions, outputs: FusionOutputs) -> LossOutput:
    """Compute every term on one minibatch; stages say which of them count.

    Before stage II the head has learnt nothing: its terms then count as those of a head without an opinion, log K, so
    that epochs of different stages can be compared.
    """
    present, embeddings, stage = outputs.present, outputs.embeddings, outputs.stage
    zero = next(iter(embeddings.values())).sum() * 0.0
    parts: dict[str, Tensor] = {}
    for name, here in present.items():
        parts[f"nll_{name}"] = masked_average(outputs.reconstruction[name], here)
    parts["data"] = sum((parts[f"nll_{name}"] for name in present), zero)
    extra: dict[str, Tensor] = {}
    if weights.correlation > 0:
        views, rows, pairs = embeddings, present, outputs.pairs
        if options.unpaired == "borrow" and stage >= 2:
            (views, rows), pairs = _with_borrowed(options, outputs), None
        parts["correlation"] = _correlation(views, rows, options, outputs, zero, pairs=pairs)
    if weights.agreement > 0:
        parts["agreement"] = _agreement(embeddings, present, zero)
    if weights.start > 0 and options.start == "joint":
        parts["start"] = zero + math.log(outputs.n_clusters)
        if stage >= 2 and outputs.first is not None:
            parts["start"] = _start(outputs, outputs.first)
    if weights.pseudo > 0 or weights.consistency > 0:
        fused = fuse_units(embeddings, present, outputs.weights)
        unknown = zero + math.log(outputs.n_clusters)
        taught = None if stage < 2 else _teach(options, outputs, fused)
        if weights.pseudo > 0:
            parts["pseudo"] = unknown if taught is None else _pseudo(outputs, fused, taught)
        if weights.consistency > 0:
            parts["consistency"] = unknown if stage < 2 else _consistency(outputs, fused)
        extra["coverage"] = zero.detach() if taught is None else taught.coverage
        if weights.permuted > 0 or weights.permuted_correlation > 0:
            parts |= _permuted(weights, options, outputs, taught, zero)
    total = zero
    for term, value in parts.items():
        if not term.startswith("nll_"):
            total = total + getattr(weights, term) * value
    logged = {key: value.detach() for key, value in (parts | extra).items()}
    n = len(next(iter(present.values())))
    return LossOutput(
        loss=total,
        reconstruction_loss={name: value.detach() for name, value in outputs.reconstruction.items()},
        kl_local=zero.detach().expand(n),
        extra_metrics={**logged, "monitor": total.detach()},
    )


def _correlation(
    views: dict[str, Tensor],
    present: dict[str, Tensor],
    options: FusionOptions,
    outputs: FusionOutputs,
    zero: Tensor,
    n_components: int | None = None,
    pairs: dict[tuple[str, str], Tensor] | None = None,
) -> Tensor:
    """Return minus the mean canonical correlation, with the gradient of deep CCA, that of minus the log of its sum."""
    n_components = outputs.n_correlated if n_components is None else n_components
    found = deep_cca(views, present, n_components=n_components, ridge=options.ridge, state=outputs.cca, pairs=pairs)
    if not found.correlations:
        return zero + found.loss
    reached = torch.stack([value.mean() for value in found.correlations.values()]).mean()
    return found.loss - found.loss.detach() - reached


def _agreement(embeddings: dict[str, Tensor], present: dict[str, Tensor], zero: Tensor) -> Tensor:
    """Return half the squared distance of unit embeddings, mean over paired cells and pairs of modalities."""
    names, terms = list(present), []
    units = {name: F.normalize(embeddings[name].float(), dim=1, eps=1e-8) for name in names}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = present[a] & present[b]
            terms.append(masked_average(0.5 * (units[a] - units[b]).square().sum(dim=1), both))
    return torch.stack(terms).mean() if terms else zero


def _teach(options: FusionOptions, outputs: FusionOutputs, fused: Tensor) -> PseudoLabels:
    return pseudo_labels(
        torch.softmax(outputs.head(fused.detach()), dim=1),
        outputs.embeddings,
        outputs.present,
        coverage=options.coverage,
        threshold=options.threshold,
        balance=options.balance,
        unpaired_margin=options.margin if options.unpaired == "pseudo" else None,
    )


def _start(outputs: FusionOutputs, first: Tensor) -> Tensor:
    """Return the cross-entropy of the head on fused cells against the clusters of the start.

    Not on each modality of paired cells: encoders would learn by heart what their modality does not see.
    """
    known = first[:, None] == torch.arange(outputs.n_clusters, device=first.device)
    fused = fuse_units(outputs.embeddings, outputs.present, outputs.weights)
    return soft_cross_entropy(outputs.head(fused), known.to(fused.dtype))


def _pseudo(outputs: FusionOutputs, fused: Tensor, taught: PseudoLabels) -> Tensor:
    """Return the mean over modalities and the fusion of the cross-entropy against pseudo-labels."""
    terms = [soft_cross_entropy(outputs.head(fused), taught.fused)]
    for name, labels in taught.by_modality.items():
        unit = F.normalize(outputs.embeddings[name], dim=1, eps=1e-8)
        terms.append(soft_cross_entropy(outputs.head(unit), labels))
    return torch.stack(terms).mean()


def _consistency(outputs: FusionOutputs, fused: Tensor) -> Tensor:
    """Return the cross-entropy of each modality's clusters against the fused ones, paired cells."""
    paired = torch.stack(list(outputs.present.values())).sum(dim=0) >= 2
    target = torch.softmax(outputs.head(fused), dim=1).detach()
    terms = []
    for name, here in outputs.present.items():
        unit = F.normalize(outputs.embeddings[name], dim=1, eps=1e-8)
        terms.append(soft_cross_entropy(outputs.head(unit), target * (here & paired)[:, None]))
    return torch.stack(terms).mean()


def _permuted(
    weights: FusionWeights,
    options: FusionOptions,
    outputs: FusionOutputs,
    taught: PseudoLabels | None,
    zero: Tensor,
) -> dict[str, Tensor]:
    """Return the terms of cells whose modalities come from different cells of one pseudo-label."""
    wanted = {name: getattr(weights, name) > 0 for name in ("permuted", "permuted_correlation")}
    found = {name: zero for name, on in wanted.items() if on}
    if taught is None or outputs.stage < 3 or len(taught.by_modality) < 2:
        return found
    rows, cluster = within_cluster_partners(taught.by_modality)
    if len(cluster) == 0:
        return found
    views = {name: outputs.embeddings[name][at] for name, at in rows.items()}
    everywhere = {name: torch.ones_like(cluster, dtype=torch.bool) for name in views}
    if wanted["permuted"]:
        fused = fuse_units(views, everywhere, outputs.weights)
        found["permuted"] = F.cross_entropy(outputs.head(fused), cluster)
    if wanted["permuted_correlation"]:
        r = min(outputs.n_correlated, outputs.n_clusters - 1)
        found["permuted_correlation"] = _correlation(views, everywhere, options, outputs, zero, r)
    return found


def _with_borrowed(options: FusionOptions, outputs: FusionOutputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give cells of one modality partners of the same cluster, and return them below the real pairs."""
    present, embeddings = outputs.present, outputs.embeddings
    count = torch.stack(list(present.values())).sum(dim=0)
    labels = {}
    with torch.no_grad():
        for name, here in present.items():
            p = torch.softmax(outputs.head(F.normalize(embeddings[name].float(), dim=1, eps=1e-8)), dim=1)
            best = p.topk(2, dim=1).values
            clear = here & (count == 1) & (best[:, 0] - best[:, 1] > options.margin)
            labels[name] = F.one_hot(p.argmax(dim=1), p.shape[1]) * clear[:, None]
    rows, _ = within_cluster_partners(labels)
    views = {name: torch.cat([e, e[rows[name]]]) for name, e in embeddings.items()}
    ones = {name: torch.cat([here, torch.ones_like(rows[name], dtype=torch.bool)]) for name, here in present.items()}
    return views, ones
