"""Weighted nearest neighbours of two or more modalities (Hao et al., Cell 2021), on arrays."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

SMALL = 1e-4


def weighted_neighbors(views: list[np.ndarray], *, n_neighbors: int = 20, n_candidates: int = 200) -> sp.csr_matrix:
    """Return the graph of the ``n_neighbors`` nearest by weighted affinity, ``(n, n)``, ones.

    ``views`` are ``(n, d)`` components of each modality; rows are scaled to unit length, as in the release. For each
    cell and modality the own affinity compares its profile with the mean of its neighbours in this modality, the cross
    affinity with the mean of its neighbours in the other; the softmax of their ratio is the weight of the modality for
    this cell.
    """
    views = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in views]
    n = len(views[0])
    n_candidates = min(n_candidates, n - 1)
    found = [NearestNeighbors(n_neighbors=n_candidates).fit(x).kneighbors() for x in views]  # without the cell itself
    nearest = [at[:, :n_neighbors] for _, at in found]
    first = [d[:, 0] for d, _ in found]
    width = [np.maximum(_bandwidth(x, at) - d, 1e-12) for x, at, d in zip(views, nearest, first, strict=True)]
    ratios = []
    for r, x in enumerate(views):
        affinity = []
        for at in nearest:
            distance = np.linalg.norm(x - x[at].mean(axis=1), axis=1)
            affinity.append(np.exp(-np.maximum(distance - first[r], 0) / width[r]))
        cross = np.mean([a for s, a in enumerate(affinity) if s != r], axis=0)
        ratios.append(affinity[r] / (cross + SMALL))
    ratio = np.minimum(np.stack(ratios), 200)
    weight = np.exp(ratio - ratio.max(axis=0))
    weight /= weight.sum(axis=0)
    rows, columns = [], []
    for i in range(n):
        candidates = np.unique(np.concatenate([at[i] for _, at in found]))
        total = np.zeros(len(candidates))
        for r, x in enumerate(views):
            distance = np.linalg.norm(x[candidates] - x[i], axis=1)
            total += weight[r, i] * np.exp(-np.maximum(distance - first[r][i], 0) / width[r][i])
        best = candidates[np.argsort(-total, kind="stable")[:n_neighbors]]
        rows.append(np.full(len(best), i))
        columns.append(best)
    at = np.concatenate(rows), np.concatenate(columns)
    return sp.csr_matrix((np.ones(len(at[0])), at), shape=(n, n))


def _bandwidth(x: np.ndarray, nearest: np.ndarray, n_far: int = 20) -> np.ndarray:
    """Mean distance to the cells that share least, but some, of a cell's neighbours (smallest Jaccard index above
    0)."""
    n, k = nearest.shape
    own = np.column_stack([nearest, np.arange(n)])
    graph = sp.csr_matrix((np.ones(n * (k + 1)), (np.repeat(np.arange(n), k + 1), own.ravel())), shape=(n, n))
    shared = (graph @ graph.T).tocsr()
    out = np.empty(n)
    for i in range(n):
        at = slice(shared.indptr[i], shared.indptr[i + 1])
        cells, common = shared.indices[at], shared.data[at]
        keep = cells != i
        cells, common = cells[keep], common[keep]
        distance = np.linalg.norm(x[cells] - x[i], axis=1)
        order = np.lexsort((-distance, common))[:n_far]  # equal overlap: the farther first
        out[i] = distance[order].mean() if len(order) else np.linalg.norm(x[nearest[i]] - x[i], axis=1).mean()
    return out
