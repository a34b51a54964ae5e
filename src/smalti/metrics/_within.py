"""Matching as a user does it: among the cells of the same batch, and among cells that were measured equally deeply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti._linalg import unit_rows
from smalti._validate import check_count
from smalti.metrics._counts import count_closer
from smalti.metrics._inputs import as_pair, draw_rows, encode_complete
from smalti.metrics._matching import matching_score
from smalti.metrics._retrieval import warn_of_ties

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_QUERIES = 5000
"""Cells of a batch whose partner is searched, drawn once; every cell of the batch stays a candidate."""
LEAST_GROUP = 20
DEPTH_SHARE, LEAST_CANDIDATES = 0.1, 50
_CHUNK = 1024
_BLOCK = 20_000_000


@dataclass(frozen=True, kw_only=True)
class MatchingScores:
    """How well partners are found; what :func:`matching_scores` returns."""

    foscttm: float
    """Fraction of candidates closer than the true partner, in [0, 1], lower is better, 0.5 is chance."""
    foscttm_depth: float | None
    """The same among candidates of the partner's total count; None without totals."""
    matching: float
    """Matching score, in [0, 1], higher is better, see :func:`matching_score`."""
    recall: float
    """Share of cells whose partner is among the ``k`` nearest candidates, in [0, 1], higher is better."""
    chance_matching: float
    """Matching score of a blind guess."""
    chance_recall: float
    """Recall of a blind guess."""
    n_pairs: int
    """Pairs that were candidates."""
    n_queries: int
    """Pairs whose partners were searched by FOSCTTM and recall; fewer than ``n_pairs`` if they were drawn."""
    n_groups: int
    """Groups (batches) that were large enough."""


def matching_scores(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    x_totals: ArrayLike | None = None,
    y_totals: ArrayLike | None = None,
    k: int = 10,
    least_group: int = LEAST_GROUP,
    max_queries: int = MAX_QUERIES,
    seed: int = 0,
) -> MatchingScores:
    """Score how well two embeddings of the same cells find each other, by cosine, among cells of the same group.

    The batch of a cell is known to its user, so candidates of other batches only reward an embedding for telling
    batches apart. Depth is shared by both modalities of a cell, too: ``foscttm_depth`` takes as candidates only the
    tenth of the group (at least 50 cells) whose total in the modality searched is nearest to that of the true partner,
    and thus tells what is left when depth tells nothing. Candidates exactly as far as the partner do not count, as in
    :func:`foscttm`: a collapsed embedding looks perfect by it, not by matching and recall, and a warning says so.

    Parameters
    ----------
    x, y
        ``(n_cells, d)`` embeddings of the same cells from two modalities, row i of both being one cell.
    groups
        ``(n_cells,)`` batch of each cell. One group by default, of any size.
    x_totals, y_totals
        ``(n_cells,)`` total counts, or their logarithms, of the cells in the modality of ``x`` and in that of ``y``.
    k
        Neighbours of the matching score and length of the list for recall; at most the size of the smallest group.
    least_group
        Groups of fewer cells are left out.
    max_queries
        Above this number of cells in a group, the partners of so many, drawn at random, are searched for.
    seed
        Of the draw.

    Returns
    -------
    :class:`MatchingScores`, means over cells.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, one of the totals is given without the other, or no group is large
        enough.
    """
    x, y = as_pair(x, y)
    check_count(max_queries, "max_queries")
    totals = _totals(x_totals, y_totals, len(x))
    codes = np.zeros(len(x), np.int64) if groups is None else encode_complete(groups, len(x), "groups")[0]
    least = 1 if groups is None else check_count(least_group, "least_group")
    members = [rows for code in range(int(codes.max()) + 1) if len(rows := np.flatnonzero(codes == code)) >= least]
    if not members:
        raise ValueError(f"Expected a group of at least {least} cells, found {np.bincount(codes).max()} at most.")
    unit = unit_rows(x), unit_rows(y)
    plain, deep, recall = [], [], []
    n_queries = ties = comparisons = 0
    for rows in members:
        a, b = unit[0][rows], unit[1][rows]
        at = draw_rows(len(rows), max_queries, seed)
        n_queries += len(at)
        counts = _count(a, b, at)
        ties, comparisons = ties + int(counts[1].sum()), comparisons + 2 * len(at) * len(rows)
        plain.append(float((counts[0] / len(rows)).mean()))
        recall.append(float((1 + counts[0] + counts[1] / 2 <= k).mean()))
        if totals is not None:
            sides = (a, b, totals[1][rows]), (b, a, totals[0][rows])
            deep.append(float(np.mean([_closer_at_depth(*side, at) for side in sides])))
    warn_of_ties(ties, comparisons)
    sizes = np.array([len(rows) for rows in members])
    kept = np.concatenate(members)
    return MatchingScores(
        foscttm=float(np.average(plain, weights=sizes)),
        foscttm_depth=float(np.average(deep, weights=sizes)) if deep else None,
        matching=matching_score(unit[0][kept], unit[1][kept], k=k, groups=codes[kept]),
        recall=float(np.average(recall, weights=sizes)),
        chance_matching=len(members) / len(kept),
        chance_recall=float(np.average(np.minimum(k / sizes, 1), weights=sizes)),
        n_pairs=len(kept),
        n_queries=n_queries,
        n_groups=len(members),
    )


def _totals(x: ArrayLike | None, y: ArrayLike | None, n: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if x is None and y is None:
        return None
    if x is None or y is None:
        raise ValueError("Expected both `x_totals` and `y_totals` or none of them, found one.")
    both = np.asarray(x), np.asarray(y)
    for values, what in zip(both, ("x_totals", "y_totals"), strict=True):
        if values.shape != (n,) or not np.isfinite(values).all():
            raise ValueError(f"Expected `{what}` to be finite of shape ({n},), found shape {values.shape}.")
    return both


def _count(x: NDArray[Any], y: NDArray[Any], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for the pairs ``at`` the candidates closer than the partner, and tied with it, ``(n, 2)`` each."""
    if len(at) == len(x):
        both = count_closer(x, y, at, at, chunk_size=_CHUNK)
        return both.closer, both.tied
    own = np.arange(len(at))
    there = count_closer(x[at], y, own, at, chunk_size=_CHUNK)
    back = count_closer(x, y[at], at, own, chunk_size=_CHUNK)
    columns = (there.closer[:, 0], back.closer[:, 1]), (there.tied[:, 0], back.tied[:, 1])
    return np.column_stack(columns[0]), np.column_stack(columns[1])


def _closer_at_depth(x: NDArray[Any], y: NDArray[Any], depth: NDArray[Any], at: NDArray[np.int64]) -> float:
    """Return the fraction of candidates closer than the partner, among cells of ``y`` with the partner's depth."""
    n = len(y)
    k = min(n - 1, max(LEAST_CANDIDATES, round(DEPTH_SHARE * n)))
    if k < 1:
        return 0.0
    shares = np.empty(len(at))
    block = max(1, _BLOCK // n)
    for start in range(0, len(at), block):
        rows = at[start : start + block]
        distance = 1 - x[rows] @ y.T
        for i, (cell, away) in enumerate(zip(rows, distance, strict=True)):
            shares[start + i] = (away[_alike(depth, cell, k)] < away[cell]).mean()
    return float(shares.mean())


def _alike(depth: NDArray[Any], cell: int, k: int) -> NDArray[np.int64]:
    """Return the ``k`` other cells whose depth is nearest; of equally near ones the first."""
    gap = np.abs(depth - depth[cell]).astype(np.float64)
    gap[cell] = np.inf
    limit = np.partition(gap, k - 1)[k - 1]
    nearer = np.flatnonzero(gap < limit)
    return np.concatenate([nearer, np.flatnonzero(gap == limit)[: k - len(nearer)]])
