"""Rows that are put aside on disk, sorted roughly, so that they can be read back in any order with little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Spill:
    """Rows of one modality by bucket; buckets are stretches of the order in which rows will be wanted.

    Parameters
    ----------
    folder
        Folder of its own, which must exist.
    ends
        After which position each bucket ends, rising.
    n_columns
        Columns of the rows.
    dtype
        Type of the values.
    sparse
        Whether rows are sparse.
    """

    def __init__(self, folder: Path, ends: NDArray[np.int64], n_columns: int, dtype: Any, sparse: bool) -> None:
        self.folder, self.ends, self.n_columns = folder, ends, n_columns
        self.dtype, self.sparse = np.dtype(dtype), sparse
        self.nnz, self.largest, self.counts = 0, 0.0, True
        """Values put aside, the largest, and whether all are whole and not negative."""

    def add(self, piece: Any, position: NDArray[np.int64]) -> None:
        """Put rows aside, ``(n, G)`` CSR or dense, with the position at which each will be wanted."""
        piece = piece.astype(self.dtype, copy=False)
        self._note(piece.data if self.sparse else piece)
        bucket = np.searchsorted(self.ends, position, side="right")
        for i in np.unique(bucket):
            here = np.flatnonzero(bucket == i)
            rows = piece[here]
            with (self.folder / str(i)).open("ab") as file:
                np.save(file, position[here])
                for part in (np.diff(rows.indptr), rows.indices, rows.data) if self.sparse else (rows,):
                    np.save(file, part)

    def bucket(self, i: int) -> tuple[NDArray[np.int64], Any]:
        """Return the positions of a bucket, rising, and its rows in that order."""
        path = self.folder / str(i)
        if not path.exists():
            empty = np.empty((0, self.n_columns), self.dtype)
            return np.empty(0, dtype=np.int64), sp.csr_matrix(empty) if self.sparse else empty
        records: list[list[NDArray[Any]]] = []
        with path.open("rb") as file:
            size = path.stat().st_size
            while file.tell() < size:
                records.append([np.load(file) for _ in range(4 if self.sparse else 2)])
        parts = [np.concatenate(part) for part in zip(*records, strict=True)]
        del records
        order = np.argsort(parts[0], kind="stable")
        if not self.sparse:
            return parts[0][order], parts[1][order]
        indptr = np.concatenate([[0], np.cumsum(parts[1], dtype=np.int64)])
        rows = sp.csr_matrix((parts[3], parts[2], indptr), shape=(len(order), self.n_columns))
        return parts[0][order], rows[order]

    def drop(self, i: int) -> None:
        """Remove a bucket that is no longer needed."""
        (self.folder / str(i)).unlink(missing_ok=True)

    def _note(self, values: NDArray[Any]) -> None:
        self.nnz += values.size
        if values.size == 0:
            return
        if values.dtype.kind == "f":
            self.counts = self.counts and bool((values == np.floor(values)).all())  # NaN is no count
        self.counts = self.counts and not (values < 0).any()
        self.largest = max(self.largest, float(np.nanmax(values)))

    @property
    def smallest_dtype(self) -> np.dtype[Any]:
        """The smallest type that holds all values: unsigned for counts, single precision for other numbers."""
        if not self.counts:
            return np.dtype(np.float32) if self.dtype.kind == "f" else self.dtype
        return next(np.dtype(kind) for kind in (np.uint8, np.uint16, np.uint32) if self.largest <= np.iinfo(kind).max)
