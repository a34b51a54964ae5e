"""What imputation returns, and the statistics behind its intervals and its skill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("model", "ridge", "knn")
K_NEIGHBORS = 15
N_NARROWER = 15
"""Narrower intervals that are tried for counts, down to half the coverage."""
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class Imputation:
    """Imputed values of a modality, with intervals, for the cells that lack it."""

    mean: pd.DataFrame
    """``(n, G)`` predicted values on the scale of the raw values, back-transformed from the scale of logs for counts
    (so nearer to a median than to a mean); missing where refused or not predictable."""
    lower: pd.DataFrame
    """``(n, G)`` lower ends of the intervals."""
    upper: pd.DataFrame
    """``(n, G)`` upper ends."""
    skill: pd.DataFrame
    """A row per feature, scored on held-out cells on the scale ``log(1 + x)`` for counts: ``rmse`` of what was filled
    in, ``rmse_model`` (the decoder alone), ``rmse_ridge``, ``rmse_knn``, ``r2`` (of what was filled in, in
    (-inf, 1]) and ``predictable``."""
    calibration: pd.DataFrame
    """A row per pattern and batch: ``n_cells`` imputed, ``n_calibration`` held-out cells behind the intervals,
    ``calibrated_by`` (``"own batch"``, ``"all batches"`` or ``"refused"``)."""
    target: str
    """The modality."""
    coverage: float
    """Share of values that lie in their interval, for cells like those of the calibration."""

    def __repr__(self) -> str:
        s, n_bad = self.skill, int((~self.skill["predictable"]).sum())
        if s["rmse"].isna().all():
            n = int(self.calibration["n_cells"].sum())
            return (
                f"Nothing was imputed: too few held-out cells were measured in {self.target!r} and in what the {n:,} "
                "cells that lack it have. Train on more such cells, or lower `min_calibration` and trust less."
            )
        means = {name: float(np.sqrt(np.mean(np.square(s[name])))) for name in s if name.startswith("rmse")}
        best = min(means["rmse_ridge"], means["rmse_knn"])
        lines = [
            f"Imputed {self.target!r}: {len(self.mean):,} cells x {self.mean.shape[1]} features, intervals of "
            f"{self.coverage:.0%}",
            f"  rmse on held-out cells {means['rmse']:.3f}; ridge {means['rmse_ridge']:.3f}, nearest cells "
            f"{means['rmse_knn']:.3f}, decoder alone {means['rmse_model']:.3f}; {1 - means['rmse'] / best:.1%} less "
            "than the better of ridge and nearest cells",
            f"  {n_bad} features cannot be predicted and are left missing",
        ]
        for at, row in self.calibration.iterrows():
            where = " / ".join(map(str, at)) if isinstance(at, tuple) else str(at)
            lines.append(
                f"  {where}: {row['n_cells']:,} cells, {row['calibrated_by']} ({row['n_calibration']:,} held-out cells)"
            )
        return "\n".join(lines)


class Stack:
    """Decoder, ridge and nearest cells, mixed by weights that are fitted to held-out cells.

    Parameters
    ----------
    x, y
        ``(n, d)`` components and ``(n, G)`` values of the cells of training, on the scale of the fit.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self.fit(x, y)
        self.weights = np.array([1.0, 0.0, 0.0])

    def fit(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Fit ridge and nearest cells to other cells; the weights stay."""
        self.ridge = RidgeCV(alphas=ALPHAS).fit(x, y)
        self.knn = KNeighborsRegressor(min(K_NEIGHBORS, len(x))).fit(x, y)

    def parts(self, x: NDArray[np.float64], decoded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predictions of the three methods, ``(3, n, G)``, in the order of ``METHODS``."""
        return np.stack([decoded, self.ridge.predict(x), self.knn.predict(x)])

    def fit_weights(self, parts: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Find weights >= 0 that sum to one and give the smallest squared error over all features."""
        gram, right = np.einsum("ang,bng->ab", parts, parts), np.einsum("ang,ng->a", parts, y)
        lower = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(parts)))
        strong = 1e3 * np.sqrt(np.trace(gram))  # a row that makes the weights sum to one
        a = np.vstack([lower.T, np.full(len(parts), strong)])
        found = nnls(a, np.append(np.linalg.solve(lower, right), strong))[0]
        self.weights = found / found.sum() if found.sum() > 0 else self.weights

    def combine(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted mean, ``(n, G)``."""
        return np.asarray(np.tensordot(self.weights, parts, axes=1))


def conformal_limits(
    residuals: NDArray[np.float64], coverage: float, *, whole: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what to add to a prediction for the ends of an interval, ``(G,)`` each.

    Order statistics of held-out residuals at the ranks of split conformal prediction, ``(n + 1)`` times each tail, so
    that a new cell of the same kind lies between them with probability ``coverage``. Ranks that are not whole are
    interpolated, and with so few residuals that a rank falls outside, the outermost one is taken.

    Parameters
    ----------
    residuals
        ``(n, G)``.
    coverage
        In (0, 1).
    whole
        ``(n, G)`` residuals of the counts themselves, where ``residuals`` are those of counts spread by a draw. Whole
        numbers at the ends of an interval belong to it, so that it holds more than promised: the narrowest of a row of
        intervals that still holds enough of these is taken, feature by feature.
    """
    n = len(residuals)
    ordered = np.sort(residuals, axis=0)
    low, high = _limits(ordered, coverage)
    if whole is None:
        return low, high
    needed = min(coverage * (n + 1) / n, 1.0)
    for level in coverage - np.arange(1, N_NARROWER + 1) * coverage / (2 * N_NARROWER):
        a, b = _limits(ordered, level)
        enough = ((whole >= a) & (whole <= b)).mean(axis=0) >= needed
        low, high = np.where(enough, a, low), np.where(enough, b, high)
    return low, high


def _limits(ordered: NDArray[np.float64], coverage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n = len(ordered)
    tail = (n + 1) * (1 - coverage) / 2 - 1
    return _order_statistic(ordered, tail), _order_statistic(ordered, n - 1 - tail)


def _order_statistic(ordered: NDArray[np.float64], rank: float) -> NDArray[np.float64]:
    """Return the value at a rank that need not be whole, between its two neighbours."""
    rank = float(np.clip(rank, 0, len(ordered) - 1))
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return np.asarray(ordered[low] + (rank - low) * (ordered[high] - ordered[low]))


def skill_table(
    parts: NDArray[np.float64], mixed: NDArray[np.float64], y: NDArray[np.float64], names: Any
) -> pd.DataFrame:
    """Return errors of every feature, see :class:`Imputation`."""
    variance = y.var(axis=0)
    table = {"rmse": np.sqrt(np.square(mixed - y).mean(axis=0))}
    for name, part in zip(METHODS, parts, strict=True):
        table[f"rmse_{name}"] = np.sqrt(np.square(part - y).mean(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        table["r2"] = np.where(variance > 0, 1 - np.square(table["rmse"]) / variance, 0.0)
    return pd.DataFrame(table, index=names)
