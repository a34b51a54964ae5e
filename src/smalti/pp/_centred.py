"""A matrix of rows that is centred, weighted and masked without being formed, and its products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._rows import Block, Blocks, Place

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CentredMatrix:
    r"""The matrix :math:`(Y - m_b \odot \mu) D` of ``n`` rows in batches ``b``, never formed.

    Parameters
    ----------
    values
        ``(n, G)``, :math:`Y`, in blocks; zero where a feature was not measured.
    batch
        ``(n,)`` codes.
    mask
        ``(n_batch, G)``, 1 where a batch measured a feature, else 0.
    mean
        ``(G,)``, :math:`\mu`.
    weight
        ``(G,)``, the diagonal of :math:`D`.
    """

    values: Blocks
    batch: NDArray[np.int64]
    mask: Floats
    mean: Floats
    weight: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.values.shape

    def times(self, v: Floats, *, exact: bool = False) -> Floats:
        """Return the product with ``v``, ``(G, b)``, ``(n, b)``, in one pass.

        Products with sparse rows are taken in single precision, unless ``exact``.
        """
        out = np.empty((self.shape[0], v.shape[1]))
        ready = self._ready(v, exact)
        for at, block in self.values.packed():
            out[at] = self._rows_times(at, block, *ready)
        return out

    def transposed_times(self, u: Floats) -> Floats:
        """Return the product of the transpose with ``u``, ``(n, b)``, ``(G, b)``, in one pass."""
        out = np.zeros((self.shape[1], u.shape[1]), np.float32)
        by_batch = np.zeros((len(self.mask), u.shape[1]))
        for at, block in self.values.packed():
            self._add_transposed(out, by_batch, at, block, u[at])
        return self._finish(out, by_batch)

    def normal_times(self, v: Floats) -> Floats:
        """Return the product of the transpose with that of the matrix with ``v``, ``(G, b)``, in one pass."""
        out = np.zeros(v.shape, np.float32)
        by_batch = np.zeros((len(self.mask), v.shape[1]))
        ready = self._ready(v, exact=False)
        for at, block in self.values.packed():
            self._add_transposed(out, by_batch, at, block, self._rows_times(at, block, *ready))
        return self._finish(out, by_batch)

    def gram(self) -> Floats:
        """Return ``(G, G)``, the product of the transpose with the matrix, from one pass over the rows."""
        out = np.zeros((self.shape[1], self.shape[1]))
        for at, block in self.values.blocks():
            rows = self._dense(at, block)
            out += rows.T @ rows
        return out

    def dense(self) -> Floats:
        """Return the matrix, ``(n, G)``; for small ones."""
        out = np.empty(self.shape)
        for at, block in self.values.blocks():
            out[at] = self._dense(at, block)
        return out

    # ------------------------------------------------------------------ parts

    @cached_property
    def _is_weighted(self) -> bool:
        return bool((self.weight != 1).any())

    @cached_property
    def _is_shifted(self) -> bool:
        return bool(self.mean.any())

    def _ready(self, v: Any, exact: bool) -> tuple[Any, Floats | None]:
        """Return weighted vectors, and what to subtract from their products with rows, by batch."""
        v = self.weight[:, None] * v if self._is_weighted else v
        shift = self.mask @ (self.mean[:, None] * v) if self._is_shifted else None
        return np.ascontiguousarray(v, np.float64 if exact else np.float32), shift

    def _rows_times(self, at: Place, block: Block, v: Any, shift: Floats | None) -> Any:
        if not sp.issparse(block):
            return self._centred(at, block) @ v
        if block.dtype != v.dtype:  # `astype` would copy positions as well
            block = type(block)((block.data.astype(v.dtype), block.indices, block.indptr), shape=block.shape)
        product = block @ v
        return product if shift is None else product - shift[self.batch[at]]

    def _add_transposed(self, out: Any, by_batch: Floats, at: Place, block: Block, u: Any) -> None:
        if not sp.issparse(block):
            out += self._centred(at, block).T @ u
            return
        out += block.T @ np.ascontiguousarray(u, np.float32)
        if self._is_shifted:
            codes = self.batch[at]
            by_batch += np.stack([np.bincount(codes, column, len(by_batch)) for column in u.T], axis=1)

    def _finish(self, out: Any, by_batch: Floats) -> Any:
        if self._is_shifted:
            out = out - (self.mask.T @ by_batch) * self.mean[:, None]
        return self.weight[:, None] * out if self._is_weighted else out

    def _centred(self, at: Place, block: Any) -> Floats:
        centred: Floats = block - self.mean * self.mask[self.batch[at]]
        return centred

    def _dense(self, at: Place, block: Any) -> Floats:
        return self._centred(at, block.toarray() if sp.issparse(block) else block) * self.weight
