"""Matrices on disk as AnnData stores them, in HDF5 and zarr."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

from ._disk import DiskMatrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

GAP_VALUES = 65_536
"""Values between two rows up to which reading on is cheaper than a new start."""


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


def place_of(x: Any) -> tuple[str, str]:
    """Return where a matrix lies: file or folder, and name in it."""
    at = getattr(x, "group", x)
    file = getattr(at, "file", None)
    return str(getattr(at, "store_path", "") if file is None else file.filename), str(at.name)


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
