"""Terms that act on latents: divergence from the prior, agreement of modalities, the modality game."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def kl_standard_normal(mean: Tensor, scale: Tensor) -> Tensor:
    r"""Return :math:`\mathrm{KL}(N(\mu, \mathrm{diag}\,\sigma^2) \,\|\, N(0, I))` per row, in nats.

    .. math:: \tfrac12 \sum_i (\mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2)

    Parameters
    ----------
    mean, scale
        ``(B, d)``, ``scale`` positive.

    Returns
    -------
    ``(B,)``, at least 0.
    """
    return 0.5 * (mean.square() + scale.square() - 1 - 2 * scale.log()).sum(dim=1)


def masked_average(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of ``values``, ``(B,)``, where ``mask`` is true; 0 if it is nowhere true."""
    return torch.where(mask, values, torch.zeros_like(values)).sum() / mask.sum().clamp(min=1)


def agreement(embedding: Tensor, centre: Tensor, rows: Tensor, *, cosine: bool) -> Tensor:
    r"""Return how far the embeddings of one modality are from the mean over the modalities of the same cell.

    Cosine form :math:`1 - \cos(e_k, \bar e)`, or squared distance :math:`\|e_k - \bar e\|^2 / d` (mean over
    dimensions, so that its weight does not depend on the width).

    Parameters
    ----------
    embedding, centre
        ``(B, d)``; other rows than ``rows`` are ignored whatever they hold.
    rows
        ``(B,)`` bool, cells that have this modality and at least one other: for a cell with one modality the centre is
        the embedding itself and the term carries no information.
    cosine
        Which form.

    Returns
    -------
    A scalar, mean over ``rows``; 0 if there are none.
    """
    embedding, centre = embedding[rows], centre[rows]
    if cosine:
        distance = 1 - F.cosine_similarity(embedding, centre, dim=1, eps=1e-8)
    else:
        distance = (embedding - centre).square().mean(dim=1)
    return distance.sum() / max(len(distance), 1)


def modality_cross_entropy(logits: Tensor, modality: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the loss of a discriminator that guesses the modality.

    Parameters
    ----------
    logits
        ``(N, M)``.
    modality
        ``(N,)`` int64.
    weight
        ``(N,)`` balancing weights; equal by default.

    Returns
    -------
    A scalar, weighted sum over number of rows.
    """
    loss = F.cross_entropy(logits, modality, reduction="none")
    return (loss if weight is None else loss * weight).sum() / max(len(loss), 1)


def modality_confusion(logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the non-saturating loss of an encoder that wants the discriminator to have no opinion.

    Cross-entropy against the uniform distribution over modalities; bounded below by ``log M``, unlike the negative of
    :func:`modality_cross_entropy`, which an encoder can decrease without bound.

    Parameters
    ----------
    logits
        ``(N, M)``.
    weight
        ``(N,)`` balancing weights; equal by default.
    """
    loss = -F.log_softmax(logits, dim=1).mean(dim=1)
    return (loss if weight is None else loss * weight).sum() / max(len(loss), 1)
