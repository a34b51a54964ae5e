"""The price of an open feature: calibration without structure, paths, search, stability."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from smalti.nn import START, open_probability

from ._engine import optimise, parameters_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._engine import Gates, SelectionProblem, Starts

logger = logging.getLogger(__name__)

FACTORS = (0.88, 0.96, 1.05, 1.15, 1.3, 1.5, 2.0)
"""Prices of a path, in units of the price that closes everything where there is no structure. Those below 1 are for
faint structure among much noise: it holds itself open only just, and what it takes to close noise closes it too."""
LOWEST, LOWEST_NULL, HIGHEST, N_BISECTIONS = 1e-3, 0.02, 2.0, 6
SAME = 0.95
"""Jaccard index from which two selections count as the same."""
N_SEARCH = 10


@dataclass
class Path:
    """Selections along increasing prices."""

    lams: list[float] = field(default_factory=list)
    """Prices."""
    mu: list[Starts] = field(default_factory=list)
    """Parameters of gates at each price."""
    chosen: int = 0
    """Which one was taken."""
    lam_null: float | None = None
    """Price that closes 99 % of the features if there is nothing to find."""

    def add(self, lam: float, gates: Gates) -> None:
        """Append a run."""
        self.lams.append(lam)
        self.mu.append(parameters_of(gates))

    def selected(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """Return which gates the ``i``-th run opened, by modality."""
        return {name: (mu > 0).numpy() for name, mu in self.mu[i].items()}

    def table(self, sigma: float) -> pd.DataFrame:
        """Return one row per price: number of selected gates and mean probability to be open, by modality."""
        rows = [
            {"lam": lam}
            | {f"n_{name}": int((m > 0).sum()) for name, m in mu.items()}
            | {f"p_{name}": float(open_probability(m, sigma).mean()) for name, m in mu.items()}
            for lam, mu in zip(self.lams, self.mu, strict=True)
        ]
        return pd.DataFrame(rows)


def calibrate(problem: SelectionProblem, *, seed: int, start: Starts | None, n_steps: int | None = None) -> float:
    """Return the smallest price that closes 99 % of the gates after every feature was permuted by itself.

    Bisection on the logarithm of the price.
    """
    null = problem.permute()

    def closes(lam: float) -> bool:
        mu = parameters_of(optimise(null, lam, seed=seed, start=start, n_steps=n_steps))
        return float(torch.cat([(m > 0).float() for m in mu.values()]).mean()) <= 0.01

    low, high = np.log(LOWEST_NULL), np.log(HIGHEST)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if closes(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def run_prices(problem: SelectionProblem, *, seed: int, start: Starts | None) -> Path:
    """Run the prices of the problem, or seven around the calibrated one; take the most stable stretch of selections."""
    path = Path()
    lams = problem.lams
    if not lams:
        path.lam_null = calibrate(problem, seed=seed, start=start)
        lams = tuple(factor * path.lam_null for factor in FACTORS)
    for lam in lams:
        path.add(lam, optimise(problem, lam, seed=seed, start=start))
    path.chosen = longest_stretch([np.concatenate(list(path.selected(i).values())) for i in range(len(path.lams))])
    return path


@torch.no_grad()
def price_between(
    problem: SelectionProblem, start: Starts, size: dict[str, NDArray[np.int64]], *, seed: int, n_batches: int = 8
) -> float:
    """Return a price between what features that start open earn, and what they earn when permuted.

    It lies at the share ``problem.between`` of the way up.

    Parameters
    ----------
    problem
        What to optimise.
    start
        Parameters to start from; open means above one half.
    size
        Features behind each gate, by modality.
    seed, n_batches
        Seed and number of the batches of cells that are looked at.

    Returns
    -------
    The price; if no gate starts open, or those that do earn no more than permuted ones, a price that closes all.
    """
    gates = problem.make_gates()
    for name, gate in gates.items():
        gate.mu.data.copy_((start[name] > START).to(gate.mu.dtype))
        gate.noise = 0.0
    z = {name: gate.gates() for name, gate in gates.items()}
    n_open = sum(float(size[name][(mu > START).numpy()].sum()) for name, mu in start.items())
    earned = []
    for each in (problem, problem.permute()):
        rng = np.random.default_rng(seed)
        found = [float(each.score(x, z, weight)) for x, weight in (each.draw(rng) for _ in range(n_batches))]
        earned.append(float(np.mean(found)) / max(n_open, 1))
    real, permuted = earned
    if real > permuted:
        return permuted + problem.between * (real - permuted)
    logger.warning("No feature depends on another one more than chance lets it: nothing is selected.")
    return HIGHEST


def longest_stretch(selections: list[NDArray[np.bool_]]) -> int:
    """Return the first of the longest run of selections that are the same (Jaccard 0.95), empty and full ones last."""
    best, best_length = 0, 0
    for i, first in enumerate(selections):
        if not first.any():
            continue
        length = 1
        while i + length < len(selections) and jaccard(first, selections[i + length]) >= SAME:
            length += 1
        length = 0 if first.all() else length
        if length > best_length:
            best, best_length = i, length
    return best


def search(
    problem: SelectionProblem, n_features: int, size: dict[str, NDArray[np.int64]], *, seed: int, start: Starts | None
) -> Path:
    """Bisect the price until ``n_features`` features are open; the rest of the way is by the order of the gates.

    Parameters
    ----------
    problem
        What to optimise.
    n_features
        Number of features, of all modalities together.
    size
        Features behind each gate, by modality.
    seed, start
        See :func:`optimise`.
    """
    path = Path()
    low, high = np.log(LOWEST), np.log(HIGHEST)
    best = np.inf
    for i in range(N_SEARCH):
        lam = float(np.exp((low + high) / 2))
        path.add(lam, optimise(problem, lam, seed=seed, start=start))
        n = sum(int(size[name][open_].sum()) for name, open_ in path.selected(i).items())
        if abs(n - n_features) < best:
            best, path.chosen = abs(n - n_features), i
        if best <= max(1, 0.02 * n_features):
            break
        low, high = ((low + high) / 2, high) if n > n_features else (low, (low + high) / 2)
    return path


def stability(
    problem: SelectionProblem, lam: float, n_runs: int, *, seed: int, start: Starts | None
) -> dict[str, np.ndarray]:
    """Return the share of half-samples of the cells, with a seed each, in which a gate opens, by modality.

    Gates with a share of at least 0.7 are called stable; with :math:`q` gates selected per run on average and ``D``
    exchangeable nuisance gates, at most :math:`q^2 / (0.4 D)` of them are expected to be false
    :cite:p:`Meinshausen2010`.
    """
    rng = np.random.default_rng(seed)
    counts = {name: np.zeros(len(gate.mu)) for name, gate in problem.make_gates().items()}
    n = len(problem.rows)
    for run in range(n_runs):
        half = problem.subset(np.sort(rng.choice(n, n // 2, replace=False)))
        for name, mu in parameters_of(optimise(half, lam, seed=seed + 1 + run, start=start)).items():
            counts[name] += (mu > 0).numpy()
    return {name: count / n_runs for name, count in counts.items()}


def jaccard(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the size of the intersection over that of the union, 1 for two empty sets."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
