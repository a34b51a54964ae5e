"""How many clusters there are, and where they start: on the fused embedding of all cells, outside of the network."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import igraph
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.neighbors import kneighbors_graph

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
N_NEIGHBORS = 15
RESOLUTIONS, N_HALVINGS = (0.01, 8.0), 16
"""Where the resolution of communities is sought, and how often the interval is halved."""
STRAY = 5
"""Cells below which a community is no cluster."""
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
    """Return the clusters that the head starts from, ``(n,)``, from 0; clusters are ordered by size, largest first.

    Parameters
    ----------
    z
        ``(n, d)`` embedding.
    n_clusters
        Their number.
    start
        How, see :class:`~smalti.model.FusionOptions`. With fewer than ten cells per cluster always by k-means.
    random_state
        Seed.
    """
    n_clusters = min(n_clusters, len(z))
    if start == "kmeans" or len(z) < 10 * n_clusters:
        labels = KMeans(n_clusters, n_init=10, random_state=random_state).fit_predict(z)
    else:
        labels = graph_clusters(z, n_clusters, random_state)
    order = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ranked: NDArray[np.int64] = rank[labels].astype(np.int64)
    return ranked


def graph_clusters(z: NDArray[np.floating], n_clusters: int, random_state: int) -> NDArray[np.int64]:
    """Return communities of the graph of nearest neighbours (Leiden), ``(n,)``, as many as are wanted.

    The resolution is sought by halving. If none gives the wanted number, small communities join the nearest one, or the
    widest is split by k-means.
    """
    links = kneighbors_graph(z, min(N_NEIGHBORS, len(z) - 1))
    upper = sp.triu(links.maximum(links.T)).tocoo()
    graph = igraph.Graph(n=len(z), edges=np.column_stack([upper.row, upper.col]).tolist())
    low, high = RESOLUTIONS
    best: tuple[int, NDArray[np.int64]] | None = None
    try:
        for _ in range(N_HALVINGS):
            middle = float(np.sqrt(low * high))
            igraph.set_random_number_generator(random.Random(random_state))
            found = graph.community_leiden("modularity", resolution=middle, n_iterations=4)
            labels = np.asarray(found.membership, dtype=np.int64)
            n = int((np.bincount(labels) >= STRAY).sum())
            if best is None or abs(n - n_clusters) < best[0]:
                best = (abs(n - n_clusters), labels)
            if n == n_clusters:
                break
            low, high = (middle, high) if n < n_clusters else (low, middle)
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default
    assert best is not None
    return _as_many(z, best[1], n_clusters, random_state)


def _as_many(
    z: NDArray[np.floating], labels: NDArray[np.int64], n_clusters: int, random_state: int
) -> NDArray[np.int64]:
    """Let the smallest communities join the nearest others, or split the widest, until there are as many as wanted."""
    size = np.bincount(labels)
    kept = np.sort(np.argsort(-size, kind="stable")[: min(n_clusters, int((size >= STRAY).sum()) or 1)])
    centres = np.stack([z[labels == j].mean(axis=0) for j in kept])
    nearest = pairwise_distances_argmin(z, centres)
    place = np.full(len(size), -1)
    place[kept] = np.arange(len(kept))
    out = np.where(place[labels] >= 0, place[labels], nearest).astype(np.int64)
    for new in range(len(kept), n_clusters):
        spread = [((z[out == j] - z[out == j].mean(axis=0)) ** 2).sum() for j in range(new)]
        widest = np.flatnonzero(out == int(np.argmax(spread)))
        halves = KMeans(2, n_init=3, random_state=random_state).fit_predict(z[widest])
        out[widest[halves == 1]] = new
    return out
