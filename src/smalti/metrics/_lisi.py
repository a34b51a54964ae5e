"""Local inverse Simpson index: how many groups, effectively, there are around each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smalti._validate import check_positive
from smalti.metrics._inputs import as_embedding, check_classes, encode_complete
from smalti.metrics._neighbors import Neighbors, given_or_found

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PERPLEXITY = 30.0
NEIGHBORS = 90
"""Three times the perplexity, as the authors take."""
_BISECTIONS = 50
_ROWS = 10_000


def lisi(
    x: ArrayLike, groups: ArrayLike, *, perplexity: float = PERPLEXITY, neighbors: Neighbors | None = None
) -> NDArray[np.float64]:
    r"""Compute the local inverse Simpson index of every cell (Korsunsky et al., 2019, doi 10.1038/s41592-019-0619-0).

    .. math:: \Bigl(\sum_g p_{ig}^2\Bigr)^{-1}, \qquad p_{ig} \propto \sum_{j \in N(i), j \in g} e^{-\beta_i d_{ij}}

    with :math:`\beta_i` chosen so that the weights of the neighbours have the perplexity asked for.

    Parameters
    ----------
    x
        ``(n_cells, d)`` embedding; distances are Euclidean.
    groups
        ``(n_cells,)`` batch, presence pattern or cell type of each cell.
    perplexity
        Effective number of neighbours; three times as many are looked at (all others, in a smaller set).
    neighbors
        What :func:`nearest_neighbors` found on the same cells, to save the search.

    Returns
    -------
    ``(n_cells,)`` in [1, number of groups]: 1 where all neighbours are of one group.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite or a group is missing.
    """
    x = as_embedding(x, "x")
    check_positive(perplexity, "perplexity")
    codes, _ = encode_complete(groups, len(x), "groups")
    found = given_or_found(neighbors, x, min(round(3 * perplexity), max(1, len(x) - 2)))
    out = np.empty(len(x))
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        weights = _weights(found.distances[rows], perplexity)
        out[rows] = _inverse_simpson(weights, codes[found.indices[rows]])
    return out


def ilisi(x: ArrayLike, groups: ArrayLike, *, neighbors: Neighbors | None = None) -> float:
    """Compute how well groups (batches, presence patterns) mix locally, relative to a random mixture.

    The median :func:`lisi` less 1, divided by that of groups thrown together at random, their sizes kept.

    Parameters
    ----------
    x, groups, neighbors
        As in :func:`lisi`.

    Returns
    -------
    In [0, 1], higher is better: 0 where neighbours are of the cell's own group, 1 as in a random mixture.

    Raises
    ------
    ValueError
        As :func:`lisi`, or if there is one group only.
    """
    x = as_embedding(x, "x")
    codes, categories = encode_complete(groups, len(x), "groups")
    check_classes(codes, categories, "groups")
    expected = 1 / np.sum((np.bincount(codes) / len(codes)) ** 2)
    return float(np.clip((np.median(lisi(x, codes, neighbors=neighbors)) - 1) / (expected - 1), 0, 1))


def clisi(x: ArrayLike, labels: ArrayLike, *, neighbors: Neighbors | None = None) -> float:
    """Compute how pure in cell types neighbourhoods are.

    The median :func:`lisi` by type, moved to [0, 1] (Luecken et al., 2022).

    Parameters
    ----------
    x, neighbors
        As in :func:`lisi`.
    labels
        ``(n_cells,)`` cell types, none missing.

    Returns
    -------
    In [0, 1], higher is better: 1 where all neighbours are of one type.

    Raises
    ------
    ValueError
        As :func:`lisi`, or if there is one type only.
    """
    x = as_embedding(x, "x")
    codes, categories = encode_complete(labels, len(x), "labels")
    check_classes(codes, categories, "labels")
    n_types = len(categories)
    return float((n_types - np.median(lisi(x, codes, neighbors=neighbors))) / (n_types - 1))


def _weights(distances: NDArray[Any], perplexity: float) -> NDArray[np.float64]:
    """Return weights of the neighbours with the given perplexity, by bisection; rows sum to 1."""
    d = distances / np.maximum(distances.mean(axis=1, keepdims=True), 1e-12)
    beta, low, high = np.ones(len(d)), np.full(len(d), -np.inf), np.full(len(d), np.inf)
    target = np.log(perplexity)
    for _ in range(_BISECTIONS):
        p = np.exp(-d * beta[:, None])
        total = np.maximum(p.sum(axis=1), 1e-300)
        flat = np.log(total) + beta * (d * p).sum(axis=1) / total > target
        low, high = np.where(flat, beta, low), np.where(flat, high, beta)
        sharper = np.where(np.isinf(high), beta * 2, (beta + high) / 2)
        softer = np.where(np.isinf(low), beta / 2, (beta + low) / 2)
        beta = np.where(flat, sharper, softer)
    p = np.exp(-d * beta[:, None])
    weights: NDArray[np.float64] = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-300)
    return weights


def _inverse_simpson(weights: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    n, n_groups = len(weights), int(codes.max()) + 1
    cells = np.arange(n)[:, None] * n_groups + codes
    shares = np.bincount(cells.ravel(), weights=weights.ravel(), minlength=n * n_groups).reshape(n, n_groups)
    return np.asarray(1 / np.maximum((shares**2).sum(axis=1), 1e-12))
