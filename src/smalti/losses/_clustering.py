"""Clustering terms on a hidden layer and soft assignments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

BANDWIDTH = 0.15
"""Kernel width as a share of the median squared distance (reference code of MODIS)."""
FLOOR = 1e-9


class ClusteringTerms(NamedTuple):
    """The three terms of :func:`divergence_clustering`, scalars."""

    separation: Tensor
    """LC1: overlap of classes in the hidden layer, in [0, 1]."""
    corners: Tensor
    """LC2: overlap of closeness to the corners of the simplex, in [0, 1]."""
    usage: Tensor
    """LC3: divergence of the mean assignment from the wanted class frequencies, at least 0."""


def gaussian_kernel(hidden: Tensor) -> Tensor:
    r"""Return :math:`\exp(-\|h_i - h_j\|^2 / 2 \sigma^2)`, ``(B, B)``.

    :math:`\sigma^2` is 0.15 times the median of all squared distances between different rows, at least 1 % of their
    mean, and takes no gradient.

    Parameters
    ----------
    hidden
        ``(B, d)``.
    """
    squares = hidden.square().sum(dim=1)
    distance = (squares[:, None] + squares[None, :] - 2 * hidden @ hidden.T).clamp(min=0)
    with torch.no_grad():
        n = len(hidden)
        others = distance.ravel()
        if n > 1:  # all but the diagonal
            others = others[1:].view(n - 1, n + 1)[:, :-1].ravel()
        width = torch.maximum(BANDWIDTH * others.median(), 0.01 * others.mean()).clamp(min=FLOOR)
    return torch.exp(-distance / (2 * width))


def cauchy_schwarz_overlap(assignment: Tensor, kernel: Tensor) -> Tensor:
    r"""Return the mean overlap of pairs of clusters,

    .. math:: \frac{2}{K (K - 1)} \sum_{i < j} \frac{A_i^\top S A_j}{\sqrt{A_i^\top S A_i \; A_j^\top S A_j}}.

    Parameters
    ----------
    assignment
        ``(B, K)``, not negative.
    kernel
        ``(B, B)``, positive semi-definite.

    Returns
    -------
    A scalar in [0, 1]; 0 for a single cluster.
    """
    k = assignment.shape[1]
    if k < 2 or len(assignment) == 0:
        return assignment.sum() * 0.0
    product = assignment.T @ kernel @ assignment
    norm = product.diagonal()
    ratio = product / (norm[:, None] * norm[None, :]).clamp(min=FLOOR).sqrt()
    return ratio.triu(diagonal=1).sum() * 2 / (k * (k - 1))


def divergence_clustering(hidden: Tensor, logits: Tensor, frequency: Tensor | None = None) -> ClusteringTerms:
    r"""Return the terms of deep divergence-based clustering (Kampffmeyer et al. 2019) on one batch.

    With :math:`\alpha` the softmax of the class logits: the overlap of classes under a kernel on the hidden layer, the
    overlap of :math:`P_{ik} = \exp(-\|\alpha_i - e_k\|^2)`, and :math:`\mathrm{KL}(\bar\alpha \,\|\, \pi)` of the mean
    assignment from wanted frequencies :math:`\pi`. The published third term is the negative entropy of
    :math:`\bar\alpha`, which is this one with uniform :math:`\pi` less the constant :math:`\log K`; it is wrong
    wherever classes are not equally frequent.

    Parameters
    ----------
    hidden
        ``(B, d)`` hidden layer that the logits are computed from.
    logits
        ``(B, K)``.
    frequency
        ``(K,)`` wanted frequencies, positive, summing to 1; uniform by default. ``(B, K)`` gives each row its own
        (the frequencies of its modality); the term is then computed from their mean.
    """
    if len(hidden) == 0:
        zero = hidden.sum() + logits.sum()
        return ClusteringTerms(zero, zero, zero)
    k = logits.shape[1]
    alpha = torch.softmax(logits, dim=1)
    kernel = gaussian_kernel(hidden)
    corner = torch.exp(-(alpha.square().sum(dim=1, keepdim=True) - 2 * alpha + 1).clamp(min=0))
    mean = alpha.mean(dim=0)
    wanted = torch.full_like(mean, 1 / k) if frequency is None else frequency
    wanted = wanted.mean(dim=0) if wanted.dim() == 2 else wanted
    usage = (mean * (mean.clamp(min=FLOOR).log() - wanted.clamp(min=FLOOR).log())).sum()
    return ClusteringTerms(cauchy_schwarz_overlap(alpha, kernel), cauchy_schwarz_overlap(corner, kernel), usage)
