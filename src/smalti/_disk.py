"""Matrices that stay on disk: rows on request, chunks in order, never the whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ._disk_summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CHUNK_VALUES = 2_000_000
"""Values of a chunk when a matrix is gone through in order."""
CHUNK_ROWS = 16_384
"""Rows of such a chunk at most."""
FIT_VALUES = 100_000_000
"""Stored values of the cells by which the directions of data on disk are found, at most; with columns and what is made
of them, they take about 1.5 GB."""


class DiskMatrix(ABC):
    """A matrix of cells by features on disk, ``(n, G)``; every model and transform reads it in pieces.

    Pieces are CSR matrices where it is stored sparse, arrays where it is stored dense.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    sparse: bool
    """Whether pieces are CSR matrices."""
    nnz: int
    """Stored values."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> Any:
        """Return some rows, in any order, ``(len(rows), G)``; neighbours on disk are read in one go."""

    @abstractmethod
    def samples(self) -> list[NDArray[Any]]:
        """Return some of the stored numbers, evenly spread, to tell whether they are still the same."""

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Any:
        """Return some rows, a stretch or by their numbers, as :meth:`take` does."""
        return self.take(np.arange(self.shape[0])[rows])

    def iter_chunks(
        self, rows: NDArray[np.int64] | None = None, size: int | None = None
    ) -> Iterator[tuple[slice | NDArray[np.int64], Any]]:
        """Yield all rows, or some, in order and in pieces: which rows, ``(n,)`` or a slice, and their values.

        Parameters
        ----------
        rows
            Rows to yield, in this order; all by default.
        size
            Rows of a piece; by default as many as hold about two million values.
        """
        step = self.chunk_rows if size is None else size
        n = self.shape[0] if rows is None else len(rows)
        for start in range(0, n, step):
            stop = min(start + step, n)
            if rows is None:
                yield slice(start, stop), self.take(np.arange(start, stop))
            else:
                yield rows[start:stop], self.take(rows[start:stop])

    def some_rows(self, values: int, random_state: int = 0) -> NDArray[np.int64]:
        """Return random rows, rising, that hold about so many stored values; all if there are no more."""
        n = self.shape[0]
        if self.nnz <= values:
            return np.arange(n)
        return np.sort(np.random.default_rng(random_state).permutation(n)[: max(1, int(n * (values / self.nnz)))])

    def to_memory(self) -> Any:
        """Return all of it."""
        return self.take(np.arange(self.shape[0]))

    @property
    def chunk_rows(self) -> int:
        """Rows of a piece by default."""
        per_row = self.nnz / max(self.shape[0], 1)
        return int(np.clip(CHUNK_VALUES / max(per_row, 1), 1, CHUNK_ROWS))

    @cached_property
    def summary(self) -> Summary:
        """What is known of all values, found in one pass when it is first asked for."""
        return Summary(self)

    def mapped(self, function: Callable[[Any], Any], dtype: Any = None, *, sparse: bool | None = None) -> DiskMatrix:
        """Return the matrix whose pieces are ``function(piece)``, a function that treats every row by itself.

        Parameters
        ----------
        function
            Function of a piece that returns one of the same shape.
        dtype
            Type of what it returns, if another.
        sparse
            Whether it returns CSR matrices, if that differs.
        """
        return _Mapped(self, function, dtype, sparse)


class _Mapped(DiskMatrix):
    """A matrix on disk seen through a function of its rows."""

    def __init__(self, source: DiskMatrix, function: Callable[[Any], Any], dtype: Any, sparse: bool | None) -> None:
        self._source, self._function = source, function
        self.shape, self.nnz = source.shape, source.nnz
        self.sparse = source.sparse if sparse is None else sparse
        self.dtype = source.dtype if dtype is None else np.dtype(dtype)

    def take(self, rows: NDArray[np.int64]) -> Any:
        return self._function(self._source.take(rows))

    def samples(self) -> list[NDArray[Any]]:
        return self._source.samples()


def rows_to_fit(x: Any, random_state: int) -> NDArray[np.int64] | None:
    """Return the cells by which directions of a matrix are found, rising; ``None`` for all of one in memory."""
    return x.some_rows(FIT_VALUES, random_state) if isinstance(x, DiskMatrix) else None
