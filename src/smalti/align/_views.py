"""One modality as transport sees it: standardised components, their neighbours, and landmarks that stand for cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import kmeans_plusplus
from sklearn.neighbors import NearestNeighbors

from smalti._validate import check_count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_CELLS = 5000
"""Cells up to which every cell is its own landmark."""
N_LANDMARKS = 2000
N_NEIGHBORS = 25
"""Neighbours that values are averaged over, the cell itself included (FOSCTTM of PBMC links: 0.175 raw, 0.113 so)."""
NEAREST = 3
"""Landmarks that share a cell."""
SEEDING_CELLS = 10_000
"""Cells that landmarks are drawn from."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Profiles of one modality.

    Cells are rows of the modality, in any order; landmarks are few, and a cell is a mixture of up to three of them.
    """

    components: NDArray[np.float64]
    """``(n, p)``, every column with mean 0 and standard deviation 1 (0 where it does not vary)."""
    mean: NDArray[np.float64]
    """``(p,)`` that was subtracted."""
    scale: NDArray[np.float64]
    """``(p,)`` that was multiplied with; 0 for columns that do not vary."""
    graph: sp.csr_matrix
    """``(n, n)`` sparse averages over neighbours; rows sum to 1."""
    members: sp.csr_matrix
    """``(n, L)`` share of each landmark in each cell; rows sum to 1."""
    landmarks: NDArray[np.int64]
    """``(L,)`` rows that the landmarks are."""

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.components)

    @property
    def mass(self) -> NDArray[np.float64]:
        """``(L,)`` share of the cells that each landmark stands for; sums to 1."""
        total: NDArray[np.float64] = np.asarray(self.members.sum(axis=0)).ravel() / self.n
        return total

    @property
    def unscaled(self) -> NDArray[np.float64]:
        """``(n, p)`` components as they were given, but for the mean: leading ones count for more."""
        return self.components * np.where(self.scale > 0, 1 / np.where(self.scale > 0, self.scale, 1.0), 0.0)

    def smooth(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return values ``(n, k)`` averaged over the neighbours of each cell."""
        return np.asarray(self.graph @ np.asarray(values, dtype=np.float64))

    def landmark_means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of values ``(n, k)`` over the cells of each landmark, ``(L, k)``."""
        return np.asarray(self.members.T @ values) / np.maximum(self.n * self.mass, 1e-300)[:, None]


def make_view(
    components: ArrayLike,
    *,
    batch: ArrayLike | None = None,
    n_landmarks: int = N_LANDMARKS,
    max_cells: int = MAX_CELLS,
    n_neighbors: int = N_NEIGHBORS,
    random_state: int = 0,
) -> View:
    """Prepare the components of one modality for transport.

    Parameters
    ----------
    components
        ``(n, p)`` finite numbers, such as principal components; neighbours are sought among them as they are.
    batch
        ``(n,)`` labels; every batch gets its share of landmarks, and landmarks stand for cells of their own batch only.
        By default batches are ignored.
    n_landmarks
        Landmarks where there are more than ``max_cells`` cells.
    max_cells
        Cells up to which every cell is its own landmark.
    n_neighbors
        Cells that values are averaged over.
    random_state
        Seed of the landmarks.

    Raises
    ------
    ValueError
        If components are not a table of finite numbers.
    """
    raw = np.asarray(components, dtype=np.float64)
    if raw.ndim != 2 or len(raw) == 0 or not np.isfinite(raw).all():
        raise ValueError(f"Expected finite components (cells, components) of at least one cell, found {raw.shape}.")
    check_count(n_landmarks, "n_landmarks")
    mean, sd = raw.mean(axis=0), raw.std(axis=0)
    scale = np.where(sd > 1e-8 * max(float(sd.max(initial=0)), 1e-300), 1 / np.where(sd > 0, sd, 1), 0.0)
    rng = np.random.default_rng(random_state)
    groups = (
        np.zeros(len(raw), dtype=np.int64) if batch is None else np.unique(np.asarray(batch), return_inverse=True)[1]
    )
    landmarks = np.arange(len(raw)) if len(raw) <= max_cells else _choose(raw, groups, n_landmarks, rng)
    return View(
        components=(raw - mean) * scale,
        mean=mean,
        scale=scale,
        graph=_graph(raw, min(n_neighbors, len(raw))),
        members=_members(raw, landmarks, groups),
        landmarks=landmarks,
    )


def _graph(x: NDArray[np.float64], k: int) -> sp.csr_matrix:
    found = (
        NearestNeighbors(n_neighbors=k)
        .fit(x.astype(np.float32))
        .kneighbors(x.astype(np.float32), return_distance=False)
    )
    at = np.arange(0, found.size + 1, k)
    return sp.csr_matrix((np.full(found.size, 1 / k), found.ravel(), at), shape=(len(x), len(x)))


def _choose(
    x: NDArray[np.float64], groups: NDArray[np.int64], n_landmarks: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw landmarks that cover the cells of every group (k-means++)."""
    chosen = []
    for group in np.unique(groups):
        cells = np.flatnonzero(groups == group)
        n = min(max(round(n_landmarks * len(cells) / len(x)), 1), len(cells))
        pool = rng.choice(cells, min(len(cells), max(SEEDING_CELLS * len(cells) // len(x), n)), replace=False)
        seed = int(rng.integers(2**31))
        chosen.append(pool[kmeans_plusplus(x[pool].astype(np.float32), n, n_local_trials=1, random_state=seed)[1]])
    return np.sort(np.concatenate(chosen))


def _members(x: NDArray[np.float64], landmarks: NDArray[np.int64], groups: NDArray[np.int64]) -> sp.csr_matrix:
    """Share every cell among its nearest landmarks, by distance relative to the third."""
    n = len(x)
    if len(landmarks) == n:
        return sp.identity(n, format="csr")
    parts = []
    for group in np.unique(groups):
        cells, own = np.flatnonzero(groups == group), np.flatnonzero(groups[landmarks] == group)
        k = min(NEAREST, len(own))
        search = NearestNeighbors(n_neighbors=k).fit(x[landmarks[own]].astype(np.float32))
        distance, at = search.kneighbors(x[cells].astype(np.float32))
        weight = np.exp(-np.square(distance / np.maximum(distance[:, -1:], 1e-12)))
        weight /= weight.sum(axis=1, keepdims=True)
        parts.append(sp.coo_matrix((weight.ravel(), (np.repeat(cells, k), own[at].ravel())), shape=(n, len(landmarks))))
    return sp.csr_matrix(sum(parts[1:], parts[0]))
