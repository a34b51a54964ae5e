"""The loss of a minibatch of decoded values, whatever their family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._target import SparseTarget

if TYPE_CHECKING:
    from torch import Tensor

    from ._likelihoods import LikelihoodFamily
    from ._target import Target


def target_constant(family: LikelihoodFamily, target: Target, log_scale: Tensor) -> Tensor | None:
    """Return what no head changes of the loss of every value of a target, for several decodings of the same cells.

    Parameters
    ----------
    family, log_scale
        As in :func:`reconstruction_nll`.
    target
        Observed values of ``B`` cells.

    Returns
    -------
    ``(B, S)``, or ``(nnz,)`` for a sparse target; ``None`` if the family has no such part.
    """
    if isinstance(target, SparseTarget):
        return family.constant(target.value, _scale_at(target, log_scale))
    return family.constant(target, log_scale)


def reconstruction_nll(
    family: LikelihoodFamily,
    target: Target,
    heads: Tensor,
    log_scale: Tensor,
    mask: Tensor | None = None,
    constant: Tensor | None = None,
) -> Tensor:
    """Return the negative log-likelihood per cell, averaged over its measured features.

    Parameters
    ----------
    family
        Family of the modality.
    target
        Observed values of ``B`` cells at ``S`` features.
    heads
        ``(n_heads, B, S)``, library included.
    log_scale
        Broadcasts to ``(B, S)``.
    mask
        ``(B, S)`` bool, features the panel of the cell measured; all by default.
    constant
        That of :func:`target_constant` for this target, where it is known already.

    Returns
    -------
    ``(B,)``, nats per feature. A cell without a measured feature has loss 0.
    """
    n_cols = heads.shape[2]
    if isinstance(target, SparseTarget):
        loss = family.zero_nll(heads, log_scale)
        if mask is not None:
            loss = torch.where(mask, loss, torch.zeros_like(loss))
        row, col, value = target
        flat = row * n_cols + col  # selections along one axis have a fast gradient
        scale_at, at = _scale_at(target, log_scale), heads.flatten(1).index_select(1, flat)
        extra = family.nll(value, at, scale_at, constant) - family.zero_nll(at, scale_at)
        if mask is not None:
            extra = torch.where(mask.flatten()[flat], extra, torch.zeros_like(extra))
        total = loss.sum(dim=1).index_add(0, row, extra)
    else:
        loss = family.nll(target, heads, log_scale, constant)
        if mask is not None:
            loss = torch.where(mask, loss, torch.zeros_like(loss))
        total = loss.sum(dim=1)
    return total / (n_cols if mask is None else mask.sum(dim=1).clamp(min=1))


def _scale_at(target: SparseTarget, log_scale: Tensor) -> Tensor:
    """Return the log scale of every stored value, ``(nnz,)``."""
    scale = log_scale if log_scale.dim() == 2 else log_scale[None]
    at = target.col if scale.shape[0] == 1 else target.row * scale.shape[1] + target.col
    return scale.flatten().index_select(0, at)
