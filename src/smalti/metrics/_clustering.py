"""Agreement of clusters with labels."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import kneighbors_graph

from smalti._validate import check_choice, check_count, check_positive
from smalti.metrics._inputs import as_embedding, check_classes, check_neighbors, encode_complete, encode_labels
from smalti.metrics._neighbors import MAX_EXACT, Neighbors, given_or_found

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

# the resolutions that scIB tries (Luecken et al., 2022)
_RESOLUTIONS = tuple(round(0.1 * step, 1) for step in range(1, 21))


class ClusterScores(NamedTuple):
    """Agreement of the clusters of an embedding with labels."""

    nmi: float
    """Normalised mutual information, in [0, 1], higher is better."""
    ari: float
    """Adjusted Rand index, in [-0.5, 1], higher is better, 0 is chance."""
    resolution: float | None
    """The resolution chosen; None for k-means."""


def nmi(labels: ArrayLike, clusters: ArrayLike, *, exclude: Collection[object] | str = ()) -> float:
    """Compute the normalised mutual information (arithmetic mean) of two partitions.

    Parameters
    ----------
    labels
        ``(n,)`` true labels. Cells with missing values (None, NaN) are left out.
    clusters
        ``(n,)`` predicted clusters.
    exclude
        Labels that mean "unlabelled"; their cells are left out.

    Returns
    -------
    In [0, 1], higher is better.
    """
    return float(normalized_mutual_info_score(*_partitions(labels, clusters, exclude)))


def ari(labels: ArrayLike, clusters: ArrayLike, *, exclude: Collection[object] | str = ()) -> float:
    """Compute the adjusted Rand index of two partitions.

    Parameters
    ----------
    labels, clusters, exclude
        As in :func:`nmi`.

    Returns
    -------
    In [-0.5, 1], higher is better; 0 is chance.
    """
    return float(adjusted_rand_score(*_partitions(labels, clusters, exclude)))


def nmi_ari(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    method: Literal["kmeans", "leiden"] = "kmeans",
    exclude: Collection[object] | str = (),
    n_init: int = 10,
    n_neighbors: int = 15,
    resolutions: Sequence[float] | None = None,
    seed: int = 0,
    neighbors: Neighbors | None = None,
) -> ClusterScores:
    """Cluster an embedding and compare the clusters with labels.

    ``"kmeans"`` makes as many clusters as there are labels. ``"leiden"`` optimises modularity on the graph of nearest
    neighbours and takes the resolution of the best NMI (Luecken et al., 2022), which flatters all methods alike.

    Parameters
    ----------
    embedding
        ``(n, d)``; distances are Euclidean.
    labels
        ``(n,)`` true labels. Cells with missing values (None, NaN) are left out before clustering.
    method
        The clustering.
    exclude
        Labels that mean "unlabelled"; their cells are left out before clustering.
    n_init
        Starts of k-means.
    n_neighbors
        Neighbours in the graph that Leiden sees.
    resolutions
        Resolutions that Leiden tries, 0.1 to 2.0 in steps of 0.1 by default.
    seed
        Of the clustering.
    neighbors
        What :func:`nearest_neighbors` found on the same cells, to save the search; every cell must have a label then.

    Returns
    -------
    :class:`ClusterScores`: NMI, ARI, and the resolution that was chosen.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or fewer than two labels are left.
    ImportError
        If ``method="leiden"`` and igraph is not installed.
    """
    check_choice(method, ("kmeans", "leiden"), "method")
    z = as_embedding(embedding, "embedding")
    codes, categories = encode_labels(labels, len(z), "labels", exclude=exclude)
    check_classes(codes, categories, "labels")
    if neighbors is not None and (codes < 0).any():
        missing = int((codes < 0).sum())
        raise ValueError(f"Expected a label for every cell where `neighbors` are given, found {missing} without one.")
    z, codes = z[codes >= 0], codes[codes >= 0]
    if method == "kmeans":
        check_count(n_init, "n_init")
        clusters = KMeans(len(categories), n_init=n_init, random_state=seed).fit_predict(z)
        return _scores(codes, clusters, None)
    tried = _RESOLUTIONS if resolutions is None else tuple(resolutions)
    if not tried:
        raise ValueError("Expected `resolutions` to hold at least one number, found none.")
    for value in tried:
        check_positive(value, "resolutions")
    n_neighbors = check_neighbors(n_neighbors, len(z) - 1, "other cells", what="n_neighbors")
    if neighbors is None and len(z) <= MAX_EXACT:
        nearest = kneighbors_graph(np.asarray(z, np.float32), n_neighbors)
        links = nearest.maximum(nearest.T)
    else:
        links = given_or_found(neighbors, np.asarray(z, np.float32), n_neighbors).graph(n_neighbors)
    # the first of equally good resolutions, as max() returns it
    return max(
        (_scores(codes, clusters, value) for value, clusters in _leiden(links, tried, seed)),
        key=lambda scores: scores.nmi,
    )


def _leiden(links: sp.csr_matrix, resolutions: Sequence[float], seed: int) -> Iterator[tuple[float, NDArray[np.int64]]]:
    igraph = _import_igraph()
    upper = sp.triu(links).tocoo()
    graph = igraph.Graph(n=links.shape[0], edges=np.column_stack([upper.row, upper.col]).tolist())
    try:
        for resolution in resolutions:
            igraph.set_random_number_generator(random.Random(seed))
            found = graph.community_leiden("modularity", resolution=resolution, n_iterations=2)
            yield float(resolution), np.asarray(found.membership, dtype=np.int64)
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default


def _import_igraph() -> Any:
    try:
        import igraph
    except ImportError as error:
        raise ImportError(
            "Leiden clustering needs the package igraph, which is not installed. Run `pip install igraph`, or use "
            'method="kmeans".'
        ) from error
    return igraph


def _scores(codes: NDArray[np.int64], clusters: NDArray[Any], resolution: float | None) -> ClusterScores:
    agreement = normalized_mutual_info_score(codes, clusters), adjusted_rand_score(codes, clusters)
    return ClusterScores(float(agreement[0]), float(agreement[1]), resolution)


def _partitions(
    labels: ArrayLike, clusters: ArrayLike, exclude: Collection[object] | str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = len(np.asarray(labels))
    truth, _ = encode_labels(labels, n, "labels", exclude=exclude)
    found, _ = encode_complete(clusters, n, "clusters")
    if not (truth >= 0).any():
        raise ValueError("Expected labelled cells in `labels`, found none.")
    return truth[truth >= 0], found[truth >= 0]
