"""Matrices that stay on disk: rows on request, chunks in order, never the whole."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

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
GAP_VALUES = 65_536
"""Values between two rows up to which reading on is cheaper than a new start."""


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


class DiskCSR(DiskMatrix):
    """Rows of a CSR matrix on disk, as AnnData stores it in HDF5 and zarr.

    Parameters
    ----------
    group
        HDF5 or zarr group with ``data``, ``indices`` and ``indptr``; the latter is read into memory.
    shape
        ``(n, G)``.
    """

    sparse = True

    def __init__(self, group: Any, shape: tuple[int, int]) -> None:
        self.group, self.shape = group, (int(shape[0]), int(shape[1]))
        with fast_codecs():
            self._data, self._indices = group["data"], group["indices"]
        self.indptr = np.asarray(group["indptr"][:], dtype=np.int64)
        self.dtype, self.nnz = np.dtype(self._data.dtype), int(self.indptr[-1])

    @cached_property
    def _canonical(self) -> bool:
        """Whether rows seem to be sorted and without repeats, as they nearly always are; looked up once."""
        first = self.indptr[: min(1001, len(self.indptr))]
        columns = np.asarray(self._indices[: int(first[-1])])
        piece = sp.csr_matrix((np.ones(len(columns), dtype=np.int8), columns, first), (len(first) - 1, self.shape[1]))
        return bool(piece.has_canonical_format)

    def take(self, rows: NDArray[np.int64]) -> sp.csr_matrix:
        """Return rows as a CSR matrix."""
        rows = np.asarray(rows, dtype=np.int64)
        wanted = rows if _rising(rows) else np.unique(rows)
        starts, stops = self.indptr[wanted], self.indptr[wanted + 1]
        spans = _spans(starts, stops)
        size = sum(b - a for a, b in spans)
        data, columns = np.empty(size, self.dtype), np.empty(size, np.int32)
        origin, at = np.zeros(len(wanted), dtype=np.int64), 0
        for a, b in spans:
            data[at : at + b - a], columns[at : at + b - a] = self._data[a:b], self._indices[a:b]
            inside = slice(*np.searchsorted(starts, [a, b]))
            origin[inside] = at - a
            at += b - a
        counts = stops - starts
        begin = starts + origin
        if len(wanted) != len(rows) or wanted is not rows:
            place = np.searchsorted(wanted, rows)
            counts, begin = counts[place], begin[place]
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(counts, out=indptr[1:])
        if indptr[-1] != size or wanted is not rows:
            keep = np.arange(indptr[-1]) + np.repeat(begin - indptr[:-1], counts)
            data, columns = data[keep], columns[keep]
        out = sp.csr_matrix((data, columns, indptr), shape=(len(rows), self.shape[1]))
        if self._canonical:
            out.has_canonical_format = True
        else:
            out.sum_duplicates()
        return out

    def samples(self) -> list[NDArray[Any]]:
        """Return row ends and stretches of values and columns."""
        return [self.indptr, _stretches(self._data), _stretches(self._indices)]


class DiskDense(DiskMatrix):
    """Rows of a dense matrix on disk, HDF5 or zarr."""

    sparse = False

    def __init__(self, array: Any) -> None:
        self._array, self.shape = array, (int(array.shape[0]), int(array.shape[1]))
        self.dtype, self.nnz = np.dtype(array.dtype), self.shape[0] * self.shape[1]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as an array."""
        rows = np.asarray(rows, dtype=np.int64)
        wanted = rows if _rising(rows) else np.unique(rows)
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        g = max(self.shape[1], 1)
        for a, b in _spans(wanted * g, (wanted + 1) * g):
            first, last = a // g, b // g
            here = (
                np.flatnonzero((rows >= first) & (rows < last))
                if wanted is not rows
                else slice(*np.searchsorted(rows, [first, last]))
            )
            out[here] = np.asarray(self._array[first:last])[rows[here] - first]
        return out

    def samples(self) -> list[NDArray[Any]]:
        """Return some rows."""
        n = self.shape[0]
        return [np.asarray(self._array[int(i)]) for i in np.linspace(0, n - 1, min(n, 32)).astype(int)]


class MemoryMatrix(DiskMatrix):
    """A matrix in memory that is gone through as if it lay on disk."""

    def __init__(self, x: Any) -> None:
        self._x: Any = x.tocsr() if sp.issparse(x) else np.asarray(x)
        self.shape, self.dtype, self.sparse = x.shape, x.dtype, sp.issparse(x)
        self.nnz = int(x.nnz) if self.sparse else x.size

    def take(self, rows: NDArray[np.int64]) -> Any:
        """Return rows as they are stored."""
        return self._x[rows]

    def samples(self) -> list[NDArray[Any]]:
        """Return all stored numbers."""
        return [self._x.data, self._x.indices, self._x.indptr] if self.sparse else [self._x]


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


def _rising(rows: NDArray[np.int64]) -> bool:
    return bool((np.diff(rows) > 0).all())


def _spans(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the stretches to read for rows in rising order: those that are close to each other become one."""
    some = stops > starts
    starts, stops = starts[some], stops[some]
    if len(starts) == 0:
        return []
    new = np.flatnonzero(starts[1:] - stops[:-1] > GAP_VALUES) + 1
    return list(zip(starts[[0, *new]].tolist(), stops[[*(new - 1), -1]].tolist(), strict=True))


def _stretches(array: Any, n: int = 16, length: int = 1000) -> NDArray[Any]:
    """Return evenly spread stretches of a long array on disk."""
    size = int(array.shape[0])
    if size <= n * length:
        return np.asarray(array[:])
    starts = np.linspace(0, size - length, n).astype(np.int64)
    return np.concatenate([np.asarray(array[int(a) : int(a) + length]) for a in starts])


def rows_to_fit(x: Any, random_state: int) -> NDArray[np.int64] | None:
    """Return the cells by which directions of a matrix are found, rising; ``None`` for all of one in memory."""
    return x.some_rows(FIT_VALUES, random_state) if isinstance(x, DiskMatrix) else None


@contextmanager
def fast_codecs() -> Iterator[None]:
    """Let arrays of zarr that are opened inside be decoded by zarrs, where it is installed; others stay as they are."""
    if "zarr" not in sys.modules or importlib.util.find_spec("zarrs") is None:
        yield
        return
    import zarr

    importlib.import_module("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        yield


def on_disk(x: Any) -> bool:
    """Return whether ``x`` is a matrix that lies on disk: what AnnData reads lazily, or an array of HDF5 or zarr."""
    return isinstance(x, CSRDataset | CSCDataset) or (type(x).__module__.split(".")[0] in ("h5py", "zarr"))


def disk_matrix(x: Any, modality: str) -> DiskMatrix:
    """Return the :class:`DiskMatrix` of what AnnData has in ``.X`` or a layer.

    Raises
    ------
    ValueError
        If it is stored by columns, or not a matrix of numbers.
    """
    if isinstance(x, CSCDataset):
        raise ValueError(
            f"Modality {modality!r} is stored by features (CSC) on disk, so that no cell can be read without reading "
            "all: rewrite the file with `sm.data.write_mosaic`, or read it into memory with `sm.read`."
        )
    out: DiskMatrix = DiskCSR(x.group, x.shape) if isinstance(x, CSRDataset) else DiskDense(x)
    if out.dtype == np.float16:  # sums in half precision are of no use
        return out.mapped(lambda piece: piece.astype(np.float32), np.float32)
    return out
