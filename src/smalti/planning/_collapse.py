"""From failures to laws: where half of the runs fail, and in which variable all curves fall together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import minimize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CELL = ["method", "n_features", "n_active", "correlation"]
VARIABLES = ("k log p", "k^1.5 log p", "k^2 log p")
"""Laws that are compared, each over rho^2."""
PRIOR_SLOPE = 4.0
"""Logits per e-fold of n that slopes are pulled to when all runs agree; 90 % to 10 % failure within a factor of 3."""
PRIOR_WIDTH = 3.0
QUANTILES = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class PhaseDiagram:
    """All runs of :func:`phase_diagram`, and the laws that follow."""

    table: pd.DataFrame
    """One row per method and data set: the grid's coordinates, ``error_x`` and ``error_y`` (squared, in [0, 2]), ``f1``
    of the support, ``held_out`` correlation on 1,000 new cells, ``seconds``."""
    delta: float = 0.1
    """Squared error above which an estimate has failed."""

    def runs(self) -> pd.DataFrame:
        """Return the table with the column ``failed``, and ``unit``, which is ``k log(p) / rho^2``."""
        table = self.table.copy()
        deep = table["held_out"] < (1 - self.delta) * table["correlation"]
        table["failed"] = np.where(table["error_x"].isna(), deep, table["error_x"] > self.delta)
        table["unit"] = table["n_active"] * np.log(table["n_features"]) / table["correlation"] ** 2
        return table

    def failure(self) -> pd.DataFrame:
        """Return the share of failures at each point: one row per method, p, k, rho and n."""
        grouped = self.runs().groupby([*CELL, "n_obs"], as_index=False)
        out = grouped.agg(
            failure=("failed", "mean"), runs=("failed", "size"), f1=("f1", "mean"), unit=("unit", "first")
        )
        return out.assign(ratio=out["n_obs"] / out["unit"])

    def transitions(self) -> pd.DataFrame:
        """Return by method, p, k and rho the sample sizes ``n50`` and ``n90`` at which 50 % and 10 % of runs fail.

        They come from a logistic curve in log n; NaN where the grid does not reach that far, by more than a factor of
        1.5.
        """
        rows = []
        for key, cell in self.runs().groupby(CELL):
            n = cell["n_obs"].to_numpy(dtype=float)
            fit = logistic(np.log(n), cell["failed"].to_numpy(dtype=float))
            low, high = np.log(n.min() / 1.5), np.log(n.max() * 1.5)
            at = [fit[0], fit[0] + np.log(9) / fit[1]]
            n50, n90 = (float(np.exp(a)) if low <= a <= high else np.nan for a in at)
            rows.append({**dict(zip(CELL, key, strict=True)), "n50": n50, "n90": n90})
        return pd.DataFrame(rows)

    def collapse(self, *, n_boot: int = 200, random_state: int = 0) -> pd.DataFrame:
        """Return the constant ``c`` of ``n50 = c * variable / rho^2`` for each law, and how well it fits.

        Parameters
        ----------
        n_boot
            Bootstrap samples of replicates within each point, for the 95 % intervals.
        random_state
            Seed.

        Returns
        -------
        One row per method and variable: ``constant`` (median over p, k and rho) with ``low`` and ``high``, ``cv``, its
        coefficient of variation over p, k and rho, and ``cells``, how many of them had a transition in the grid.
        """
        rows = []
        for method, at, drawn in self._bootstrap(n_boot, random_state):
            for variable in VARIABLES:
                constant, cv = _constant(at, at["n50"], variable)
                draws = [_constant(at, n50, variable) for n50 in drawn]
                low, high = np.quantile([d[0] for d in draws], QUANTILES) if draws else (np.nan, np.nan)
                row = {"method": method, "variable": variable, "constant": constant, "low": low, "high": high, "cv": cv}
                if draws:
                    row |= dict(zip(("cv_low", "cv_high"), np.quantile([d[1] for d in draws], QUANTILES), strict=True))
                rows.append(row | {"cells": len(at)})
        return pd.DataFrame(rows)

    def exponents(self, *, n_boot: int = 200, random_state: int = 0) -> pd.DataFrame:
        """Return exponents of ``k``, ``log p`` and ``rho`` in ``n50``, by least squares of its logarithm.

        Returns
        -------
        One row per method and term that varies in the grid: ``exponent``, and ``low`` and ``high`` of the 95 % interval
        over bootstrap samples of replicates. Deviations from a power law are not in the interval.
        """
        rows = []
        for method, at, drawn in self._bootstrap(n_boot, random_state):
            fit = _regress(at, at["n50"].to_numpy())
            draws = [_regress(at, n50) for n50 in drawn]
            for term, value in fit.items():
                spread = np.quantile([d[term] for d in draws], QUANTILES) if draws else (np.nan, np.nan)
                rows.append({"method": method, "term": term, "exponent": value, "low": spread[0], "high": spread[1]})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        runs = self.runs()
        lines = [
            f"PhaseDiagram of {len(runs)} runs, {100 * runs['failed'].mean():.0f} % failed (error > {self.delta:g})"
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _, row in self.collapse(n_boot=0).query("variable == 'k log p'").iterrows():
                if np.isfinite(row["constant"]):
                    lines.append(
                        f"  {row['method']}: n50 = {row['constant']:.1f} k log(p) / rho^2, variation {row['cv']:.2f}"
                    )
        return "\n".join(lines)

    def _bootstrap(self, n_boot: int, seed: int) -> list[tuple[str, pd.DataFrame, list[Floats]]]:
        """Return by method its cells with a transition, and ``n50`` of these in each bootstrap sample."""
        rng = np.random.default_rng(seed)
        out = []
        for method, at in self.transitions().dropna(subset=["n50"]).groupby("method"):
            runs = self.runs().query("method == @method").set_index(CELL[1:]).sort_index()
            cells = [runs.loc[tuple(key)] for key in at[CELL[1:]].to_numpy()]
            data = [(np.log(c["n_obs"].to_numpy(dtype=float)), c["failed"].to_numpy(dtype=float)) for c in cells]
            drawn = []
            for _ in range(n_boot):
                n50 = np.zeros(len(data))
                for i, (n, failed) in enumerate(data):
                    pick = rng.integers(len(n), size=len(n))
                    n50[i] = np.exp(logistic(n[pick], failed[pick])[0])
                drawn.append(n50)
            out.append((str(method), at, drawn))
        return out


def logistic(x: Floats, failed: Floats) -> tuple[float, float]:
    """Return where failure is one half, and the slope there (logits per unit of ``x``, positive: failure falls).

    The slope's logarithm has a normal prior, so that a curve of zeros and ones has a finite one.
    """
    centre = float(x.mean())

    def objective(theta: Floats) -> float:
        slope = np.exp(theta[1])
        logit = -slope * (x - centre - theta[0])
        likelihood = np.logaddexp(0, logit) - failed * logit
        prior = 0.5 * ((theta[1] - np.log(PRIOR_SLOPE)) / np.log(PRIOR_WIDTH)) ** 2
        return float(likelihood.sum() + prior)

    found = minimize(objective, [0.0, np.log(PRIOR_SLOPE)], method="BFGS")
    return centre + float(found.x[0]), float(np.exp(found.x[1]))


def law(table: pd.DataFrame, variable: str) -> Floats:
    """Return the value of a law at each row of a table with ``n_active``, ``n_features`` and ``correlation``."""
    power = {"k log p": 1.0, "k^1.5 log p": 1.5, "k^2 log p": 2.0}[variable]
    return (table["n_active"] ** power * np.log(table["n_features"]) / table["correlation"] ** 2).to_numpy(dtype=float)


def _constant(at: pd.DataFrame, n50: Floats, variable: str) -> tuple[float, float]:
    c = np.asarray(n50, dtype=float) / law(at, variable)
    return float(np.median(c)), float(c.std(ddof=1) / c.mean()) if len(c) > 1 else np.nan


def _regress(at: pd.DataFrame, n50: Floats) -> dict[str, float]:
    terms = {
        "k": np.log(at["n_active"].to_numpy(dtype=float)),
        "log p": np.log(np.log(at["n_features"].to_numpy(dtype=float))),
        "rho": np.log(at["correlation"].to_numpy(dtype=float)),
    }
    terms = {name: values for name, values in terms.items() if np.ptp(values) > 0}
    design = np.column_stack([np.ones(len(at)), *terms.values()])
    coefficients = np.linalg.lstsq(design, np.log(np.asarray(n50, dtype=float)), rcond=None)[0]
    return dict(zip(terms, coefficients[1:].tolist(), strict=True))
