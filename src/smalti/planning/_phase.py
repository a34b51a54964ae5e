"""Where sparse CCA starts to work: errors over sample size, dimension, sparsity and correlation, by simulation."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from smalti._jobs import run_jobs
from smalti._mudata import take_cells
from smalti._validate import check_choice, check_count, check_in_range, check_keys
from smalti.select import sparse_cca as gated_cca
from smalti.simulate import sparse_cca

from ._collapse import PhaseDiagram
from ._correlation import deep_pair
from ._estimators import Pair, correlation, ridge_cca, soft_threshold_cca, truncated_cca

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti._jobs import Backend

PhaseMethod = Literal["cca", "soft", "truncated", "truncated_unknown", "gated", "deep"]
METHODS: tuple[PhaseMethod, ...] = get_args(PhaseMethod)

KEYS = [
    "method",
    "covariance",
    "observed",
    "n_features",
    "n_active",
    "correlation",
    "n_obs",
    "replicate",
    "random_state",
]
RATIOS = (2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 11.0)
"""Sample sizes in units of k log p / rho^2; the transition of the truncated estimator lies at about 5."""
N_TEST = 1000
GATE_LAM = 0.005
GATE_STEPS = 1000
JOBS_PER_SAVE = 16


class _Point(NamedTuple):
    """One simulated data set."""

    covariance: str
    observed: str
    n_features: int
    n_active: int
    correlation: float
    n_obs: int
    replicate: int
    random_state: int

    @property
    def seed(self) -> int:
        """A seed that no other data set has."""
        numbers = (self.random_state, self.n_features, self.n_active, round(self.correlation * 1e4), self.n_obs)
        return int(np.random.SeedSequence([*numbers, self.replicate]).generate_state(1)[0])


def phase_diagram(
    *,
    methods: Sequence[PhaseMethod] = ("truncated",),
    n_features: Sequence[int] = (100, 300),
    n_active: Sequence[int] = (2, 4, 8, 16),
    correlations: Sequence[float] = (0.9, 0.7, 0.5),
    n_obs: Sequence[int] | None = None,
    ratios: Sequence[float] = RATIOS,
    n_replicates: int = 10,
    covariance: str = "identity",
    observed: str = "gaussian",
    delta: float = 0.1,
    path: str | Path | None = None,
    n_jobs: int = 1,
    backend: Backend = "loky",
    random_state: int = 0,
) -> PhaseDiagram:
    r"""Simulate sparse CCA over a grid and see where estimators fail.

    Every point of the grid is a data set of :func:`smalti.simulate.sparse_cca` with ``p`` features and ``k`` active
    ones in both modalities. An estimate fails if :math:`\min_\pm \| \hat\phi \pm \phi \|^2 > \delta` for the vectors of
    the first modality at length 1; deep CCA has no vector and fails if its correlation on new cells is below
    :math:`(1 - \delta) \rho`, which is what linear estimates at the limit have.

    Parameters
    ----------
    methods
        ``"cca"``: ridge CCA (0.1). ``"soft"``: soft-threshold CCA :cite:p:`Witten2009` (threshold half of the largest
        entry). ``"truncated"``: thresholded start, the ``k`` largest entries kept in turns, refit; knows ``k``.
        ``"truncated_unknown"``: the same, ``k`` chosen on held-out cells. ``"gated"``: :func:`smalti.select.sparse_cca`
        at a price of 0.005, which does not know ``k``. ``"deep"``: deep CCA, layers of 128 and 64.
    n_features, n_active, correlations
        Values of ``p``, ``k`` and ``rho``; all combinations are run.
    n_obs
        Numbers of cells; by default those at ``ratios``.
    ratios
        Numbers of cells in units of ``k log(p) / rho^2``.
    n_replicates
        Data sets per point.
    covariance, observed
        See :func:`smalti.simulate.sparse_cca`.
    delta
        Squared error above which an estimate has failed, in (0, 2]. Errors themselves are stored, so that another
        value needs no new run.
    path
        CSV file that results are added to as they come. What it holds already is not run again, so that a run that
        broke off is resumed by the same call, and a larger grid continues a smaller one.
    n_jobs
        Data sets at a time, as in joblib; -1: as many as there are cores.
    backend
        ``"loky"`` (processes), ``"threading"``, or ``"ray"``: a Ray cluster, if Ray is installed.
    random_state
        Seed. Points have seeds of their own, whatever the order and the number of jobs.

    Returns
    -------
    The table of all runs, with transitions, constants and exponents; :func:`smalti.pl.phase_diagram` draws it.

    Raises
    ------
    ImportError
        If the backend is Ray and it is not installed.

    Examples
    --------
    >>> import smalti as sm
    >>> grid = {"n_features": [50], "n_active": [2], "correlations": [0.9], "ratios": [1, 4, 16]}
    >>> diagram = sm.planning.phase_diagram(**grid, n_replicates=4)
    >>> diagram.failure()["failure"].round(1).tolist()[-1]
    0.0
    """
    for method in methods:
        check_choice(method, METHODS, "methods")
    check_in_range(delta, 1e-6, 2, "delta")
    check_count(n_replicates, "n_replicates")
    table = _read(path)
    done = set(map(tuple, _rounded(table)[KEYS].astype(str).to_numpy())) if len(table) else set()
    grid: dict[str, Sequence[object]]
    jobs = []
    for p, k, rho in product(n_features, n_active, correlations):
        unit = k * np.log(p) / rho**2
        sizes = [round(r * unit) for r in ratios] if n_obs is None else n_obs
        for n, replicate in product(sizes, range(n_replicates)):
            point = _Point(covariance, observed, int(p), int(k), float(rho), int(n), replicate, random_state)
            due = [method for method in methods if tuple(map(str, (method, *point))) not in done]
            if due and n >= MIN_OBS:
                jobs.append((point, due))
    new = [pd.DataFrame(rows) for rows in _run(jobs, path, n_jobs, backend)]
    table = pd.concat([table, *new], ignore_index=True) if new else table
    if table.empty:
        raise ValueError(
            f"Expected a grid with at least one point of {MIN_OBS} cells or more, found none. Raise `ratios`."
        )
    grid = {"method": methods, "n_features": n_features, "n_active": n_active, "correlation": correlations}
    grid |= {"covariance": [covariance], "observed": [observed], "random_state": [random_state]}
    if n_obs is not None:
        grid["n_obs"] = n_obs
    for column, values in grid.items():  # a file may hold other grids
        table = table[table[column].isin(list(values))]
    return PhaseDiagram(table=table.reset_index(drop=True), delta=delta)


MIN_OBS = 10


def _run(
    jobs: list[tuple[_Point, list[PhaseMethod]]], path: str | Path | None, n_jobs: int, backend: Backend
) -> Iterator[list[dict[str, Any]]]:
    for found in run_jobs(_simulate, jobs, n_jobs=n_jobs, backend=backend, at_once=JOBS_PER_SAVE):
        rows = [row for each in found for row in each]
        if path is not None:
            fresh = not Path(path).exists()
            pd.DataFrame(rows).to_csv(path, mode="a", header=fresh, index=False)
        yield rows


def _read(path: str | Path | None) -> pd.DataFrame:
    if path is None or not Path(path).exists():
        return pd.DataFrame()
    table = pd.read_csv(path)
    check_keys([*KEYS, "error_x"], list(table.columns), f"Columns of {path}")
    return table


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(correlation=table["correlation"].astype(float))


def _simulate(point: _Point, methods: list[PhaseMethod]) -> list[dict[str, Any]]:
    """Draw one data set, let every method estimate, and return its errors."""
    mdata = sparse_cca(
        point.n_obs + N_TEST,
        n_features=(point.n_features, point.n_features),
        n_active=point.n_active,
        correlations=point.correlation,
        covariance=point.covariance,  # type: ignore[arg-type]
        observed=point.observed,  # type: ignore[arg-type]
        random_state=point.seed,
    )
    x, y = (_dense(mdata[name].X) for name in mdata.mod)
    mean, spread = zip(*((z[: point.n_obs].mean(0), z[: point.n_obs].std(0)) for z in (x, y)), strict=True)
    x, y = ((z - m) / np.maximum(s, 1e-12) for z, m, s in zip((x, y), mean, spread, strict=True))
    truth = Pair(*(mdata[name].varm["canonical"][:, 0] for name in mdata.mod))
    rows = []
    for method in methods:
        start = time.perf_counter()
        row: dict[str, Any] = {"method": method, **point._asdict()}
        row |= _score(method, point, mdata, (x, y), truth, spread)
        rows.append(row | {"seconds": time.perf_counter() - start})
    return rows


def _score(
    method: PhaseMethod,
    point: _Point,
    mdata: MuData,
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    truth: Pair,
    spread: Sequence[NDArray[np.float64]],
) -> dict[str, float]:
    n, k = point.n_obs, point.n_active
    (x, y), (new_x, new_y) = ([z[:n] for z in values], [z[n:] for z in values])
    if method == "deep":
        trained = deep_pair(x, y, seed=point.seed % 2**31)
        u, v = trained.encode(new_x, new_y)
        return {"error_x": np.nan, "error_y": np.nan, "f1": np.nan, "held_out": abs(float(np.corrcoef(u.T, v.T)[0, 1]))}
    if method == "cca":
        pair = ridge_cca(x, y)
    elif method == "soft":
        pair = soft_threshold_cca(x, y)
    elif method == "gated":
        found = gated_cca(
            take_cells(mdata, slice(n)),
            n_top=None,
            lam=GATE_LAM,
            n_steps=GATE_STEPS,
            random_state=point.seed % 2**31,
            write=False,
        )
        pair = Pair(*(found.tables[name]["weight"].to_numpy() for name in mdata.mod))
    else:
        pair = truncated_cca(x, y, n_active=(k, k) if method == "truncated" else None)
    # Estimates are for standardised features; the truth is for the features themselves.
    scaled = [w / np.maximum(s, 1e-12) for w, s in zip(pair, spread, strict=True)]
    error = [squared_error(w, t) for w, t in zip(scaled, truth, strict=True)]
    scores = {"error_x": error[0], "error_y": error[1], "f1": _f1(pair.x, truth.x)}
    return scores | {"held_out": abs(correlation(new_x, new_y, pair))}


def squared_error(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    r"""Return :math:`\min_\pm \| \hat\phi / |\hat\phi| \pm \phi / |\phi| \|^2`, in [0, 2]; 2 for zeros."""
    size = float(np.linalg.norm(estimate) * np.linalg.norm(truth))
    return 2 * (1 - min(abs(float(estimate @ truth)) / size, 1.0)) if size > 0 else 2.0


def _f1(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    found, real = estimate != 0, truth != 0
    return float(2 * (found & real).sum() / max(found.sum() + real.sum(), 1))


def _dense(x: Any) -> NDArray[np.float64]:
    if hasattr(x, "toarray"):
        x = np.log1p(x.toarray() / np.maximum(x.sum(axis=1), 1) * np.median(x.sum(axis=1)))
    return np.asarray(x, dtype=np.float64)
