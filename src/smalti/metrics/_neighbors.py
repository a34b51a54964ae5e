"""Nearest neighbours: exact on few cells, approximate on many, found once for all scores that look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from smalti.metrics._inputs import as_embedding, check_neighbors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_EXACT = 100_000
"""Cells up to which all distances are computed: for 90 neighbours of 100,000 cells in 30 dimensions that is faster than
the approximate search (72 against 188 s on one core) and holds less memory."""


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """The nearest other cells of every cell, nearest first."""

    distances: NDArray[Any]
    """``(n_cells, k)`` Euclidean distances."""
    indices: NDArray[np.int64]
    """``(n_cells, k)`` rows."""
    exact: bool
    """False if the search was approximate."""

    @property
    def k(self) -> int:
        """Neighbours of every cell."""
        return self.indices.shape[1]

    def graph(self, k: int | None = None) -> sp.csr_matrix:
        """Return the symmetric graph of the first ``k`` neighbours, ``(n_cells, n_cells)`` of ones."""
        near = self.indices[:, :k]
        n = len(near)
        links = sp.csr_matrix((np.ones(near.size), (np.repeat(np.arange(n), near.shape[1]), near.ravel())), (n, n))
        return links.maximum(links.T)


def nearest_neighbors(x: ArrayLike, *, k: int = 90, max_exact: int = MAX_EXACT, seed: int = 0) -> Neighbors:
    """Find the ``k`` nearest other cells of every cell, by Euclidean distance.

    Parameters
    ----------
    x
        ``(n_cells, d)`` embedding.
    k
        Neighbours, the cell itself left out. LISI with its usual perplexity of 30 looks at 90.
    max_exact
        Up to this number of cells all distances are computed, in blocks. Above it the search is approximate
        (pynndescent), in time that grows little faster than the number of cells.
    seed
        Of the approximate search.

    Returns
    -------
    :class:`Neighbors`, to be passed as ``neighbors=`` to the scores that take them.

    Raises
    ------
    ValueError
        If ``x`` is not a finite matrix, or ``k`` exceeds the number of other cells.
    """
    x = as_embedding(x, "x")
    k = check_neighbors(k, len(x) - 1, "other cells")
    exact = len(x) <= max_exact
    distances, indices = search(x, None, k + 1, exact=exact, seed=seed)
    own = indices == np.arange(len(x))[:, None]
    # with many copies of a cell, the cell itself may not be among the nearest: then the farthest goes
    drop = np.where(own.any(axis=1), own.argmax(axis=1), k)
    keep = np.ones_like(own)
    keep[np.arange(len(x)), drop] = False
    shape = (len(x), k)
    return Neighbors(distances=distances[keep].reshape(shape), indices=indices[keep].reshape(shape), exact=exact)


def search(
    x: NDArray[Any], queries: NDArray[Any] | None, k: int, *, exact: bool, seed: int = 0
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return distances and rows of the ``k`` cells of ``x`` nearest to each query (to each cell of ``x`` if None).

    A cell of ``x`` is its own first neighbour, unless copies of it come before.
    """
    if exact:
        found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors(x if queries is None else queries)
        return found[0], found[1].astype(np.int64, copy=False)
    from pynndescent import NNDescent

    if queries is None:
        index = NNDescent(x, n_neighbors=k, random_state=seed)
        indices, distances = index.neighbor_graph
    else:
        index = NNDescent(x, n_neighbors=max(k, 15), random_state=seed)
        index.prepare()
        indices, distances = index.query(queries, k)
    return distances, indices.astype(np.int64)


def neighbor_links(x: NDArray[Any], queries: NDArray[Any], k: int) -> sp.csr_matrix:
    """Return ``(n_queries, n_x)``, 1 where a cell of ``x`` is among the ``k`` nearest to a query."""
    if len(x) <= MAX_EXACT:
        return NearestNeighbors(n_neighbors=k).fit(x).kneighbors_graph(queries)
    indices = search(x, queries, k, exact=False)[1]
    rows = np.repeat(np.arange(len(queries)), k)
    return sp.csr_matrix((np.ones(indices.size), (rows, indices.ravel())), (len(queries), len(x)))


def given_or_found(neighbors: Neighbors | None, x: NDArray[Any], k: int) -> Neighbors:
    """Return ``neighbors`` if they are given and fit, else find ``k`` (fewer if there are fewer cells)."""
    k = min(k, len(x) - 1)
    if neighbors is None:
        return nearest_neighbors(x, k=k)
    if len(neighbors.indices) != len(x) or neighbors.k < k:
        raise ValueError(
            f"Expected `neighbors` to hold {k} neighbours of each of {len(x)} cells, found an array of shape "
            f"{neighbors.indices.shape}. Find them on the same cells."
        )
    return neighbors
