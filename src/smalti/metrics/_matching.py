"""Matching of cells across modalities: the score, the weights behind it, and hard and soft matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from smalti._linalg import unit_rows
from smalti._validate import check_positive, shorten
from smalti.metrics._inputs import as_pair, check_neighbors, encode_complete, with_metric
from smalti.metrics._neighbors import neighbor_links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

# neighbours whose mean distance sets the width of the soft match, as in the authors' competition entry
_WIDTH_NEIGHBORS = 10


class Matching(NamedTuple):
    """A hard match of each cell of x."""

    partner: NDArray[np.int64]
    """``(n_x,)`` row of y; -1 where the cell has no candidate."""
    confidence: NDArray[np.float64]
    """``(n_x,)`` weight of that match among all of the cell's weights, in [0, 1], higher is surer."""


def matching_score(x: ArrayLike, y: ArrayLike, *, k: int = 10, groups: ArrayLike | None = None) -> float:
    r"""Compute the matching score of CLUE (Tu et al., 2022, Eq. 16) and of the NeurIPS 2021 multimodal competition.

    The mean, over cells, of the weight that :func:`matching_matrix` gives to the true match.

    Parameters
    ----------
    x, y
        ``(n_cells, d)`` embeddings of the same cells from two modalities, row i of both being one cell. Rows are
        divided by their length first.
    k
        Neighbours in each of the four graphs. Published scores use 1.
    groups
        ``(n_cells,)`` labels, such as batches; matches are sought within a group only, as in the competition.

    Returns
    -------
    In [0, 1], higher is better; chance is 1 / n_cells (within groups: number of groups / n_cells). Scores of sets of
    different size cannot be compared.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a group has fewer than ``k`` cells.
    """
    x, y = as_pair(x, y)
    weights = np.empty(len(x))
    for rows, _, block in _blocks(x, y, k, groups, None):
        total = np.asarray(block.sum(axis=1)).ravel()
        weights[rows] = block.diagonal() / np.maximum(total, 1e-12)
    return float(np.mean(weights))


def matching_matrix(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 10,
    normalize: bool = True,
    groups: ArrayLike | None = None,
    y_groups: ArrayLike | None = None,
) -> sp.csr_matrix:
    r"""Compute match weights from shared nearest neighbours (Tu et al., 2022, Eq. 16).

    .. math:: M_{ij} = \frac{|N_y(x_i) \cap N_y(y_j)| + |N_x(x_i) \cap N_x(y_j)|}
                            {4k - |N_y(x_i) \cap N_y(y_j)| - |N_x(x_i) \cap N_x(y_j)|}

    where :math:`N_y(\cdot)` are the ``k`` nearest cells of y; a cell is the first neighbour of itself. With ``k=1``, 1
    for mutual nearest neighbours and 1/3 for one-sided ones.

    Parameters
    ----------
    x, y
        ``(n_x, d)`` and ``(n_y, d)`` embeddings in one space. Rows are divided by their length first.
    k
        Neighbours in each of the four graphs.
    normalize
        Divide each row by its sum.
    groups, y_groups
        ``(n_x,)`` and ``(n_y,)`` labels, such as batches; matches are sought within a group only. ``groups`` serves
        both if ``y_groups`` is not given.

    Returns
    -------
    ``(n_x, n_y)`` sparse, values in [0, 1].

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a group has fewer than ``k`` cells in x or y.
    """
    x, y = as_pair(x, y, paired=False)
    matrix = _assemble(_blocks(x, y, k, groups, y_groups), (len(x), len(y)))
    return _normalize_rows(matrix) if normalize else matrix


def argmax_match(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 10,
    groups: ArrayLike | None = None,
    y_groups: ArrayLike | None = None,
) -> Matching:
    """Match each cell of x with the cell of y of the largest weight in :func:`matching_matrix`.

    Of several cells with the same weight the one of the largest cosine similarity is taken, then the first. Several
    cells of x may get the same cell of y.

    Parameters
    ----------
    x, y, k, groups, y_groups
        As in :func:`matching_matrix`.

    Returns
    -------
    :class:`Matching`, the partner in y and the confidence of each cell of x.
    """
    x, y = as_pair(x, y, paired=False)
    weights = _normalize_rows(_assemble(_blocks(x, y, k, groups, y_groups), (len(x), len(y))))
    rows = np.repeat(np.arange(len(x)), np.diff(weights.indptr))
    best = weights.max(axis=1).toarray().ravel()
    top = weights.data == best[rows]
    rows, columns = rows[top], weights.indices[top].astype(np.int64)
    similarity = np.zeros(len(rows))
    tied = np.bincount(rows, minlength=len(x))[rows] > 1
    unit_x, unit_y = unit_rows(x), unit_rows(y)
    similarity[tied] = np.einsum("ij,ij->i", unit_x[rows[tied]], unit_y[columns[tied]])
    order = np.lexsort((columns, -similarity, rows))
    first, at = np.unique(rows[order], return_index=True)
    partner = np.full(len(x), -1, dtype=np.int64)
    partner[first] = columns[order][at]
    return Matching(partner, best)


def soft_match(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 10,
    metric: Literal["euclidean", "cosine"] = "cosine",
    bandwidth: float = 0.1,
    groups: ArrayLike | None = None,
    y_groups: ArrayLike | None = None,
) -> sp.csr_matrix:
    r"""Match each cell of x softly with its ``k`` nearest cells of y by a Gaussian kernel.

    .. math:: P_{ij} \propto \exp\left(-\frac{d(x_i, y_j)^2}{2 \sigma_i^2}\right),\qquad
              \sigma_i = \text{bandwidth} \times \text{mean distance of the 10 nearest}

    after a variant of the authors' competition entry, whose width is a tenth of that mean.

    Parameters
    ----------
    x, y
        ``(n_x, d)`` and ``(n_y, d)`` embeddings in one space.
    k
        Cells of y among which the weight of a cell is shared. With fewer than 10, these set the width.
    metric
        ``"euclidean"``, or ``"cosine"``: Euclidean after division of each row by its length.
    bandwidth
        Width of the kernel relative to the mean distance; the smaller, the closer to the nearest neighbour.
    groups, y_groups
        As in :func:`matching_matrix`.

    Returns
    -------
    ``(n_x, n_y)`` sparse, at most ``k`` values in a row; each row sums to 1, or 0 if its group is absent from y.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a group has fewer than ``k`` cells in y.
    """
    x, y = as_pair(x, y, paired=False)
    check_positive(bandwidth, "bandwidth")
    x, y = with_metric(x, metric), with_metric(y, metric)
    blocks = (
        (rows, columns, _kernel(x[rows], y[columns], check_neighbors(k, len(columns), f"cells in y{where}"), bandwidth))
        for rows, columns, where in _within(len(x), len(y), groups, y_groups)
    )
    return _assemble(blocks, (len(x), len(y)))


def _kernel(x: NDArray[Any], y: NDArray[Any], k: int, bandwidth: float) -> sp.csr_matrix:
    n_nearest = min(max(k, _WIDTH_NEIGHBORS), len(y))
    distance, index = NearestNeighbors(n_neighbors=n_nearest).fit(y).kneighbors(x)
    distance = distance.astype(np.float64)
    width = bandwidth * distance[:, :_WIDTH_NEIGHBORS].mean(axis=1, keepdims=True)
    square = distance[:, :k] ** 2
    # relative to the nearest, so that a far cell does not underflow; width 0: all weight to cells at distance 0
    gap = square - square[:, :1]
    with np.errstate(over="ignore"):
        weight = np.exp(-gap / np.maximum(2 * width**2, np.finfo(np.float64).tiny))
    weight /= weight.sum(axis=1, keepdims=True)
    indptr = np.arange(0, len(x) * k + 1, k)
    return sp.csr_matrix((weight.ravel(), index[:, :k].ravel(), indptr), shape=(len(x), len(y)))


def _shared(x: NDArray[Any], y: NDArray[Any], k: int) -> sp.csr_matrix:
    shared = neighbor_links(y, x, k) @ neighbor_links(y, y, k).T
    shared = (shared + (neighbor_links(x, y, k) @ neighbor_links(x, x, k).T).T).tocsr()
    shared.data = shared.data / (4 * k - shared.data)
    return shared


_Block = tuple["NDArray[np.int64]", "NDArray[np.int64]", sp.csr_matrix]


def _blocks(
    x: NDArray[Any], y: NDArray[Any], k: int, groups: ArrayLike | None, y_groups: ArrayLike | None
) -> Iterator[_Block]:
    """Yield rows of x, rows of y and their match weights, not normalised, group by group."""
    x, y = unit_rows(x), unit_rows(y)
    for rows, columns, where in _within(len(x), len(y), groups, y_groups):
        k = check_neighbors(k, min(len(rows), len(columns)), f"cells in x and y{where}")
        yield rows, columns, _shared(x[rows], y[columns], k)


def _within(
    n_x: int, n_y: int, groups: ArrayLike | None, y_groups: ArrayLike | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], str]]:
    """Yield the rows of x and of y that may match, and words for messages; groups of one side only are skipped."""
    if groups is None:
        if y_groups is not None:
            raise ValueError("Expected `groups` with `y_groups`, found `y_groups` alone.")
        yield np.arange(n_x), np.arange(n_y), ""
        return
    if y_groups is None and n_x != n_y:
        raise ValueError(f"Expected `y_groups` where `x` and `y` differ in length ({n_x} and {n_y} rows), found None.")
    values = np.asarray(groups, dtype=object), np.asarray(groups if y_groups is None else y_groups, dtype=object)
    encode_complete(values[0], n_x, "groups")
    encode_complete(values[1], n_y, "y_groups")
    codes, categories = encode_complete(np.concatenate(values), n_x + n_y, "groups")
    used = 0
    for code, name in enumerate(categories):
        rows, columns = np.flatnonzero(codes[:n_x] == code), np.flatnonzero(codes[n_x:] == code)
        if len(rows) and len(columns):
            used += 1
            yield rows, columns, f" of group {name!r}"
    if not used:
        raise ValueError(f"Expected groups that x and y share, found none among {shorten(categories)}.")


def _assemble(blocks: Iterator[_Block], shape: tuple[int, int]) -> sp.csr_matrix:
    rows, columns, data = [], [], []
    for at_rows, at_columns, block in blocks:
        entries = block.tocoo()
        rows.append(at_rows[entries.row])
        columns.append(at_columns[entries.col])
        data.append(entries.data)
    matrix = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(matrix, shape=shape)


def _normalize_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    total = np.asarray(matrix.sum(axis=1)).ravel()
    matrix.data = matrix.data / np.repeat(np.maximum(total, 1e-12), np.diff(matrix.indptr))
    return matrix
