"""How well an embedding keeps cell types: clusters, silhouettes, purity and connectivity in one look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

from smalti.metrics._clustering import nmi_ari
from smalti.metrics._inputs import as_embedding, check_classes, encode_labels
from smalti.metrics._lisi import NEIGHBORS, clisi
from smalti.metrics._mixing import cell_type_asw
from smalti.metrics._neighbors import Neighbors, given_or_found

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike

SILHOUETTE_CELLS = 6000
"""Cells that the silhouette looks at, drawn once."""
GRAPH_NEIGHBORS = 15


@dataclass(frozen=True, kw_only=True)
class BiologyScores:
    """How well cell types are kept; what :func:`biology_scores` returns. Higher is better."""

    mean: float
    """Mean of the six scores that follow, at most 1."""
    nmi_kmeans: float
    """Normalised mutual information of types and k-means clusters, in [0, 1]."""
    ari_kmeans: float
    """Adjusted Rand index of the same, at most 1, 0 is chance."""
    nmi_leiden: float
    """As above for Leiden clusters at the resolution of the best NMI."""
    ari_leiden: float
    """As above, at the same resolution."""
    asw: float
    """(silhouette width by type + 1) / 2, in [0, 1], 0.5 where types overlap."""
    clisi: float
    """Purity of neighbourhoods, in [0, 1], see :func:`clisi`."""
    connectivity: float
    """Whether each type is one piece of the graph, in (0, 1], see :func:`graph_connectivity`; not in the mean."""
    n_cells: int
    """Labelled cells that were scored."""


def biology_scores(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    exclude: Collection[object] | str = (),
    neighbors: Neighbors | None = None,
    seed: int = 0,
) -> BiologyScores:
    """Score how well an embedding keeps cell types, with the scores of scIB (Luecken et al., 2022).

    Parameters
    ----------
    x
        ``(n_cells, d)`` embedding; distances are Euclidean.
    labels
        ``(n_cells,)`` cell types. Cells with missing values (None, NaN) are left out before anything is computed.
    exclude
        Labels that mean "unlabelled"; their cells are left out, too.
    neighbors
        90 neighbours by :func:`nearest_neighbors`, to save the search. Used only if every cell has a label.
    seed
        Of the clusterings.

    Returns
    -------
    :class:`BiologyScores`.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or fewer than two types are left.
    ImportError
        If igraph is not installed.
    """
    x = as_embedding(x, "x")
    codes, categories = encode_labels(labels, len(x), "labels", exclude=exclude)
    check_classes(codes, categories, "labels")
    known = codes >= 0
    if not known.all():
        x, codes, neighbors = x[known], codes[known], None
    found = given_or_found(neighbors, x, min(NEIGHBORS, max(1, len(x) - 2)))
    kmeans = nmi_ari(x, codes, seed=seed)
    leiden = nmi_ari(x, codes, method="leiden", n_neighbors=min(GRAPH_NEIGHBORS, found.k), seed=seed, neighbors=found)
    scores = {
        "nmi_kmeans": kmeans.nmi,
        "ari_kmeans": kmeans.ari,
        "nmi_leiden": leiden.nmi,
        "ari_leiden": leiden.ari,
        "asw": cell_type_asw(x, codes, sample_size=min(SILHOUETTE_CELLS, len(x))),
        "clisi": clisi(x, codes, neighbors=found),
    }
    connected = graph_connectivity(x, codes, neighbors=found)
    mean = float(np.mean(list(scores.values())))
    return BiologyScores(mean=mean, **scores, connectivity=connected, n_cells=len(x))


def graph_connectivity(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = GRAPH_NEIGHBORS,
    exclude: Collection[object] | str = (),
    neighbors: Neighbors | None = None,
) -> float:
    """Compute, as a mean over cell types, the share of a type in the largest connected piece of its own graph.

    Parameters
    ----------
    x, labels, exclude, neighbors
        As in :func:`biology_scores`.
    n_neighbors
        Neighbours of a cell in the graph of all cells, from which the graph of a type is cut out.

    Returns
    -------
    In (0, 1], higher is better: 1 where every type is one piece. Types of a single cell do not count.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or no type has two cells.
    """
    x = as_embedding(x, "x")
    codes, categories = encode_labels(labels, len(x), "labels", exclude=exclude)
    if not (codes >= 0).all():
        x, codes, neighbors = x[codes >= 0], codes[codes >= 0], None
    graph = given_or_found(neighbors, x, n_neighbors).graph(n_neighbors)
    shares = []
    for code in range(len(categories)):
        rows = np.flatnonzero(codes == code)
        if len(rows) > 1:
            piece = connected_components(graph[rows][:, rows], directed=False)[1]
            shares.append(np.bincount(piece).max() / len(rows))
    if not shares:
        raise ValueError("Expected `labels` to have a type of two cells or more, found none.")
    return float(np.mean(shares))
