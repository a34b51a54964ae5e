"""What a pilot says of shared components: correlations of new cells, features that carry them, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti.data import looks_like_counts, row_maps

from ._estimators import deflate, truncated_cca

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._estimators import Pair

    Floats = NDArray[np.float64]

CONSTANT = 5.2
"""``c`` of ``n50 = c k log(p) / rho^2``; measured, with its spread, in ``docs/methods/planning.md``."""
CONSTANT_SPREAD = 1.25
"""Factor up and down within which the constant lies over sparsities, dimensions and correlations."""
POWER_FACTOR = 1.45
"""``n90`` over ``n50``; measured, 1.25 to 1.7."""
N_TOP = 2000
MAX_CELLS = 4000
CLIP = 10.0
N_FOLDS = 5
LEVEL = 0.01
"""Of the permutation test of a component; 0.05 would find one in every twentieth pilot without any."""
N_SHUFFLES = 500
N_BOOT = 200
UNSTABLE = 2.0
"""Ratio of the spread of folds to that of their test cells above which some fits have failed."""


class PilotValues(NamedTuple):
    """Standardised values of paired cells."""

    values: list[Floats]
    """``(n, p)`` of each modality, centred within batches."""
    raw: list[Any]
    """``(n, G)`` counts of all features, for thinning; ``None`` for reals."""
    columns: list[NDArray[np.int64]]
    """Which of them ``values`` are of."""
    batch: NDArray[np.int64]


def pilot_values(
    mdata: MuData, names: Sequence[str], cells: NDArray[np.int64], *, batch_key: str | None, seed: int
) -> PilotValues:
    """Return log-normalised, standardised values of the most variable features of at most 4,000 paired cells."""
    if len(cells) > MAX_CELLS:
        cells = np.sort(np.random.default_rng(seed).choice(cells, MAX_CELLS, replace=False))
    batch = np.zeros(len(cells), dtype=np.int64)
    if batch_key is not None:
        batch = pd.factorize(mdata.obs[batch_key].to_numpy()[cells])[0]
    maps = row_maps(mdata, list(names))
    values, raw, columns = [], [], []
    for name in names:
        x = mdata.mod[name].X[maps[name][cells]]
        counts = looks_like_counts(x)
        raw.append(sp.csr_matrix(x) if counts else None)
        x = normalise(x) if counts else np.asarray(x.toarray() if sp.issparse(x) else x, dtype=np.float64)
        columns.append(most_variable(x))
        values.append(standardise(x[:, columns[-1]], batch))
    return PilotValues(values, raw, columns, batch)


def normalise(x: Any) -> Any:
    """Return log1p of counts scaled to the median total, sparse."""
    x = sp.csr_matrix(x).astype(np.float64)
    total = np.asarray(x.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(np.median(total) / np.maximum(total, 1)) @ x).log1p()


def most_variable(x: Any) -> NDArray[np.int64]:
    """Return the columns of at most 2,000 features that vary most, in order; constant ones never."""
    if sp.issparse(x):
        mean = np.asarray(x.mean(axis=0)).ravel()
        spread = np.asarray(x.multiply(x).mean(axis=0)).ravel() - mean**2
    else:
        spread = x.var(axis=0)
    return np.sort(np.argsort(-spread, kind="stable")[: min(N_TOP, int((spread > 1e-12).sum()))])


def standardise(x: Any, batch: NDArray[np.int64]) -> Floats:
    """Return values with mean 0 within batches and standard deviation 1, cut at ten."""
    x = np.array(x.toarray() if sp.issparse(x) else x, dtype=np.float64)
    for b in np.unique(batch):
        x[batch == b] -= x[batch == b].mean(axis=0)
    return np.clip(x / np.maximum(x.std(axis=0), 1e-12), -CLIP, CLIP)


def components(pilot: PilotValues, *, n_max: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return the components that new cells of the pilot confirm, one row each.

    Each is fitted on four fifths of the cells (truncated CCA, its number of features chosen inside) and correlated on
    the fifth, in turns. It counts if the mean of the five correlations exceeds those of 99 % of 500 shuffles of the
    pairing; then its scores are regressed out of all features.

    Returns
    -------
    ``correlation`` on new cells (median of five folds) with ``low`` and ``high`` (90 %, bootstrap over cells), ``k``
    effective number of features, ``(sum |w|)^2 / sum w^2``, mean of both modalities, with ``k_low`` and ``k_high`` over
    the folds, ``reliability_x`` and ``reliability_y`` of the scores at the depth of the pilot (first component alone;
    NaN for reals), ``correlation_deep``, the correlation if counts had no noise, and ``p_value``.
    """
    rng = np.random.default_rng(seed)
    x, y = pilot.values
    folds = np.array_split(rng.permutation(len(x)), N_FOLDS)
    log_p = (np.log(x.shape[1]) + np.log(y.shape[1])) / 2
    rows: list[dict[str, float]] = []
    for _ in range(n_max):
        scores, sizes = [], []
        for fold in folds:
            train = np.setdiff1d(np.arange(len(x)), fold)
            pair = truncated_cca(x[train], y[train], seed=seed)
            scores.append((x[fold] @ pair.x, y[fold] @ pair.y))
            sizes.append(effective(pair))
        rho = _mean_correlation(scores)
        null = np.mean([_shuffled(u, v, rng) for u, v in scores], axis=0)
        p_value = (1 + int((null >= rho).sum())) / (1 + N_SHUFFLES)
        if p_value > LEVEL:
            break
        whole = truncated_cca(x, y, seed=seed)
        row = _typical(scores, rng) | {"k": effective(whole)}
        row |= {"k_low": min(sizes), "k_high": max(sizes), "log_p": log_p, "p_value": p_value}
        row |= _reliability(pilot, whole, rng) if not rows else {}
        rows.append(row)
        x, y = deflate(x, whole.x), deflate(y, whole.y)
    table = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="component"))
    if len(table) and "reliability_x" in table:
        both = np.sqrt(table["reliability_x"] * table["reliability_y"])
        table["correlation_deep"] = np.minimum(table["correlation"] / both, 1.0)
    return table


def formula(table: pd.DataFrame) -> pd.DataFrame:
    """Return by component the pairs that find its features in nine of ten studies: ``n``, ``low``, ``high``.

    ``n90 = 1.45 c k log(p) / rho^2`` with ``c`` = 5.2; the interval joins those of the correlation, of ``k`` and of the
    constant.
    """
    if not len(table):
        return pd.DataFrame(columns=["n", "low", "high"])

    def n(k: Any, rho: Any) -> Any:
        return POWER_FACTOR * CONSTANT * k * table["log_p"] / rho**2

    middle = n(table["k"], table["correlation"])
    # Independent errors on a log scale add in squares.
    up = [
        np.log(n(table["k_high"], table["correlation"]) / middle),
        np.log(n(table["k"], table["low"].clip(0.02)) / middle),
    ]
    down = [np.log(middle / n(table["k_low"], table["correlation"])), np.log(middle / n(table["k"], table["high"]))]
    constant = np.log(CONSTANT_SPREAD)
    high = middle * np.exp(np.sqrt(constant**2 + sum(np.maximum(u, 0) ** 2 for u in up)))
    low = middle / np.exp(np.sqrt(constant**2 + sum(np.maximum(d, 0) ** 2 for d in down)))
    return pd.DataFrame({"n": middle, "low": low, "high": high})


def effective(pair: Pair) -> float:
    """Return the effective number of features of both vectors, their mean."""
    sizes = [np.abs(w).sum() ** 2 / max(float(w @ w), 1e-300) for w in pair]
    return float(np.mean(sizes))


def _mean_correlation(scores: Sequence[tuple[Floats, Floats]]) -> float:
    return float(np.mean([_rows_correlation(u[None], v[None])[0] for u, v in scores]))


def _typical(scores: Sequence[tuple[Floats, Floats]], rng: np.random.Generator) -> dict[str, float]:
    """Return the correlation of new cells that most folds have, and its 90 % interval over cells.

    The median, since near the least number of cells some fits fail altogether. Where folds differ more than their test
    cells explain, the pilot is in that region, and the interval reaches from the mean to the best fold.
    """
    each = np.array([_mean_correlation([score]) for score in scores])
    resampled = np.array([_resampled(u, v, rng) for u, v in scores])
    low, high = np.quantile(np.median(resampled, axis=0), [0.05, 0.95])
    if each.std(ddof=1) > UNSTABLE * resampled.std(axis=1).mean():
        low, high = min(low, each.mean()), max(high, each.max())
    return {"correlation": float(np.median(each)), "low": float(low), "high": float(high)}


def _shuffled(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Return correlations of scores with their pairing shuffled, ``(500,)``."""
    return _rows_correlation(u[None], rng.permuted(np.tile(v, (N_SHUFFLES, 1)), axis=1))


def _resampled(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Return correlations of scores of cells drawn with replacement, ``(200,)``."""
    at = rng.integers(len(u), size=(N_BOOT, len(u)))
    return _rows_correlation(u[at], v[at])


def _rows_correlation(u: Floats, v: Floats) -> Floats:
    """Return the correlation of each row, 0 where one is constant."""
    u, v = (z - z.mean(axis=1, keepdims=True) for z in (u, v))
    size = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    return np.asarray((u * v).sum(axis=1) / np.maximum(size, 1e-12))


def _reliability(pilot: PilotValues, pair: Pair, rng: np.random.Generator) -> dict[str, float]:
    """Return the reliability of a component's scores: two halves of the counts, and the rule of Spearman and Brown."""
    out = {}
    for name, raw, columns, weight in zip(("x", "y"), pilot.raw, pilot.columns, pair, strict=True):
        if raw is None:
            out[f"reliability_{name}"] = np.nan
            continue
        half = raw.copy()
        half.data = rng.binomial(raw.data.astype(np.int64), 0.5).astype(np.float64)
        a, b = (standardise(normalise(part)[:, columns], pilot.batch) @ weight for part in (half, raw - half))
        r = max(float(np.corrcoef(a, b)[0, 1]), 0.0)
        out[f"reliability_{name}"] = 2 * r / (1 + r)
    return out
