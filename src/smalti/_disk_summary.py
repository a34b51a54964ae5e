"""What set-up needs to know of the values of a matrix on disk, found in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Summary:
    """Counts and sums over all values of an ``(n, G)`` matrix; missing values (NaN) are left out unless named."""

    n_nonzero: int = 0
    n_ones: int = 0
    n_negative: int = 0
    minimum: float = np.inf
    n_fractional: int = 0
    a_fraction: float = np.nan
    """The first value that is not an integer."""
    largest: float = 0.0
    """Largest finite size of a value."""
    n_missing: int = 0
    n_infinite: int = 0
    varies: bool = False
    """Whether rows differ, once missing values are out of sight."""

    def __init__(self, x: Any) -> None:
        n, g = x.shape
        self.row_max: NDArray[np.float64] = np.zeros(n)
        """Largest value of every row, at least 0 where zeros are not stored."""
        self.infinite_rows: list[int] = []
        self.empty_rows: list[int] = []
        """Rows that are missing as a whole."""
        self.total = 0.0
        """Sum of everything."""
        self.sums: NDArray[np.float64] = np.zeros(g)
        """Sum of every feature, ``(G,)``."""
        self.missing: NDArray[np.int64] = np.zeros(g, dtype=np.int64)
        """Number of cells that miss each feature, ``(G,)``."""
        self.missing_total: NDArray[np.float64] = np.zeros(g)
        """Sum over those cells of all they have, ``(G,)``."""
        self._first: NDArray[Any] | None = None
        for rows, piece in x.iter_chunks():
            self._add(piece, rows.start)

    def fine(self, *, negative: bool) -> bool:
        """Return whether all values are known and finite and, unless ``negative``, at least 0."""
        return self.n_infinite + self.n_missing + (0 if negative else self.n_negative) == 0

    def _add(self, piece: Any, start: int) -> None:
        piece = piece.astype(np.uint8) if piece.dtype == bool else piece
        self._compare(piece)
        values = piece.data if sp.issparse(piece) else piece.ravel()
        gone = np.isnan(values) if values.dtype.kind == "f" else np.zeros(0, dtype=bool)
        if gone.any():
            self._add_missing(piece, start)
            values = values[~gone]
            piece = _with_zeros(piece)
        self.n_nonzero += int(np.count_nonzero(values))
        self.n_ones += int(np.count_nonzero(values == 1))
        if values.dtype.kind in "if" and values.size:
            self._add_signs(values)
        if values.dtype.kind == "f":
            self._add_infinite(piece, values, start)
        if values.size:
            size = np.abs(values.astype(np.float64, copy=False)) if values.dtype.kind in "if" else values
            self.largest = max(self.largest, float(np.max(size, where=np.isfinite(size), initial=0)))
        rows = np.asarray(piece.sum(axis=1, dtype=np.float64)).ravel()
        self.total += float(rows.sum())
        self.sums += np.asarray(piece.sum(axis=0, dtype=np.float64)).ravel()
        if 0 not in piece.shape:
            top = piece.max(axis=1)
            self.row_max[start : start + piece.shape[0]] = (top.toarray() if sp.issparse(top) else top).ravel()

    def _add_signs(self, values: NDArray[Any]) -> None:
        self.n_negative += int(np.count_nonzero(values < 0))
        self.minimum = min(self.minimum, float(values.min()))
        if values.dtype.kind == "f":
            odd = values[values != np.floor(values)]
            if odd.size and not self.n_fractional:
                self.a_fraction = float(odd[0])
            self.n_fractional += int(odd.size)

    def _add_infinite(self, piece: Any, values: NDArray[Any], start: int) -> None:
        bad = np.isinf(values)
        if bad.any():
            self.n_infinite += int(bad.sum())
            if sp.issparse(piece):
                rows = np.repeat(np.arange(piece.shape[0]), np.diff(piece.indptr))[np.isinf(piece.data)]
            else:
                rows = np.flatnonzero(np.isinf(piece).any(axis=1))
            self.infinite_rows += (start + np.unique(rows)).tolist()

    def _add_missing(self, piece: Any, start: int) -> None:
        if sp.issparse(piece):
            at = np.isnan(piece.data)
            row = np.repeat(np.arange(piece.shape[0]), np.diff(piece.indptr))[at]
            column = piece.indices[at]
        else:
            row, column = np.nonzero(np.isnan(piece))
        total = np.asarray(_with_zeros(piece).sum(axis=1, dtype=np.float64)).ravel()
        g = piece.shape[1]
        self.n_missing += len(row)
        self.missing += np.bincount(column, minlength=g)
        self.missing_total += np.bincount(column, total[row], g)
        self.empty_rows += (start + np.flatnonzero(np.bincount(row, minlength=piece.shape[0]) == g)).tolist()

    def _compare(self, piece: Any) -> None:
        """Compare rows with the first one until two differ."""
        if self.varies or piece.shape[0] == 0:
            return
        if self._first is None:
            self._first = _row(piece, 0)
        for i in range(piece.shape[0]):
            row = _row(piece, i)
            if ((row != self._first) & (row == row) & (self._first == self._first)).any():  # a NaN differs from nothing
                self.varies = True
                return


def _row(piece: Any, i: int) -> NDArray[Any]:
    return piece[[i]].toarray().ravel() if sp.issparse(piece) else piece[i]


def _with_zeros(piece: Any) -> Any:
    if not sp.issparse(piece):
        return np.where(np.isnan(piece), 0, piece)
    out = piece.copy()
    out.data[np.isnan(out.data)] = 0
    return out
