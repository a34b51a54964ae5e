"""Rows of a matrix in blocks, in memory or on disk, and their values after the map of a frozen projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch

from smalti.nn import SparseRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from smalti.nn import FrozenProjection

    Floats32: TypeAlias = NDArray[np.float32]
    Block: TypeAlias = Any  # CSR, CSC or dense, float32
    Place: TypeAlias = slice | NDArray[np.int64]

BLOCK_ENTRIES = 500_000
"""Values of a block: what is made of one, such as 64-bit column numbers, takes 4 MB a time."""
PACKED_ENTRIES = 2_000_000
"""Values of a block for products, which costs as much as a pass over a vector of all features as well."""
MAX_BLOCK_ROWS = 16_384


class RowChunks(Protocol):
    """A matrix that hands out its rows in chunks, such as one that lies on disk."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and features."""
        ...

    def iter_chunks(self, rows: Any = None, size: Any = None) -> Iterator[tuple[Any, sp.csr_matrix]]:
        """Yield the numbers of some rows, ``(n,)``, and their values, ``(n, G)``."""
        ...


class Blocks(Protocol):
    """A matrix that is read block by block, as often as needed."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and features."""
        ...

    def blocks(self) -> Iterator[tuple[Place, Block]]:
        """Yield which rows a block holds, and the block, CSR or dense."""
        ...

    def packed(self) -> Iterator[tuple[Place, Block]]:
        """Yield the same in the form that is fastest to multiply with, CSC or dense."""
        ...


def is_streamed(x: Any) -> bool:
    """Return whether a matrix hands out chunks instead of lying in memory."""
    return hasattr(x, "iter_chunks")


def row_blocks(x: Any, *, sparse: bool = False) -> Iterator[tuple[Place, Block]]:
    """Yield which rows a block holds, and the block with its values as float32; nothing larger is made.

    Parameters
    ----------
    x
        ``(n, G)`` CSR, dense, or :class:`RowChunks`.
    sparse
        Whether dense blocks become sparse ones.
    """
    n, g = x.shape
    if is_streamed(x):
        for rows, part in x.iter_chunks():
            yield rows, sp.csr_matrix(part, dtype=np.float32)
    elif sp.issparse(x):
        for start, stop in _cuts(x, 0, n, BLOCK_ENTRIES):
            yield slice(start, stop), _csr_slice(x, start, stop)
    else:
        step = max(1, BLOCK_ENTRIES // max(g, 1))
        for start in range(0, n, step):
            block = np.ascontiguousarray(x[start : start + step], dtype=np.float32)
            yield slice(start, start + len(block)), sp.csr_matrix(block) if sparse else block


def _csr_slice(x: Any, start: int, stop: int, values: Floats32 | None = None) -> sp.csr_matrix:
    """Return rows of a CSR matrix, or other ``values`` in their place, as float32 without a copy of their columns."""
    a, b = int(x.indptr[start]), int(x.indptr[stop])
    indices = x.indices[a:b]
    indptr = (x.indptr[start : stop + 1] - a).astype(indices.dtype)
    values = x.data[a:b].astype(np.float32, copy=False) if values is None else values
    return sp.csr_matrix((values, indices, indptr), shape=(stop - start, x.shape[1]), copy=False)


def as_tensors(block: Block) -> SparseRows | torch.Tensor:
    """Return a block as what networks read."""
    if not sp.issparse(block):
        return torch.from_numpy(block)
    indptr = torch.from_numpy(block.indptr.astype(np.int64))
    data = block.data if block.data.flags.writeable else block.data.copy()
    return SparseRows(indptr, torch.from_numpy(block.indices.astype(np.int64)), torch.from_numpy(data))


def _cuts(x: Any, start: int, stop: int, entries: int) -> Iterator[tuple[int, int]]:
    """Yield first and last row (excluded) of blocks of about as many stored values, between two rows."""
    step = max(1, min(MAX_BLOCK_ROWS, entries * x.shape[0] // max(x.nnz, 1)))
    for first in range(start, stop, step):
        yield first, min(first + step, stop)


class MappedRows:
    """Values after the map of a frozen projection, see :class:`Blocks`.

    For products, values of a matrix in memory are kept, column by column within blocks of rows: a product then touches
    few numbers at a time, whatever the number of features, and a value takes 6 bytes. What lies on disk is read, mapped
    and turned anew in every pass.

    Parameters
    ----------
    module
        The projection; counts stay or become sparse, values on a real scale are as they come.
    x
        ``(n, G)`` CSR, dense, or :class:`RowChunks`.
    codes
        ``(n,)`` batches, the last for unknown ones.
    """

    def __init__(self, module: FrozenProjection, x: Any, codes: NDArray[np.int64]) -> None:
        self.module, self.x, self.codes = module, x, codes
        self.shape: tuple[int, int] = x.shape
        self._kept: list[tuple[slice, _Packed]] | None = None

    def blocks(self) -> Iterator[tuple[Place, Block]]:
        """Yield which rows a block holds, and its mapped values."""
        for at, block in row_blocks(self.x, sparse=self.module.kind != "identity"):
            yield at, self._map(block, at)

    def packed(self) -> Iterator[tuple[Place, Block]]:
        """Yield which rows a block holds, and its mapped values as CSC if they are sparse."""
        if is_streamed(self.x) or not sp.issparse(self.x):
            for at, block in self.blocks():
                yield at, block.tocsc() if sp.issparse(block) else block
            return
        if self._kept is None:
            self._kept = list(self._pack())
        for at, kept in self._kept:
            yield at, kept.matrix()

    def _map(self, block: Block, at: Place) -> Block:
        values, _ = self.module.map_values(as_tensors(block), torch.from_numpy(self.codes[at]))
        if not isinstance(values, SparseRows):
            return values.numpy()
        return sp.csr_matrix((values.values.numpy(), block.indices, block.indptr), shape=block.shape, copy=False)

    def _pack(self) -> Iterator[tuple[slice, _Packed]]:
        x = self.x
        for start, stop in _cuts(x, 0, x.shape[0], PACKED_ENTRIES):
            parts = [
                self._map(_csr_slice(x, first, last), slice(first, last)).data
                for first, last in _cuts(x, start, stop, BLOCK_ENTRIES)
            ]
            yield slice(start, stop), _Packed.of(_csr_slice(x, start, stop, np.concatenate(parts)).tocsc())


class _Packed(NamedTuple):
    """A block in CSC form with row numbers of 16 bits."""

    data: Floats32
    rows: NDArray[np.uint16]
    indptr: NDArray[Any]
    shape: tuple[int, int]

    @classmethod
    def of(cls, block: sp.csc_matrix) -> _Packed:
        return cls(block.data, block.indices.astype(np.uint16), block.indptr, block.shape)

    def matrix(self) -> sp.csc_matrix:
        rows = self.rows.astype(self.indptr.dtype)
        return sp.csc_matrix((self.data, rows, self.indptr), shape=self.shape, copy=False)
