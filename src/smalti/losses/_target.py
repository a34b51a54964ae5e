"""What a decoder is compared with: observed values at chosen features, sparse or dense."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from smalti.nn import SparseRows

if TYPE_CHECKING:
    from torch import Tensor


class SparseTarget(NamedTuple):
    """Non-zero observed values of ``B`` cells at ``S`` features, as coordinates; all else is an observed zero."""

    row: Tensor
    """``(nnz,)`` int64, cell in ``0..B-1``."""
    col: Tensor
    """``(nnz,)`` int64, feature in ``0..S-1``."""
    value: Tensor
    """``(nnz,)`` float, positive."""

    def take_rows(self, keep: Tensor) -> SparseTarget:
        """Return the target of the cells where ``keep``, ``(B,)`` bool, is true."""
        new = torch.cumsum(keep, 0) - 1
        here = keep[self.row]
        return SparseTarget(new[self.row[here]], self.col[here], self.value[here])


Target = SparseTarget | torch.Tensor
"""A sparse target or a dense ``(B, S)`` one."""


def take_rows(target: Target, keep: Tensor) -> Target:
    """Return the target of the cells where ``keep``, ``(B,)`` bool, is true."""
    return target.take_rows(keep) if isinstance(target, SparseTarget) else target[keep]


def make_target(x: SparseRows | Tensor, features: Tensor | None, n_features: int) -> Target:
    """Return the observed values of ``features``.

    Parameters
    ----------
    x
        ``B`` cells, all features.
    features
        ``(S,)`` int64, distinct; ``None`` for all.
    n_features
        Number of all features ``G``.
    """
    if not isinstance(x, SparseRows):
        return x if features is None else x[:, features]
    row, col, value = x.row_index(), x.indices, x.values
    if features is not None:
        position = torch.full((n_features,), -1, dtype=torch.int64, device=col.device)
        position[features] = torch.arange(len(features), device=col.device)
        col = position[col]
        here = col >= 0
        row, col, value = row[here], col[here], value[here]
    # explicitly stored zeros are zeros
    stored = value != 0
    return SparseTarget(row[stored], col[stored], value[stored])
