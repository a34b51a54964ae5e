"""Error of translated values, feature by feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from scipy.stats import rankdata

from smalti._validate import check_choice, check_count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

METRICS = ("pearson", "spearman", "rmse", "mse")
# values of a block of features that are dense at once (64 MB in float64)
_BLOCK = 8_000_000


def translation_error(
    true: Any,
    predicted: Any,
    *,
    metric: Literal["pearson", "spearman", "rmse", "mse"] = "pearson",
    mask: ArrayLike | None = None,
    chunk_size: int | None = None,
) -> NDArray[np.float64]:
    """Compare predicted with measured values over cells, for each feature.

    Parameters
    ----------
    true, predicted
        ``(n_cells, n_features)``, dense or sparse, on the same scale (for ``"rmse"`` and ``"mse"``). Only
        blocks of features are ever made dense.
    metric
        ``"pearson"`` and ``"spearman"`` (average ranks) are correlations in [-1, 1], higher is better; ``"mse"`` is the
        mean squared difference and ``"rmse"`` its root, in units of the data, lower is better.
    mask
        Boolean, True where a value was measured: ``(n_cells,)`` for whole rows or ``(n_cells, n_features)``. Other
        values are ignored and may be NaN.
    chunk_size
        Features made dense at once; chosen so that a block takes 64 MB by default.

    Returns
    -------
    ``(n_features,)``. NaN where undefined: no measured value, or, for correlations, fewer than two measured values or
    all equal ones in either matrix.

    Raises
    ------
    ValueError
        If shapes differ, or a value that was measured is NaN or infinite.
    """
    check_choice(metric, METRICS, "metric")
    true, predicted = _matrix(true, "true"), _matrix(predicted, "predicted")
    if true.shape != predicted.shape:
        raise ValueError(f"Expected `true` and `predicted` of one shape, found {true.shape} and {predicted.shape}.")
    entries = None
    if mask is not None:
        entries = np.asarray(mask)
        if entries.dtype != bool or entries.shape not in ((true.shape[0],), true.shape):
            raise ValueError(
                f"Expected `mask` to be boolean of shape ({true.shape[0]},) or {true.shape}, found {entries.dtype} of "
                f"shape {entries.shape}."
            )
        if entries.ndim == 1:
            true, predicted, entries = true[entries], predicted[entries], None
    n_cells, n_features = true.shape
    if chunk_size is None:
        chunk_size = max(1, _BLOCK // max(n_cells, 1))
    check_count(chunk_size, "chunk_size")
    out = np.empty(n_features)
    for start in range(0, n_features, chunk_size):
        block = slice(start, min(start + chunk_size, n_features))
        measured = np.ones((n_cells, block.stop - start), bool) if entries is None else entries[:, block]
        a, b = (_dense(values, block, measured, name) for values, name in ((true, "true"), (predicted, "predicted")))
        out[block] = _correlation(a, b, measured, metric) if metric in ("pearson", "spearman") else _mse(a, b, measured)
    return np.sqrt(out) if metric == "rmse" else out


def translation_summary(values: ArrayLike) -> dict[str, float]:
    """Summarise a result of :func:`translation_error` over features.

    Parameters
    ----------
    values
        ``(n_features,)``, NaN where undefined.

    Returns
    -------
    ``mean``, ``median``, ``q25`` and ``q75`` over the features that have a value (NaN if none has), ``n_features`` and
    ``n_undefined``.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"Expected `values` to have one value per feature, found shape {array.shape}.")
    defined = array[~np.isnan(array)]
    quartiles = np.percentile(defined, [25, 50, 75]) if len(defined) else np.full(3, np.nan)
    return {
        "mean": float(defined.mean()) if len(defined) else float("nan"),
        "median": float(quartiles[1]),
        "q25": float(quartiles[0]),
        "q75": float(quartiles[2]),
        "n_features": float(len(array)),
        "n_undefined": float(len(array) - len(defined)),
    }


def _matrix(values: Any, what: str) -> Any:
    """Return ``values`` as a column-sliceable matrix, dense or compressed by columns."""
    matrix = values.tocsc() if sp.issparse(values) else np.asarray(values)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        found = f"{matrix.dtype} of shape {matrix.shape}"
        raise ValueError(f"Expected `{what}` to be a numeric matrix (n_cells, n_features), found {found}.")
    return matrix


def _dense(matrix: Any, block: slice, measured: NDArray[np.bool_], what: str) -> NDArray[np.float64]:
    """Return a block of features in float64, 0 where not measured."""
    columns = matrix[:, block]
    values = (columns.toarray() if sp.issparse(columns) else columns).astype(np.float64)
    values[~measured] = 0
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise ValueError(
            f"Expected measured values of `{what}` to be finite, found NaN or infinity in {int(bad.sum())} features, "
            f"first in column {block.start + int(np.argmax(bad))}. Mark values that were not measured in `mask`."
        )
    return values


def _mse(a: NDArray[np.float64], b: NDArray[np.float64], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return ((a - b) ** 2).sum(axis=0) / measured.sum(axis=0)


def _correlation(
    a: NDArray[np.float64], b: NDArray[np.float64], measured: NDArray[np.bool_], metric: str
) -> NDArray[np.float64]:
    count = measured.sum(axis=0)
    varies = _varies(a, measured) & _varies(b, measured)
    a, b, measured, count = a[:, varies], b[:, varies], measured[:, varies], count[varies]
    if metric == "spearman":
        a, b = _ranks(a, measured), _ranks(b, measured)
    a, b = _unit_columns(a, measured, count), _unit_columns(b, measured, count)
    out = np.full(len(varies), np.nan)
    out[varies] = np.clip(np.einsum("ij,ij->j", a, b), -1, 1)
    return out


def _varies(values: NDArray[np.float64], measured: NDArray[np.bool_]) -> NDArray[np.bool_]:
    high = np.max(values, axis=0, initial=-np.inf, where=measured)
    return high > np.min(values, axis=0, initial=np.inf, where=measured)


def _ranks(values: NDArray[np.float64], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return average ranks among the measured values of each column, 0 elsewhere."""
    # infinity sorts behind all measured values and so leaves their ranks alone
    ranks = rankdata(np.where(measured, values, np.inf), axis=0)
    return np.where(measured, ranks, 0.0)


def _unit_columns(
    values: NDArray[np.float64], measured: NDArray[np.bool_], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    centred = np.where(measured, values - values.sum(axis=0) / count, 0.0)
    return centred / np.linalg.norm(centred, axis=0)
