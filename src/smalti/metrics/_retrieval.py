"""Retrieval across modalities: how far up the list of candidates the true match stands."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from smalti._validate import check_choice, check_count
from smalti.metrics._counts import PairCounts, count_closer
from smalti.metrics._inputs import as_mask, as_pair, check_neighbors, with_metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

Metric = Literal["euclidean", "cosine"]
Direction = Literal["both", "x_to_y", "y_to_x"]
_COLUMNS = {"both": [0, 1], "x_to_y": [0], "y_to_x": [1]}
# a share of exact ties that does not happen by chance and flatters a strict comparison
_TIES = 0.01


class _Search(NamedTuple):
    x: NDArray[Any]
    y: NDArray[Any]
    queries: NDArray[np.int64]
    """``(n_queries,)`` cells with both embeddings, and their rows in x and in y."""
    ix: NDArray[np.int64]
    iy: NDArray[np.int64]
    n_cells: int
    chunk_size: int

    @property
    def gallery(self) -> tuple[int, int]:
        """Candidates in each direction: rows of y, rows of x."""
        return len(self.y), len(self.x)

    def competitors(self) -> PairCounts:
        return count_closer(self.x, self.y, self.ix, self.iy, chunk_size=self.chunk_size)

    def ranks(self) -> NDArray[np.float64]:
        counts = self.competitors()
        return 1 + counts.closer + counts.tied / 2


@overload
def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = ...,
    x_mask: ArrayLike | None = ...,
    y_mask: ArrayLike | None = ...,
    per_cell: Literal[False] = ...,
    chunk_size: int = ...,
) -> float: ...


@overload
def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = ...,
    x_mask: ArrayLike | None = ...,
    y_mask: ArrayLike | None = ...,
    per_cell: Literal[True],
    chunk_size: int = ...,
) -> NDArray[np.float64]: ...


def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = "euclidean",
    x_mask: ArrayLike | None = None,
    y_mask: ArrayLike | None = None,
    per_cell: bool = False,
    chunk_size: int = 1024,
) -> float | NDArray[np.float64]:
    r"""Compute the fraction of samples closer than the true match (Liu et al., 2019, doi 10.4230/LIPIcs.WABI.2019.10).

    .. math:: \frac{1}{2n}\sum_i \frac{|\{j: d(x_i, y_j) < d(x_i, y_i)\}| + |\{j: d(x_j, y_i) < d(x_i, y_i)\}|}{n}

    The comparison is strict and exact: distances are those of ``scipy.spatial.distance.cdist`` in float64, so
    candidates at exactly the same distance, such as copies of the true match, do not count as closer. The full distance
    matrix is never held.

    Parameters
    ----------
    x, y
        ``(n_cells, d)`` embeddings of the same cells from two modalities, row i of both being one cell.
    metric
        ``"euclidean"``, or ``"cosine"``: Euclidean after division of each row by its length.
    x_mask, y_mask
        ``(n_cells,)`` boolean, True where the cell has an embedding. Other rows (NaN allowed) are no candidates; cells
        with both rows are the queries.
    per_cell
        Return the fraction of each cell and direction instead of the mean.
    chunk_size
        Rows and columns of the tiles of distances that are held at once.

    Returns
    -------
    In [0, 1], lower is better: 0 is perfect, 0.5 is chance. With ``per_cell``: ``(n_cells, 2)``, searched from x in y
    and from y in x, NaN for cells that are no query; the score is the mean of its values.

    Raises
    ------
    ValueError
        If shapes differ, an embedding that is used is not finite, or no cell has both.

    Notes
    -----
    An embedding that collapses to one point has only ties and thus FOSCTTM 0. A warning is logged if more than 1 % of
    the comparisons are ties; :func:`recall_at_k` and :func:`median_rank` count ties by half.
    """
    search = _prepare(x, y, metric, x_mask, y_mask, chunk_size)
    counts = search.competitors()
    comparisons = len(search.queries) * sum(search.gallery)
    warn_of_ties(int(counts.tied.sum()), comparisons)
    if per_cell:
        fractions = np.full((search.n_cells, 2), np.nan)
        fractions[search.queries] = counts.closer / np.array(search.gallery)
        return fractions
    sums = counts.closer.sum(axis=0)
    means = [float(total / (len(search.queries) * size)) for total, size in zip(sums, search.gallery, strict=True)]
    return (means[0] + means[1]) / 2


def match_ranks(
    x: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = "euclidean",
    x_mask: ArrayLike | None = None,
    y_mask: ArrayLike | None = None,
    chunk_size: int = 1024,
) -> NDArray[np.float64]:
    """Rank the true match of each cell among all candidates; 1 is the nearest.

    Candidates at exactly the distance of the true match count half, so that copies and collapsed embeddings rank as
    chance does.

    Parameters
    ----------
    x, y, metric, x_mask, y_mask, chunk_size
        As in :func:`foscttm`.

    Returns
    -------
    ``(n_cells, 2)``, searched from x in y and from y in x; in [1, number of candidates], lower is better, NaN for cells
    that are no query.
    """
    search = _prepare(x, y, metric, x_mask, y_mask, chunk_size)
    ranks = np.full((search.n_cells, 2), np.nan)
    ranks[search.queries] = search.ranks()
    return ranks


def recall_at_k(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: Sequence[int] | int = (1, 5, 10),
    metric: Metric = "euclidean",
    direction: Direction = "both",
    x_mask: ArrayLike | None = None,
    y_mask: ArrayLike | None = None,
    chunk_size: int = 1024,
) -> dict[int, float]:
    """Compute the fraction of cells whose true match is among the ``k`` nearest candidates.

    Parameters
    ----------
    x, y, metric, x_mask, y_mask, chunk_size
        As in :func:`foscttm`.
    k
        Lengths of the list of candidates, each at most their number.
    direction
        Search from x in y, from y in x, or the mean of both.

    Returns
    -------
    ``{k: recall}``, in [0, 1], higher is better; chance is k / number of candidates. Ties: see :func:`match_ranks`.
    """
    columns = _COLUMNS[check_choice(direction, _COLUMNS, "direction")]
    search = _prepare(x, y, metric, x_mask, y_mask, chunk_size)
    lengths = np.atleast_1d(k).tolist()
    for length in lengths:
        check_neighbors(length, min(search.gallery[column] for column in columns), "candidates")
    ranks = search.ranks()[:, columns]
    return {length: float((ranks <= length).mean()) for length in lengths}


def median_rank(
    x: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = "euclidean",
    direction: Direction = "both",
    x_mask: ArrayLike | None = None,
    y_mask: ArrayLike | None = None,
    chunk_size: int = 1024,
) -> float:
    """Compute the median rank of the true match among the candidates.

    Parameters
    ----------
    x, y, metric, x_mask, y_mask, chunk_size
        As in :func:`foscttm`.
    direction
        Search from x in y, from y in x, or the mean of both medians.

    Returns
    -------
    In [1, number of candidates], lower is better; chance is about half the number of candidates. Ties: see
    :func:`match_ranks`.
    """
    columns = _COLUMNS[check_choice(direction, _COLUMNS, "direction")]
    ranks = _prepare(x, y, metric, x_mask, y_mask, chunk_size).ranks()
    return float(np.median(ranks[:, columns], axis=0).mean())


def warn_of_ties(ties: int, comparisons: int) -> None:
    """Log a warning if so many candidates are exactly as far as the true match that FOSCTTM says little."""
    if ties > _TIES * comparisons:
        logger.warning(
            "%.0f %% of the candidates are exactly as far as the true match: the embedding has copies or collapsed. "
            "By its published definition FOSCTTM does not count them, and flatters it: see recall and matching.",
            100 * ties / comparisons,
        )


def _prepare(
    x: ArrayLike, y: ArrayLike, metric: str, x_mask: ArrayLike | None, y_mask: ArrayLike | None, chunk_size: int
) -> _Search:
    check_count(chunk_size, "chunk_size")
    x, y = as_pair(x, y, x_mask=x_mask, y_mask=y_mask)
    has_x, has_y = as_mask(x_mask, len(x), "x_mask"), as_mask(y_mask, len(y), "y_mask")
    queries = np.flatnonzero(has_x & has_y)
    if len(queries) == 0:
        raise ValueError("Expected cells with both embeddings, found no cell that `x_mask` and `y_mask` share.")
    ix, iy = np.cumsum(has_x)[queries] - 1, np.cumsum(has_y)[queries] - 1
    return _Search(with_metric(x[has_x], metric), with_metric(y[has_y], metric), queries, ix, iy, len(x), chunk_size)
