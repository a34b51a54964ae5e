"""Rows of a sparse matrix as plain tensors, and the products networks take of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def rows_of(cells: Tensor) -> Tensor:
    """Return cells, a ``(B,)`` bool mask or positions, as positions ``(n,)`` int64; a mask makes one wait for a GPU."""
    return torch.nonzero(cells).ravel() if cells.dtype == torch.bool else cells


class SparseRows(NamedTuple):
    """``B`` rows of a sparse matrix in CSR form.

    A named tuple of plain tensors passes through data loaders, worker processes and device transfer unchanged.
    Rows may be empty; an absent cell is an empty row.
    """

    indptr: Tensor
    """``(B + 1,)`` int64, where each row starts in the other two."""
    indices: Tensor
    """``(nnz,)`` int64, columns."""
    values: Tensor
    """``(nnz,)`` float32."""

    @property
    def n_rows(self) -> int:
        """Number of rows, empty ones included."""
        return self.indptr.shape[0] - 1

    def row_index(self) -> Tensor:
        """Return the row of every stored value, ``(nnz,)`` int64."""
        counts = self.indptr[1:] - self.indptr[:-1]
        rows = torch.arange(self.n_rows, device=counts.device)
        return torch.repeat_interleave(rows, counts, output_size=self.indices.shape[0])

    def row_sums(self) -> Tensor:
        """Return the sum of every row, ``(B,)``."""
        return torch.segment_reduce(self.values, "sum", offsets=self.indptr)

    def repeat(self, x: Tensor) -> Tensor:
        """Return the entry of ``x``, ``(B,)``, of the row of every stored value, ``(nnz,)``."""
        return torch.repeat_interleave(x, self.indptr[1:] - self.indptr[:-1], output_size=self.indices.shape[0])

    def map_values(self, values: Tensor) -> SparseRows:
        """Return the same pattern with other ``values``."""
        return SparseRows(self.indptr, self.indices, values)

    def to_dense(self, n_cols: int) -> Tensor:
        """Return ``(n_rows, n_cols)``; for minibatches only."""
        out = self.values.new_zeros(self.n_rows, n_cols)
        out[self.row_index(), self.indices] = self.values
        return out

    def columns(self, place: Tensor, n_kept: int) -> Tensor:
        """Return some columns, ``(n_rows, n_kept)``; no other is ever dense.

        Parameters
        ----------
        place
            ``(n_cols,)`` int64, where each column goes; ``n_kept`` for one that is left out.
        n_kept
            Number of columns that are kept.
        """
        out = self.values.new_zeros(self.n_rows, n_kept + 1)
        out[self.row_index(), place[self.indices]] = self.values
        return out[:, :n_kept]

    def drop_empty(self, keep: Tensor) -> SparseRows:
        """Return only the rows ``keep``, ``(n_rows,)`` bool or ascending positions; the others must be empty.

        Since nothing is stored for them, only ``indptr`` changes.
        """
        starts = self.indptr[:-1][keep]
        return SparseRows(torch.cat([starts, self.indptr[-1:]]), self.indices, self.values)


def sparse_matmul(rows: SparseRows, weight: Tensor) -> Tensor:
    r"""Return :math:`X W` for sparse rows :math:`X`, shape ``(B, K)``.

    The work is proportional to the stored values, not to ``B`` times the number of features.

    Parameters
    ----------
    rows
        ``B`` sparse rows over ``G`` features.
    weight
        ``(G, K)``.
    """
    if rows.n_rows == 0:
        return weight.new_zeros((0, weight.shape[1])) + 0.0 * weight[:1].sum()
    return F.embedding_bag(
        rows.indices, weight, rows.indptr, mode="sum", per_sample_weights=rows.values, include_last_offset=True
    )


class SparseLinear(nn.Module):
    r"""Linear layer :math:`y = x W + b` whose input may be sparse rows or a dense block.

    Parameters
    ----------
    n_in
        Number of input features ``G``.
    n_out
        Number of outputs ``K``.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        bound = n_in**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: SparseRows | Tensor) -> Tensor:
        """Return ``(B, K)`` outputs for ``B`` rows."""
        if isinstance(x, SparseRows):
            return sparse_matmul(x, self.weight) + self.bias
        return x @ self.weight + self.bias
