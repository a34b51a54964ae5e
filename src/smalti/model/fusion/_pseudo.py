"""Pseudo-labels: which cells of a batch teach which cluster, and cells put together within a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ._options import Balance


class PseudoLabels(NamedTuple):
    """What a batch teaches itself."""

    by_modality: dict[str, Tensor]
    """``(B, K)`` rows that sum to 1, or to 0 for cells that do not teach."""
    fused: Tensor
    """``(B, K)``, mean over the modalities in which a cell teaches."""
    coverage: Tensor
    """Share of the paired cells that teach in at least one modality."""


@torch.no_grad()
def pseudo_labels(
    probability: Tensor,
    views: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    *,
    coverage: float,
    threshold: float,
    balance: Balance,
    unpaired_margin: float | None = None,
) -> PseudoLabels:
    r"""Return pseudo-labels of a batch (Eisenberg et al. 2025).

    The cells of which the fused head is surest are the centre :math:`c_{vj}` of cluster :math:`j` in modality
    :math:`v`; a cell gets label :math:`j` in :math:`v` if its cosine with this centre is among the :math:`k_j` largest
    and above the threshold. Several labels are weighted by :math:`(1 + s_{ij}) / 2`. Cells that two modalities label
    differently do not teach.

    Parameters
    ----------
    probability
        ``(B, K)``, what the head says of fused cells.
    views
        ``(B, m)`` embeddings by modality.
    present
        ``(B,)`` bool by modality.
    coverage, threshold, balance
        See :class:`~smalti.model.FusionOptions`.
    unpaired_margin
        Lead of the best centre over the second with which cells of one modality teach, too; ``None``: they do not.
    """
    paired = torch.stack(list(present.values())).sum(dim=0) >= 2
    n_clusters = probability.shape[1]
    known = torch.where(paired[:, None], probability, 0.0)
    size = known.sum(dim=0) if balance == "proportional" else (paired.sum() / n_clusters).expand(n_clusters)
    wanted = (coverage * size).round().clamp(min=1)
    sure = _among_largest(torch.where(paired[:, None], probability, -torch.inf), wanted) & paired[:, None]
    labels = {}
    for name, e in views.items():
        here = present[name]
        chosen = (sure & here[:, None]).to(e.dtype)
        centre = F.normalize(chosen.T @ torch.where(here[:, None], e, 0.0), dim=1, eps=1e-8)
        cosine = F.normalize(e, dim=1, eps=1e-8) @ centre.T
        usable = here & paired
        ranked = torch.where(usable[:, None], cosine, -torch.inf)
        picked = _among_largest(ranked, wanted) & (cosine > threshold) & usable[:, None]
        if unpaired_margin is not None and n_clusters > 1:
            best = cosine.topk(2, dim=1)
            clear = here & ~paired & (best.values[:, 0] > threshold)
            clear &= best.values[:, 0] - best.values[:, 1] > unpaired_margin
            picked |= clear[:, None] & F.one_hot(best.indices[:, 0], n_clusters).bool()
        weight = picked * (1 + cosine) / 2
        labels[name] = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-8)
    used = {name: table.sum(dim=1) > 0.5 for name, table in labels.items()}
    top = {name: table.argmax(dim=1) for name, table in labels.items()}
    clash = torch.zeros_like(paired)
    names = list(labels)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            clash |= used[a] & used[b] & (top[a] != top[b])
    labels = {name: torch.where(clash[:, None], 0.0, table) for name, table in labels.items()}
    total = torch.stack(list(labels.values())).sum(dim=0)
    fused = total / total.sum(dim=1, keepdim=True).clamp(min=1e-8)
    taught = (total.sum(dim=1) > 0) & paired
    return PseudoLabels(labels, fused, taught.sum() / paired.sum().clamp(min=1))


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the rows of ``labels`` that are not zero; 0 if there are none."""
    per_cell = -(labels * F.log_softmax(logits, dim=1)).sum(dim=1)
    return per_cell.sum() / (labels.sum(dim=1) > 0).sum().clamp(min=1)


@torch.no_grad()
def within_cluster_partners(labels: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Draw cells whose modalities come from different cells of one pseudo-label.

    For every cluster as many as the modality with the fewest cells of it allows, drawn independently per modality,
    without repeats.

    Parameters
    ----------
    labels
        ``(B, K)`` pseudo-labels by modality.

    Returns
    -------
    ``(n,)`` rows by modality, and ``(n,)`` the cluster they share.
    """
    top = {name: torch.where(table.sum(dim=1) > 0.5, table.argmax(dim=1), -1) for name, table in labels.items()}
    rows: dict[str, list[Tensor]] = {name: [] for name in labels}
    shared = []
    first = next(iter(labels.values()))
    for cluster in range(first.shape[1]):
        members = {name: torch.nonzero(code == cluster)[:, 0] for name, code in top.items()}
        n = min(len(cells) for cells in members.values())
        for name, cells in members.items():
            rows[name].append(cells[torch.randperm(len(cells), device=cells.device)[:n]])
        shared.append(torch.full((n,), cluster, dtype=torch.long, device=first.device))
    return {name: torch.cat(cells) for name, cells in rows.items()}, torch.cat(shared)


def _among_largest(values: Tensor, wanted: Tensor) -> Tensor:
    """Return which entries are among the ``wanted[j]`` largest of column ``j``, ``(B, K)`` bool."""
    rank = values.argsort(dim=0, descending=True, stable=True).argsort(dim=0, stable=True)
    return rank < wanted
