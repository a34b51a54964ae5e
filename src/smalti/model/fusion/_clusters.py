"""How many clusters there are, and where they start: on the fused embedding of all cells, outside of the network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, mutual_info_score
from sklearn.neighbors import KNeighborsClassifier

from smalti.pp import LinearCCA, LinearJoint

from ._communities import N_NEIGHBORS, graph_clusters, grow_tree

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
HEAD_CELLS = 20_000
"""Cells that are clustered and that the head is fitted to; a random sample of more."""
N_SPACES: dict[Start, int] = {"joint": 2, "graph": 1, "kmeans": 1}
"""Embeddings side by side by start."""
PER_CLUSTER = 10
"""Cells per cluster below which k-means takes the place of communities."""
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
    z: NDArray[np.floating],
    candidates: Sequence[int],
    *,
    start: Start = "kmeans",
    n_rounds: int = N_ROUNDS,
    random_state: int = 0,
) -> pd.DataFrame:
    """Return how alike the clusters are that two random halves of the cells give, for numbers of clusters.

    Each half is clustered as the start is and its clusters are carried to all cells, by the nearest centre after
    k-means and by the nearest neighbours after communities; the adjusted Rand index compares the two results.

    Parameters
    ----------
    z
        ``(n, d)`` embedding.
    candidates
        Numbers of clusters.
    start
        See :class:`~smalti.model.FusionOptions`.
    n_rounds
        Pairs of halves for each.
    random_state
        Seed.

    Returns
    -------
    One row per candidate (the index): ``stability``, the adjusted Rand index, at most 1; ``information``, the mutual
    information of the two results less the mean of what each says beyond it, in nats; and the standard error of each.
    """
    rng = np.random.default_rng(random_state)
    if len(z) > MAX_CELLS:
        z = z[np.sort(rng.choice(len(z), MAX_CELLS, replace=False))]
    half, numbers = len(z) // 2, list(candidates)
    by_means = start == "kmeans" or half < PER_CLUSTER * max(numbers)
    carry = _carried_means if by_means else partial(_carried_communities, n_spaces=N_SPACES[start])
    rand, shared = np.empty((2, n_rounds, len(numbers)))
    for row in range(n_rounds):
        order, seed = rng.permutation(len(z)), int(rng.integers(2**31))
        first, second = (carry(z, at, numbers, seed) for at in (order[:half], order[half:]))
        rand[row] = [adjusted_rand_score(a, b) for a, b in zip(first, second, strict=True)]
        shared[row] = [_net_information(a, b) for a, b in zip(first, second, strict=True)]
    columns = {}
    for name, values in (("stability", rand), ("information", shared)):
        columns[name] = values.mean(axis=0)
        columns["standard_error" if name == "stability" else "information_error"] = values.std(
            axis=0, ddof=1
        ) / np.sqrt(n_rounds)
    return pd.DataFrame(columns, index=pd.Index(numbers, name="n_clusters"))


def _net_information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return what two clusterings have in common less what they do not, ``I(a, b) - (H(a | b) + H(b | a)) / 2``."""
    entropies = [entropy(np.bincount(labels)) for labels in (a, b)]
    return float(2 * mutual_info_score(a, b) - np.mean(entropies))


def _carried_means(
    z: NDArray[np.floating], half: NDArray[np.int64], numbers: list[int], seed: int
) -> list[NDArray[np.int64]]:
    return [KMeans(k, n_init=3, random_state=seed).fit(z[half]).predict(z) for k in numbers]


def _carried_communities(
    z: NDArray[np.floating], half: NDArray[np.int64], numbers: list[int], seed: int, n_spaces: int
) -> list[NDArray[np.int64]]:
    tree = grow_tree(z[half], max(numbers), seed, n_spaces=n_spaces)
    near = KNeighborsClassifier(N_NEIGHBORS).fit(z[half], np.column_stack([tree.cut(k) for k in numbers]))
    found = near.predict(z)
    return list(found.reshape(len(z), -1).T)


def choose_n_clusters(curve: pd.DataFrame) -> int:
    """Return the smallest number of clusters that says as much on which halves agree as any, to a standard error.

    The adjusted Rand index alone prefers few clusters, such as a handful of odd cells beside all others, because there
    is nothing to disagree about; a further cluster counts here if halves agree on more than half of what it says.
    """
    best = curve["information"].idxmax()
    enough = curve["information"] >= curve.loc[best, "information"] - curve.loc[best, "information_error"]
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
    if start == "kmeans" or len(z) < PER_CLUSTER * n_clusters:
        labels = KMeans(n_clusters, n_init=10, random_state=random_state).fit_predict(z)
    else:
        labels = graph_clusters(z, n_clusters, random_state, n_spaces=N_SPACES[start])
    order = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ranked: NDArray[np.int64] = rank[labels].astype(np.int64)
    return ranked


def joint_latent(components: CellComponents, batch: NDArray[np.str_], random_state: int) -> NDArray[np.float32]:
    """Return two joint linear latents of all cells, ``(n_obs, 2 d)``; NaN for cells without anything.

    In the first components count as far as shared axes tell them, in the second all alike: that keeps types which one
    modality alone sees, and its noise. Communities of both graphs together were nowhere much worse than those of the
    better one (decision 012).

    Parameters
    ----------
    components
        Encoder inputs of all cells.
    batch
        ``(n_obs,)`` their batches.
    random_state
        Seed.
    """
    values, maps = components
    cells = np.flatnonzero(np.column_stack([rows >= 0 for rows in maps.values()]).any(axis=1))
    cells = some_rows(cells, random_state)
    some, spaces = {name: rows[cells] for name, rows in maps.items()}, []
    for weighted in (True, False):
        linear = LinearJoint(weighted=weighted, random_state=random_state).fit(values, some, batch[cells])
        spaces.append(linear.transform(values, maps, batch))
    return np.hstack(spaces)


def joint_clusters(space: NDArray[np.float32], n_clusters: int, random_state: int) -> NDArray[np.int64]:
    """Return the clusters of all cells that the head starts from, ``(n_obs,)``, -1 for cells without a place.

    They depend on the data and the seed alone, so that a training that goes on finds the same. Of many cells some are
    clustered, and the others follow their neighbours.
    """
    known = np.flatnonzero(np.isfinite(space).all(axis=1))
    cells = some_rows(known, random_state)
    out = np.full(len(space), -1, dtype=np.int64)
    out[cells] = start_clusters(space[cells], n_clusters, "joint", random_state)
    others = np.setdiff1d(known, cells)
    if len(others):
        out[others] = KNeighborsClassifier(N_NEIGHBORS).fit(space[cells], out[cells]).predict(space[others])
    return out


def some_rows(rows: NDArray[np.int64], random_state: int) -> NDArray[np.int64]:
    """Return at most :data:`HEAD_CELLS` of the rows, in order."""
    if len(rows) <= HEAD_CELLS:
        return rows
    return np.sort(np.random.default_rng(random_state).choice(rows, HEAD_CELLS, replace=False))
