"""What a decoder is compared with: observed values at chosen features, sparse or dense."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from smalti.nn import SparseRows, rows_of

if TYPE_CHECKING:
    from torch import Tensor


class SparseTarget(NamedTuple):
    """Non-zero observed values of ``B`` cells at ``S`` features, as coordinates; all else is an observed zero."""

    row: Tensor
    """``(nnz,)`` int64, cell in ``0..B-1``, ascending."""
    col: Tensor
    """``(nnz,)`` int64, feature in ``0..S-1``."""
    value: Tensor
    """``(nnz,)`` float, positive."""

    def find(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stored values of some cells, ``(n,)`` int64 positions, which may be repeated.

        Returns
        -------
        The place of each among ``rows``, and its position in this target, ``(nnz of these cells,)`` each.
        """
        start, stop = torch.searchsorted(self.row, rows), torch.searchsorted(self.row, rows, right=True)
        counts = stop - start
        new = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        return new, torch.arange(len(new), device=rows.device) + (start - counts.cumsum(0) + counts)[new]


Target = SparseTarget | torch.Tensor
"""A sparse target or a dense ``(B, S)`` one."""


class Taken(NamedTuple):
    """The target of some cells, and what no head changes of its loss."""

    target: Target
    constant: Tensor | None


def take_rows(target: Target, rows: Tensor, constant: Tensor | None = None) -> Taken:
    """Return the target of some cells.

    Parameters
    ----------
    target
        Of ``B`` cells.
    rows
        ``(n,)`` int64 positions, which may be repeated, or ``(B,)`` bool.
    constant
        That of :func:`target_constant`, if it is known.
    """
    rows = rows_of(rows)
    if not isinstance(target, SparseTarget):
        return Taken(target.index_select(0, rows), None if constant is None else constant.index_select(0, rows))
    new, at = target.find(rows)
    return Taken(
        SparseTarget(new, target.col[at], target.value[at]), None if constant is None else constant.index_select(0, at)
    )


def make_target(x: SparseRows | Tensor, features: Tensor | None, n_features: int, *, dense: bool = False) -> Target:
    """Return the observed values of ``features``.

    Parameters
    ----------
    x
        ``B`` cells, all features.
    features
        ``(S,)`` int64, distinct; ``None`` for all.
    n_features
        Number of all features ``G``.
    dense
        Whether sparse rows become a dense target. Finding the stored values of some features takes a number from the
        device that a GPU would have to be waited for; writing all of them into a matrix does not.
    """
    if not isinstance(x, SparseRows):
        return x if features is None else x.index_select(1, features)
    if dense:
        return _densify(x, features, n_features)
    col, value = x.indices, x.values
    if features is None:
        at = torch.nonzero(value).ravel()  # explicitly stored zeros are zeros
        col = col[at]
    else:
        position = torch.full((n_features,), -1, dtype=torch.int64, device=col.device)
        position[features] = torch.arange(len(features), device=col.device)
        col = position.index_select(0, col)
        at = torch.nonzero((col >= 0) & (value != 0)).ravel()
        col = col.index_select(0, at)
    return SparseTarget(torch.searchsorted(x.indptr, at, right=True) - 1, col, value.index_select(0, at))


def _densify(x: SparseRows, features: Tensor | None, n_features: int) -> Tensor:
    """Return the values of ``features`` of ``B`` cells, ``(B, S)``."""
    if features is None:
        return x.to_dense(n_features)
    n = len(features)
    column = torch.full((n_features,), n, dtype=torch.int64, device=x.indices.device)  # of the others: one too many
    column[features] = torch.arange(n, device=x.indices.device)
    out = x.values.new_zeros(x.n_rows, n + 1)
    out[x.row_index(), column[x.indices]] = x.values
    return out[:, :n]
