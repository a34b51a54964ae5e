"""Contrastive terms between unimodal embeddings and fusion channels, and negatives from all processes."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from smalti.nn import rows_of

from ._contrastive import info_nce

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Reads: TypeAlias = tuple[tuple[int, ...], bool]
"""Modalities, and whether all of them are needed instead of one."""
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
    """``(B,)`` bool, or positions, ``(n,)`` int64, if patterns were given; so are the next two."""
    has_y: Tensor
    """``(B,)`` bool."""
    both: Tensor
    """``(B,)`` bool."""


def channel_pairs(
    unimodal: Tensor,
    fused: Tensor,
    present: Tensor,
    channels: Sequence[Sequence[int]],
    *,
    complete: bool = False,
    patterns: Mapping[tuple[int, ...], Tensor] | None = None,
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
    patterns
        Positions of the cells that have exactly some modalities, so that no GPU is waited for; otherwise ``present``
        is looked at.
    """
    n = present.shape[1]
    one = [((m,), False) for m in range(n)]
    # the root stands for whatever there is
    some = [(tuple(range(n)), False), *((tuple(c), complete) for c in channels[1:])]

    def pair(row: str, x: Tensor, y: Tensor, in_x: Reads, in_y: Reads) -> Pair:
        return Pair(row, x, y, *(_having(present, patterns, reads) for reads in ([in_x], [in_y], [in_x, in_y])))

    for m in range(n):
        yield pair("unimodal_fusion", unimodal[:, m], fused[:, 0], one[m], some[0])
    for a, b in combinations(range(n), 2):
        yield pair("unimodal_unimodal", unimodal[:, a], unimodal[:, b], one[a], one[b])
    for c in range(1, len(channels)):
        yield pair("channel_root", fused[:, 0], fused[:, c], some[0], some[c])
    for m in range(n):
        for c in range(1, len(channels)):
            yield pair("unimodal_channel", unimodal[:, m], fused[:, c], one[m], some[c])


def _having(present: Tensor, patterns: Mapping[tuple[int, ...], Tensor] | None, reads: Sequence[Reads]) -> Tensor:
    """Return the cells that have all (or any) of some modalities, for each of ``reads``: a mask, or positions."""
    if patterns is None:
        masks = [present[:, list(m)].all(1) if whole else present[:, list(m)].any(1) for m, whole in reads]
        return torch.stack(masks).all(0)
    found = [
        cells
        for pattern, cells in patterns.items()
        if all((all if whole else any)(m in pattern for m in modalities) for modalities, whole in reads)
    ]
    nobody = torch.empty(0, dtype=torch.int64, device=present.device)
    return torch.cat([nobody, *found]).sort().values


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
    patterns: Mapping[tuple[int, ...], Tensor] | None = None,
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
    pairs = channel_pairs(unimodal, fused, present, channels, complete=complete, patterns=patterns)
    for row, x, y, has_x, has_y, both in pairs:
        if row in terms and len(rows_of(both)):
            in_x, in_y = (both, both) if negatives == "paired" else (has_x, has_y)
            terms[row].append(info_nce(x, y, in_x, in_y, log_scale, pair=rows_of(both)))
    return {row: nothing + torch.stack(found).mean() if found else nothing for row, found in terms.items()}
