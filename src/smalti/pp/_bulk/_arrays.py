"""Passes over bulk matrices, in blocks of rows, that know missing values: moments, shares, size factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from smalti._validate import shorten
from smalti.pp._rows import BLOCK_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from smalti.pp._arrays import Floats

ROUNDING = 1e-9
"""A share times a number of samples is compared with whole numbers; this absorbs its rounding."""


@dataclass(frozen=True)
class ColumnMoments:
    """What is known of every feature: ``n`` observed values, their ``mean``, ``sd`` (divisor ``n``) and extremes.

    A feature that was never observed has ``n`` 0, mean and sd 0.
    """

    n: NDArray[np.int64]
    mean: Floats
    sd: Floats
    low: Floats
    high: Floats


def blocks(x: Any, *, zero_is_missing: bool = False) -> Iterator[tuple[slice, Floats]]:
    """Yield consecutive rows as dense blocks of at most about two million values; missing ones are NaN."""
    step = max(1, BLOCK_ENTRIES // max(x.shape[1], 1))
    for start in range(0, x.shape[0], step):
        rows = slice(start, min(start + step, x.shape[0]))
        part = x[rows]
        block = np.array(part.toarray() if sp.issparse(part) else part, dtype=np.float64)
        if np.isinf(block).any():
            raise ValueError("Expected finite values or NaN for missing ones, found infinity. Replace it by NaN.")
        if zero_is_missing:
            block[block == 0] = np.nan
        yield rows, block


def column_moments(x: Any, *, zero_is_missing: bool = False) -> ColumnMoments:
    """Return the moments of every column over its observed values, in two passes."""
    g = x.shape[1]
    n, total, square = np.zeros(g, dtype=np.int64), np.zeros(g), np.zeros(g)
    low, high = np.full(g, np.inf), np.full(g, -np.inf)
    for _, block in blocks(x, zero_is_missing=zero_is_missing):
        n += np.isfinite(block).sum(axis=0)
        total += np.nansum(block, axis=0)
        low, high = np.fmin(low, np.fmin.reduce(block, axis=0)), np.fmax(high, np.fmax.reduce(block, axis=0))
    mean = total / np.maximum(n, 1)
    for _, block in blocks(x, zero_is_missing=zero_is_missing):
        square += np.nansum((block - mean) ** 2, axis=0)
    return ColumnMoments(n, mean, np.sqrt(square / np.maximum(n, 1)), low, high)


def fill_missing(x: Any, fill: Floats, *, zero_is_missing: bool = False) -> Any:
    """Return ``x`` with its missing values replaced by the ``fill`` of their column; a copy only if there are any."""
    if sp.issparse(x):
        absent = np.isnan(x.data)
        if absent.any():
            x = x.copy()
            x.data[absent] = fill[x.indices[absent]]
        return x
    absent = np.isnan(x) | (x == 0) if zero_is_missing else np.isnan(x)
    return np.where(absent, fill.astype(x.dtype), x) if absent.any() else x


def often_counted(x: Any, *, min_counts: float, max_share: float) -> NDArray[np.bool_]:
    """Return which columns are below ``min_counts`` in less than ``max_share`` of their observed values."""
    n, few = np.zeros(x.shape[1], dtype=np.int64), np.zeros(x.shape[1], dtype=np.int64)
    for _, block in blocks(x):
        n += np.isfinite(block).sum(axis=0)
        few += (block < min_counts).sum(axis=0)
    good: NDArray[np.bool_] = (n > 0) & (few < max_share * n - ROUNDING)
    return good


def varying_probes(
    x: Any, *, max_missing: float, min_sd: float, zero_is_missing: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which columns are missing in less than ``max_missing`` of the rows, and which have at least ``min_sd``."""
    found = column_moments(x, zero_is_missing=zero_is_missing)
    often: NDArray[np.bool_] = (found.n > 0) & (x.shape[0] - found.n < max_missing * x.shape[0] - ROUNDING)
    return often, found.sd >= min_sd


def log_reference(x: Any, *, positive: bool) -> Floats:
    """Return the logarithm of the geometric mean of every column, ``(G,)``; NaN where it serves as no reference.

    Raises
    ------
    ValueError
        If a value is negative, or there is no reference.
    """
    n, g = x.shape
    seen, total = np.zeros(g, dtype=np.int64), np.zeros(g)
    for _, block in blocks(x):
        check_counts(block)
        here = block > 0
        seen += here.sum(axis=0)
        total += np.log(block, where=here, out=np.zeros_like(block)).sum(axis=0)
    used = seen > 0 if positive else seen == n
    if not used.any():
        raise ValueError(
            f"Expected at least one feature with a positive count in {'any' if positive else 'each'} of the {n} "
            f"samples as reference of the size factors, found none among {g} features. "
            + ("Check that the values are counts." if positive else "Use `positive=True`, or remove empty samples.")
        )
    reference: Floats = np.where(used, total / max(n, 1), np.nan)
    if positive:  # as for the plain estimate, factors are about 1
        reference = reference + np.nanmean(np.log(ratios(x, reference)))
    return reference


def ratios(x: Any, reference: Floats) -> Floats:
    """Return the median ratio of the positive counts of every row to the reference, ``(n,)``; NaN without any."""
    used = np.isfinite(reference)
    out = np.full(x.shape[0], np.nan)
    for rows, block in blocks(x):
        check_counts(block)
        block = block[:, used]
        here = block > 0
        logs = np.log(block, where=here, out=np.full_like(block, np.nan)) - reference[used]
        some = here.any(axis=1)
        out[rows][some] = np.exp(np.nanmedian(logs[some], axis=1))
    return out


def check_factors(factors: Floats, names: Sequence[object]) -> Floats:
    """Return the size factors if all exist, else raise ``ValueError`` naming the samples without one."""
    bad = np.isnan(factors)
    if bad.any():
        raise ValueError(
            f"Expected every sample to have a positive count in a reference feature, found {int(bad.sum())} without: "
            f"{shorten(np.asarray(names)[bad])}. Remove these samples."
        )
    return factors


def log2_normalised(x: Any, factors: Floats, *, log: bool = True) -> Any:
    """Return ``x`` with rows divided by ``factors``, then ``log2(1 + x)`` if ``log``; sparse stays sparse."""
    if sp.issparse(x):
        data = x.data / np.repeat(factors, np.diff(x.indptr))
        data = (np.log2(data + 1) if log else data).astype(real_type(x))
        return type(x)((data, x.indices.copy(), x.indptr.copy()), shape=x.shape)
    out = np.empty(x.shape, dtype=real_type(x))
    for rows, block in blocks(x):
        block /= factors[rows, None]
        out[rows] = np.log2(block + 1) if log else block
    return out


def m_values(x: NDArray[Any], offset: float) -> NDArray[Any]:
    """Return ``log2(b / (1 - b))`` of the values ``b`` clipped to ``[offset, 1 - offset]``; NaN stays."""
    out = np.empty(x.shape, dtype=real_type(x))
    for rows, block in blocks(x):
        np.clip(block, offset, 1 - offset, out=block)
        out[rows] = np.log2(block) - np.log2(1 - block)
    return out


def dense_betas(x: Any) -> NDArray[Any]:
    """Return methylation levels as an array, or raise ``ValueError`` if they are sparse or outside ``[0, 1]``."""
    if sp.issparse(x):
        raise ValueError(
            "Expected methylation levels as a dense array, found a sparse matrix, in which zero and missing look "
            "alike. Pass `X.toarray()` with NaN where nothing was measured."
        )
    x = np.asarray(x)
    low, high = np.fmin.reduce(x, axis=None, initial=0.0), np.fmax.reduce(x, axis=None, initial=0.0)
    if low < 0 or high > 1:
        raise ValueError(
            f"Expected methylation levels (beta values) in [0, 1], found values from {low:.4g} to {high:.4g}. "
            "M-values need no conversion: treat them as reals, or convert them with `m_to_beta` first."
        )
    return x


def check_counts(block: Any) -> None:
    """Raise ``ValueError`` if a value is negative; NaN passes."""
    low = np.fmin.reduce(block, axis=None, initial=0.0)
    if low < 0:
        raise ValueError(f"Expected counts >= 0, found {low:.4g}. Pass counts, not their logarithms or z-scores.")


def real_type(x: Any) -> type[np.floating]:
    """Return the type of computed values: that of ``x`` if it is real, else single precision."""
    return np.float64 if x.dtype == np.float64 else np.float32
