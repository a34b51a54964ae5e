"""Steps that selectors share: start, choice of the price, prune, tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.random_projection import GaussianRandomProjection

from smalti._gate_report import diagnose
from smalti._gate_table import gate_table
from smalti._support import FALSE_SHARE, sentence, too_many
from smalti._validate import check_choice, check_count, check_positive, shorten
from smalti.nn import open_probability

from ._engine import SelectOptions, optimise
from ._path import Path, price_between, run_prices, search, stability
from ._prune import prune
from ._result import Selection, among_all, partners

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti._support import Support

    Supports = Callable[[dict[str, NDArray[np.bool_]]], dict[str, Support]]

    from ._engine import SelectionProblem, Starts
    from ._values import Values

logger = logging.getLogger(__name__)

START_CELLS = 2000
"""Cells on which the dependence of features is judged."""
PRUNE_CELLS = 1000
N_TOP = 4000
"""Features beyond which only the most variable take part."""
LANDMARK_CELLS = 50_000
WIDTH = 50

Lam = float | Literal["path", "auto"]
"""Price of an open feature: a number; ``"path"``, calibrated on permuted features; or ``"auto"``, between what the
features that start open earn and what they earn when permuted."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How the price is found."""

    lam: Lam
    n_features: int | None
    stability: int
    random_state: int

    def __post_init__(self) -> None:
        if not isinstance(self.lam, str):
            check_positive(float(self.lam), "lam", allow_zero=True)
        else:
            check_choice(self.lam, ("path", "auto"), "lam")
        if self.n_features is not None:
            check_count(self.n_features, "n_features")
        check_positive(self.stability, "stability", allow_zero=True)

    def run(self, problem: SelectionProblem, start: Starts | None, size: dict[str, NDArray[np.int64]]) -> Path:
        """Return the runs, the chosen one marked; ``"auto"`` needs a start and else is ``"path"``."""
        if self.n_features is not None:
            return search(problem, self.n_features, size, seed=self.random_state, start=start)
        if self.lam == "auto" and start is not None:
            lam = price_between(problem, start, size, seed=self.random_state)
        elif isinstance(self.lam, str):
            return run_prices(problem, seed=self.random_state, start=start)
        else:
            lam = float(self.lam)
        path = Path()
        path.add(lam, optimise(problem, lam, seed=self.random_state, start=start))
        return path


def options_of(given: SelectOptions | dict[str, Any] | None, **defaults: Any) -> SelectOptions:
    """Return options, those not given being the selector's own defaults."""
    if isinstance(given, SelectOptions):
        return given
    return SelectOptions(**{**defaults, **(given or {})})


def some_cells(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return at most so many of the rows, in order."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def landmark_codes(values: Values, rows: NDArray[np.int64], n_landmarks: int, seed: int) -> NDArray[np.int64]:
    """Return the nearest of k-means landmarks for each of the rows, ``(n,)``, after a random projection to 50 axes."""
    n_landmarks = min(check_count(n_landmarks, "landmarks"), len(rows))
    projection = GaussianRandomProjection(min(WIDTH, values.n_features), random_state=seed)
    projection.fit(np.zeros((1, values.n_features), dtype=np.float32))
    parts = np.array_split(rows, max(1, len(rows) // 1024))
    z = np.concatenate([projection.transform(values.read(part).numpy()) for part in parts]).astype(np.float32)
    model = MiniBatchKMeans(n_landmarks, batch_size=4096, n_init=1, random_state=seed)
    model.fit(z[np.random.default_rng(seed).permutation(len(z))[:LANDMARK_CELLS]])
    return np.asarray(model.predict(z), dtype=np.int64)


def prune_modality(
    values: Values, rows: NDArray[np.int64], selected: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Leave-one-out prune of the selected features; return what stays, ``(D,)``, and the statistic, NaN elsewhere."""
    columns = np.flatnonzero(selected)
    statistic = np.full(len(selected), np.nan)
    if len(columns) < 2:
        return selected & False, statistic
    x = values.read(some_cells(rows, PRUNE_CELLS, seed))[:, torch.from_numpy(columns)]
    keep, z = prune(x, len(selected), seed=seed)
    statistic[columns] = z
    out = np.zeros_like(selected)
    out[columns[keep]] = True
    return out, statistic


def finish(
    mdata: MuData,
    problem: SelectionProblem,
    path: Path,
    choice: Choice,
    *,
    method: str,
    start: Starts | None,
    keep: Mapping[str, NDArray[np.bool_]] | None = None,
    extra: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    supports: Supports | None = None,
    write: bool = True,
) -> Selection:
    """Make tables of all variables from gates of those that took part, warn of what went wrong, and write.

    Parameters
    ----------
    keep
        ``(D,)`` bool by modality: selection that overrules the sign of the gates.
    extra
        Further columns by modality, ``(D,)`` each.
    supports
        What tells which features are supported, given the selected ones by modality.
    """
    sigma, mu = problem.options.sigma, path.mu[path.chosen]
    lam = path.lams[path.chosen]
    selected = {name: (m > 0).numpy() for name, m in mu.items()}
    if choice.n_features is not None:
        selected = widest(mu, choice.n_features)
    if keep is not None:
        selected = {name: selected[name] & keep[name] for name in selected}
    shares: dict[str, NDArray[np.float64]] = {}
    if choice.stability:
        shares = stability(problem, lam, choice.stability, seed=choice.random_state, start=start)
    tables, along = {}, {}
    found = {} if supports is None else supports(selected)
    for name, values in problem.values.items():
        n, at = len(values.names), values.columns
        probability = open_probability(mu[name], sigma).numpy()
        further = {"gate_stability": among_all(shares[name], at, n, 0.0)} if name in shares else {}
        further |= {key: among_all(v, at, n, np.nan) for key, v in (extra or {}).get(name, {}).items()}
        if name in found:
            further |= {key: among_all(v, at, n, v.dtype.type(0)) for key, v in found[name].columns.items()}
            logger.info(sentence(name, selected[name], found[name].supported, FALSE_SHARE))
            if warning := too_many(name, selected[name], found[name].supported, "`n_features=`"):
                logger.warning(warning)
        tables[name] = gate_table(
            values.names,
            selected=among_all(selected[name], at, n, False),
            gate=among_all(np.where(selected[name], mu[name].clamp(0, 1).numpy(), 0.0), at, n, 0.0),
            gate_prob=among_all(probability, at, n, 0.0),
            further=further,
        )
        along[name] = np.stack([among_all(path.selected(i)[name], at, n, False) for i in range(len(path.lams))])
        message = diagnose(name, probability, selected[name], f"lam={lam:.3g}")
        if message and choice.n_features is None:
            logger.warning(message)
        rows = some_cells(problem.rows[:, list(problem.values).index(name)], PRUNE_CELLS, choice.random_state)
        if 0 < selected[name].sum() < len(selected[name]):
            twins = partners(values.read(rows).numpy(), values.names[at], selected[name])
            if twins:
                logger.info("Duplicates of selected features of %r were left out: %s.", name, shorten(twins.items(), 3))
    result = Selection(
        method=method,
        tables=tables,
        lam=lam,
        lam_null=path.lam_null,
        path=path.table(sigma),
        open_along_path=along,
        n_supported={name: each.n_supported for name, each in found.items()},
        info={"graph": problem.graph()},
    )
    if write:
        result.write(mdata)
    return result


def widest(mu: Starts, n_features: int) -> dict[str, NDArray[np.bool_]]:
    """Return the ``n_features`` widest gates of all modalities together, by modality."""
    flat = torch.cat(list(mu.values()))
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[torch.argsort(flat, descending=True, stable=True)[:n_features]] = True
    parts = torch.split(chosen, [len(m) for m in mu.values()])
    return {name: part.numpy() for name, part in zip(mu, parts, strict=True)}
