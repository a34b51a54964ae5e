"""Missing values (NaN) inside a modality: where they are, and what stands in for them where a network looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ._disk import DiskMatrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 5_000_000
"""Values looked at in one go."""
STANDS_OUT = 100
"""How many times a count must exceed the largest count of the median cell to be taken for an artefact."""
ARTEFACTS = 0.01
"""Share of cells with such counts above which they are no exception, and stay."""


def has_missing(x: Any) -> bool:
    """Return whether a matrix, sparse or dense, in memory or on disk, holds NaN."""
    if isinstance(x, DiskMatrix):
        return x.summary.n_missing > 0
    values = x.data if sp.issparse(x) else np.asarray(x).ravel(order="K")
    if values.dtype.kind != "f":
        return False
    return any(bool(np.isnan(values[i : i + BLOCK]).any()) for i in range(0, values.size, BLOCK))


def missing_of(x: Any) -> Any:
    """Return where values are missing, ``(n, G)`` boolean, sparse; of a matrix on disk one on disk."""
    if isinstance(x, DiskMatrix):
        return x.mapped(missing_of, bool, sparse=True)
    if not sp.issparse(x):
        return sp.csr_matrix(np.isnan(x))
    found = sp.coo_matrix(x)
    at = np.isnan(found.data)
    ones = np.ones(int(at.sum()), dtype=bool)
    return sp.csr_matrix((ones, (found.row[at], found.col[at])), shape=x.shape)


def feature_levels(x: Any, counts: bool) -> NDArray[np.float64]:
    """Return the mean of every feature over the cells that measured it, ``(G,)``; NaN where none did.

    Parameters
    ----------
    x
        ``(n, G)`` values, sparse or dense.
    counts
        Whether values are counts: then means are shares of the total of a cell.
    """
    if isinstance(x, DiskMatrix):
        seen = x.summary
        weight = seen.total - seen.missing_total if counts else x.shape[0] - seen.missing.astype(np.float64)
        return _levels(seen.sums, weight, x.shape[0] - seen.missing > 0)
    gone = missing_of(x) if has_missing(x) else sp.csr_matrix(x.shape, dtype=bool)
    known = _with_zeros(x) if gone.nnz else x
    total = np.asarray(known.sum(axis=1), dtype=np.float64).ravel() if counts else np.ones(x.shape[0])
    weight = total.sum() - np.asarray(gone.T.astype(np.float64) @ total).ravel()
    sums = np.asarray(known.sum(axis=0), dtype=np.float64).ravel()
    measured = x.shape[0] - np.asarray(gone.sum(axis=0)).ravel() > 0
    return _levels(sums, weight, measured)


def _levels(sums: Any, weight: Any, measured: NDArray[np.bool_]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(measured, np.where(weight > 0, sums / weight, 0.0), np.nan)


def filled(x: Any, levels: NDArray[Any], counts: bool) -> Any:
    """Return a copy without NaN that says nothing where nothing was measured; ``x`` itself if nothing is missing.

    A missing real is the mean of its feature. A missing count is its expectation given the total of what was measured
    in the cell, so that totals are those of the whole panel.

    Parameters
    ----------
    x
        ``(n, G)`` values, sparse or dense.
    levels
        ``(G,)`` as :func:`feature_levels` returns them; NaN counts as 0.
    counts
        Whether values are counts.
    """
    if not has_missing(x):
        return x
    if isinstance(x, DiskMatrix):
        return x.mapped(lambda piece: filled(piece, levels, counts))
    levels = np.nan_to_num(np.asarray(levels, dtype=np.float64))
    gone = missing_of(x)
    row, col = gone.nonzero()
    value = levels[col]
    if counts:
        total = np.asarray(_with_zeros(x).sum(axis=1), dtype=np.float64).ravel()
        seen = levels.sum() - np.asarray(gone @ levels).ravel()
        value = value * (total / np.maximum(seen, 1e-8))[row]
    if not sp.issparse(x):
        out = np.array(x)
        out[row, col] = value
        return out
    out = _with_zeros(x) + sp.csr_matrix((value.astype(x.dtype), (row, col)), shape=x.shape)
    return type(x)(out)


def measured(x: Any, counts: bool) -> Any:
    """Return ``x`` with missing values filled in by the cells at hand, see :func:`filled`."""
    return filled(x, feature_levels(x, counts), counts) if has_missing(x) else x


def largest_counts(x: Any) -> NDArray[np.float64]:
    """Return the largest value of every cell, ``(n,)``, missing ones aside."""
    if isinstance(x, DiskMatrix):
        return x.summary.row_max
    known = _with_zeros(x) if has_missing(x) else x
    if 0 in x.shape:
        return np.zeros(x.shape[0])
    found = known.max(axis=1)
    return np.asarray(found.todense() if sp.issparse(found) else found, dtype=np.float64).ravel()


def count_limit(x: Any) -> float | None:
    """Return the count above which single entries are taken for artefacts; ``None`` if there is no such limit.

    Parameters
    ----------
    x
        ``(n, G)`` counts, sparse or dense.
    """
    largest = largest_counts(x)
    limit = STANDS_OUT * max(float(np.median(largest)), 1.0) if largest.size else None
    if limit is None or (largest > limit).sum() > max(ARTEFACTS * len(largest), 1):
        return None
    return limit


def without_artefacts(x: Any, limit: float | None) -> Any:
    """Return counts with those beyond ``limit`` missing (NaN); ``x`` itself if there are none."""
    if isinstance(x, DiskMatrix):
        found = limit is not None and x.summary.row_max.max(initial=0) > limit
        return x.mapped(lambda piece: without_artefacts(piece, limit), np.float32) if found else x
    values = x.data if sp.issparse(x) else np.asarray(x)
    if limit is None or values.size == 0 or not np.nanmax(values, initial=0) > limit:
        return x
    if not sp.issparse(x):
        return np.where(values > limit, np.nan, values.astype(np.float32))
    out = x.astype(np.float32)
    out.data = np.where(out.data > limit, np.float32(np.nan), out.data)
    return out


def _with_zeros(x: Any) -> Any:
    """Return a copy with zeros in place of NaN."""
    if not sp.issparse(x):
        return np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf)
    out = x.copy()
    out.data = np.where(np.isnan(out.data), 0, out.data)
    return out
