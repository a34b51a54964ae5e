"""Readers: rows of one modality, on request, as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch

from smalti._disk import DiskMatrix
from smalti.nn import SparseRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor


class ModalityReader(Protocol):
    """Anything that can hand out rows of a modality; rows are those of the modality, ``-1`` is an absent cell."""

    def read(self, rows: NDArray[np.int64]) -> SparseRows | Tensor:
        """Return ``len(rows)`` rows; an absent one is empty (sparse) or zero (dense)."""
        ...

    def loaded(self, rows: NDArray[np.int64]) -> ModalityReader:
        """Return a reader that has these rows in memory and may have no others; rows as for :meth:`read`."""
        ...


class CSRReader:
    """Rows of a sparse matrix in memory.

    The matrix is used as it is if it is CSR (no copy, any number type); other sparse formats are converted once.

    Parameters
    ----------
    x
        ``(n, G)`` sparse matrix or array.
    """

    def __init__(self, x: Any) -> None:
        x = x if x.format == "csr" else x.tocsr()
        if not x.has_canonical_format:
            x = x.copy()
            x.sum_duplicates()
        self.x = x
        self.indptr = np.asarray(x.indptr, dtype=np.int64)
        self.indices, self.data, self.n_columns = x.indices, x.data, int(x.shape[1])

    def loaded(self, rows: NDArray[np.int64]) -> CSRReader:
        """Return the reader itself."""
        return self

    def read(self, rows: NDArray[np.int64]) -> SparseRows:
        """Return the rows; the work is proportional to the stored values."""
        here = rows >= 0
        found = self.x[rows[here]]
        counts = np.zeros(len(rows), dtype=np.int64)
        counts[here] = np.diff(found.indptr)
        return SparseRows(
            torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
            torch.from_numpy(found.indices.astype(np.int64, copy=False)),
            torch.from_numpy(found.data.astype(np.float32, copy=False)),
        )


class DenseReader:
    """Rows of a dense matrix in memory.

    Parameters
    ----------
    x
        ``(n, G)`` array of any number type.
    """

    def __init__(self, x: Any) -> None:
        self.x = np.asarray(x)

    def loaded(self, rows: NDArray[np.int64]) -> DenseReader:
        """Return the reader itself."""
        return self

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the rows as ``(len(rows), G)`` float32."""
        out = self.x[np.maximum(rows, 0)].astype(np.float32)
        out[rows < 0] = 0
        return torch.from_numpy(out)


class DiskReader:
    """Rows of a matrix on disk.

    Parameters
    ----------
    x
        ``(n, G)`` matrix.
    """

    def __init__(self, x: DiskMatrix) -> None:
        self.x, self.n_columns = x, x.shape[1]

    def read(self, rows: NDArray[np.int64]) -> SparseRows | Tensor:
        """Return the rows, read from disk now."""
        return self.loaded(rows).read(rows)

    def loaded(self, rows: NDArray[np.int64]) -> ModalityReader:
        """Return a reader of these rows in memory; neighbours are read in one go, every row once."""
        kept = np.unique(rows[rows >= 0])
        kept = kept if len(kept) else np.zeros(1, dtype=np.int64)  # an empty matrix would have no row to point at
        return _LoadedReader(make_reader(self.x.take(kept)), kept, self.n_columns)


class _LoadedReader:
    """Some rows of a larger matrix, in memory, by their places in it."""

    def __init__(self, reader: ModalityReader, rows: NDArray[np.int64], n_columns: int) -> None:
        self.reader, self.rows, self.n_columns = reader, rows, n_columns

    def read(self, rows: NDArray[np.int64]) -> SparseRows | Tensor:
        at = np.searchsorted(self.rows, rows)
        assert ((self.rows[np.minimum(at, len(self.rows) - 1)] == rows) | (rows < 0)).all()
        return self.reader.read(np.where(rows < 0, -1, at))

    def loaded(self, rows: NDArray[np.int64]) -> _LoadedReader:
        return self


def make_reader(x: Any) -> ModalityReader:
    """Return the reader that fits how ``x`` is stored."""
    if isinstance(x, DiskMatrix):
        return DiskReader(x)
    return CSRReader(x) if sp.issparse(x) else DenseReader(x)


def read_blocks(reader: ModalityReader, n: int, step: int) -> Iterator[tuple[NDArray[np.int64], SparseRows | Tensor]]:
    """Yield all ``n`` rows of a modality in order, ``step`` at a time, with their numbers.

    From disk more are read at once, if that is not many values, and handed out.
    """
    wide = max(step, reader.x.chunk_rows // step * step) if isinstance(reader, DiskReader) else max(n, 1)
    for first in range(0, n, wide):
        last = min(first + wide, n)
        loaded = reader.loaded(np.arange(first, last))
        for start in range(first, last, step):
            rows = np.arange(start, min(start + step, last))
            yield rows, loaded.read(rows)
