"""How many clusters there are, and where they start: on the fused embedding of all cells, outside of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from smalti.pp import LinearCCA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from smalti.model.parts import CellComponents

    from ._options import Start

N_ROUNDS = 8
"""Pairs of halves per number of clusters."""
MAX_CELLS = 4000
"""Cells on which numbers of clusters are compared; a random sample of more."""
N_SHUFFLES = 3
MAX_AXES = 10
"""Most canonical correlations that are summed (spec of the method: K - 1, at most 10)."""
BEYOND = 3
"""Candidates go this far beyond the number of correlated axes."""


def correlated_axes(components: CellComponents, random_state: int) -> int | None:
    """Return how many axes of linear CCA are correlated on held-out cells beyond what shuffled pairs give.

    Parameters
    ----------
    components
        Encoder inputs of the training cells.
    random_state
        Seed of the shuffles.

    Returns
    -------
    At least 1; ``None`` where linear CCA cannot be fitted.
    """
    values, maps = components
    paired = np.column_stack([rows >= 0 for rows in maps.values()]).sum(axis=1) >= 2
    maps = {name: np.where(paired, rows, -1) for name, rows in maps.items()}
    try:
        found = LinearCCA(random_state=random_state).fit(values, maps).correlations
        rng = np.random.default_rng(random_state)
        null = [LinearCCA(random_state=random_state).fit(values, _shuffled(maps, rng)) for _ in range(N_SHUFFLES)]
    except ValueError:  # too few pairs, or no chain of them
        return None
    limit = max(float(cca.correlations.max()) for cca in null if cca.fitted_correlations is not cca.correlations)
    return max(1, int((found > limit).sum()))


def _shuffled(maps: dict[str, NDArray[np.int64]], rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Shuffle the rows of every modality among the cells that have it."""
    out = {}
    for name, rows in maps.items():
        rows, here = rows.copy(), np.flatnonzero(rows >= 0)
        rows[here] = rng.permutation(rows[here])
        out[name] = rows
    return out


def stability_curve(
    z: NDArray[np.floating], candidates: Sequence[int], *, n_rounds: int = N_ROUNDS, random_state: int = 0
) -> pd.DataFrame:
    """Return how alike the clusters are that two random halves of the cells give, for numbers of clusters.

    k-means is fitted to each half and applied to all cells; the adjusted Rand index compares the two results.

    Parameters
    ----------
    z
        ``(n, d)`` embedding.
    candidates
        Numbers of clusters.
    n_rounds
        Pairs of halves for each.
    random_state
        Seed.

    Returns
    -------
    One row per candidate (the index): ``stability``, at most 1, and ``standard_error``.
    """
    rng = np.random.default_rng(random_state)
    if len(z) > MAX_CELLS:
        z = z[np.sort(rng.choice(len(z), MAX_CELLS, replace=False))]
    half = len(z) // 2
    table = []
    for k in candidates:
        scores = []
        for _ in range(n_rounds):
            order = rng.permutation(len(z))
            seed = int(rng.integers(2**31))
            both = [KMeans(k, n_init=3, random_state=seed).fit(z[at]) for at in (order[:half], order[half:])]
            scores.append(adjusted_rand_score(*(model.predict(z) for model in both)))
        table.append((np.mean(scores), np.std(scores, ddof=1) / np.sqrt(n_rounds)))
    return pd.DataFrame(
        table, index=pd.Index(list(candidates), name="n_clusters"), columns=["stability", "standard_error"]
    )


def choose_n_clusters(curve: pd.DataFrame) -> int:
    """Return the smallest number of clusters whose stability is within one standard error of the highest."""
    best = curve["stability"].idxmax()
    enough = curve["stability"] >= curve.loc[best, "stability"] - curve.loc[best, "standard_error"]
    return int(curve.index[enough][0])


def start_clusters(z: NDArray[np.floating], n_clusters: int, start: Start, random_state: int) -> NDArray[np.int64]:
    """Return the clusters that the head starts from, ``(n,)``, from 0; clusters are ordered by size, largest first."""
    n_clusters = min(n_clusters, len(z))
    if start == "kmeans" or len(z) < 10 * n_clusters:
        labels = KMeans(n_clusters, n_init=10, random_state=random_state).fit_predict(z)
    else:
        x = z.astype(np.float64)
        mixture = GaussianMixture(
            n_clusters, covariance_type="tied", n_init=3, reg_covar=1e-4, random_state=random_state
        )
        labels = mixture.fit_predict(x)
    order = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ranked: NDArray[np.int64] = rank[labels].astype(np.int64)
    return ranked
