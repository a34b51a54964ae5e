"""Contrastive terms between unimodal embeddings and fusion channels, and negatives from all processes."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ._contrastive import info_nce

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Negatives = Literal["paired", "all"]
"""Whom a cell is told apart from: cells for which the term is defined, or all that have the embedding."""


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradient of a row is the sum of what every process has for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.n = x.shape[0]
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous()
        torch.distributed.all_reduce(total)
        start = torch.distributed.get_rank() * int(ctx.n)
        return total[start : start + ctx.n]


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows of all processes, those of process 0 first; ``x`` itself without distributed training.

    Gradients flow back to the process that a row came from, summed over processes. Where gradients of weights are then
    averaged over processes, as by distributed data parallel, the result is that of one process with the whole batch.

    Parameters
    ----------
    x
        ``(B, ...)``, the same shape in every process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    if torch.distributed.get_world_size() == 1:
        return x
    if not x.is_floating_point():
        return _Gather.apply(x.to(torch.uint8)).to(x.dtype)  # type: ignore[no-untyped-call]
    return _Gather.apply(x)  # type: ignore[no-untyped-call]


class Pair(NamedTuple):
    """One contrastive term: two embeddings of each cell, and the cells that have them."""

    row: str
    x: Tensor
    """``(B, d)``."""
    y: Tensor
    """``(B, d)``."""
    has_x: Tensor
    """``(B,)`` bool."""
    has_y: Tensor
    """``(B,)`` bool."""


def channel_pairs(
    unimodal: Tensor, fused: Tensor, present: Tensor, channels: Sequence[Sequence[int]], *, complete: bool = False
) -> Iterator[Pair]:
    r"""Yield the terms of modal channel attention :cite:p:`Bjorgaard2024`, in four rows.

    With the embedding :math:`u_m` of modality :math:`m` and :math:`f_c` of channel :math:`c`, the first being the root,

    ====================== ======================== ==================================
    row                    pairs                    defined for cells with
    ====================== ======================== ==================================
    ``unimodal_fusion``    :math:`u_m, f_{root}`    :math:`m`
    ``unimodal_unimodal``  :math:`u_m, u_{m'}`      :math:`m` and :math:`m'`
    ``channel_root``       :math:`f_{root}, f_c`    a modality of :math:`c`
    ``unimodal_channel``   :math:`u_m, f_c`         :math:`m` and a modality of :math:`c`
    ====================== ======================== ==================================

    Parameters
    ----------
    unimodal
        ``(B, M, d)``.
    fused
        ``(B, C, d)``, the root first.
    present
        ``(B, M)`` bool.
    channels
        Positions of modalities, one tuple per channel.
    complete
        Whether a channel needs all its modalities instead of one.
    """
    has = [present[:, list(c)].all(1) if complete else present[:, list(c)].any(1) for c in channels]
    has[0] = present.any(1)  # the root stands for whatever there is
    n = present.shape[1]
    for m in range(n):
        yield Pair("unimodal_fusion", unimodal[:, m], fused[:, 0], present[:, m], has[0])
    for a, b in combinations(range(n), 2):
        yield Pair("unimodal_unimodal", unimodal[:, a], unimodal[:, b], present[:, a], present[:, b])
    for c in range(1, len(channels)):
        yield Pair("channel_root", fused[:, 0], fused[:, c], has[0], has[c])
    for m in range(n):
        for c in range(1, len(channels)):
            yield Pair("unimodal_channel", unimodal[:, m], fused[:, c], present[:, m], has[c])


def channel_contrast(
    unimodal: Tensor,
    fused: Tensor,
    present: Tensor,
    channels: Sequence[Sequence[int]],
    log_scale: Tensor,
    *,
    rows: Sequence[str],
    complete: bool = False,
    negatives: Negatives = "paired",
) -> dict[str, Tensor]:
    r"""Return the mean over the defined terms of each row of :func:`channel_pairs`.

    A term is the symmetric InfoNCE loss (:func:`info_nce`) over the cells :math:`V` for which it is defined; it leaves
    the mean where the batch has no such cell. Embeddings of absent modalities are candidates nowhere.

    Parameters
    ----------
    unimodal, fused, present, channels, complete
        As in :func:`channel_pairs`. Embeddings of unit length; rows of absent cells are ignored whatever they hold.
    log_scale
        Log of the inverse temperature, a scalar; clamped to log 1 and log 100.
    rows
        Names of rows to compute.
    negatives
        ``"paired"``: candidates are the cells of :math:`V`. ``"all"``: all that have the embedding in question.

    Returns
    -------
    A scalar per row; exactly 0, with a gradient of 0, if none of its terms is defined.
    """
    log_scale = log_scale.clamp(min=0.0)
    nothing = 0.0 * log_scale + unimodal[:0].sum() + fused[:0].sum()
    terms: dict[str, list[Tensor]] = {row: [] for row in rows}
    for row, x, y, has_x, has_y in channel_pairs(unimodal, fused, present, channels, complete=complete):
        both = has_x & has_y
        if row in terms and bool(both.any()):
            in_x, in_y = (both, both) if negatives == "paired" else (has_x, has_y)
            terms[row].append(info_nce(x, y, in_x, in_y, log_scale))
    return {row: nothing + torch.stack(found).mean() if found else nothing for row, found in terms.items()}
