"""How well batches, or cells of different presence patterns, mix within cell types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2
from sklearn.metrics import silhouette_samples

from smalti._validate import check_in_range
from smalti.metrics._inputs import as_embedding, check_classes, draw_rows, encode_complete, encode_labels
from smalti.metrics._lisi import NEIGHBORS, ilisi
from smalti.metrics._neighbors import Neighbors, given_or_found, nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import ArrayLike, NDArray

SILHOUETTE_CELLS = 3000
"""Cells of a type that its silhouette looks at, drawn once."""
_LEAST_ASW, _LEAST_KBET, _KBET_NEIGHBORS = 10, 60, 40


@dataclass(frozen=True, kw_only=True)
class MixingScores:
    """How well groups mix; what :func:`mixing_scores` returns. All in [0, 1], higher is better."""

    mean: float
    """Mean of the scores below that are defined (of kBET only if it was asked for)."""
    ilisi: float
    """Local mixing of all cells relative to a random mixture, see :func:`ilisi`."""
    asw: float | None
    """1 - abs(silhouette width by group) within cell types; None without types that several groups have."""
    kbet: float | None
    """Share of cells whose neighbours' groups are those of their type by a test; None where no type is large enough."""


def mixing_scores(
    x: ArrayLike,
    groups: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    exclude: Collection[object] | str = (),
    use_kbet: bool = True,
    neighbors: Neighbors | None = None,
) -> MixingScores:
    """Score how well groups mix: batches (with kBET), or presence patterns (without).

    Parameters
    ----------
    x
        ``(n_cells, d)`` embedding; distances are Euclidean.
    groups
        ``(n_cells,)`` batch or presence pattern of each cell; at least two.
    labels
        ``(n_cells,)`` cell types: silhouettes and kBET look within them, since groups that differ in composition are
        not to be mixed across types. Without them only iLISI is computed, which does not know of types.
    exclude
        Labels that mean "unlabelled"; their cells count for iLISI alone, as those with missing labels do.
    use_kbet
        Whether kBET is computed. It is strict: with few neighbours of a rare pattern it says little.
    neighbors
        90 neighbours of all cells by :func:`nearest_neighbors`, to save the search.

    Returns
    -------
    :class:`MixingScores`.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, a group is missing, or there is one group only.
    """
    x = as_embedding(x, "x")
    found = given_or_found(neighbors, x, min(NEIGHBORS, max(1, len(x) - 2)))
    local = ilisi(x, groups, neighbors=found)
    asw = kbet_score = None
    if labels is not None:
        asw = mixing_asw(x, groups, labels, exclude=exclude)
        kbet_score = kbet(x, groups, labels, exclude=exclude) if use_kbet else None
    mean = float(np.mean([score for score in (local, asw, kbet_score) if score is not None]))
    return MixingScores(mean=mean, ilisi=local, asw=asw, kbet=kbet_score)


def mixing_asw(
    x: ArrayLike,
    groups: ArrayLike,
    labels: ArrayLike,
    *,
    exclude: Collection[object] | str = (),
    sample_size: int = SILHOUETTE_CELLS,
) -> float | None:
    """Compute 1 - abs(silhouette width by group) within cell types, the mean over types (Luecken et al., 2022).

    Parameters
    ----------
    x, groups, labels, exclude
        As in :func:`mixing_scores`.
    sample_size
        Cells of a type to look at, drawn once, since time grows with their square.

    Returns
    -------
    In [0, 1], higher is better, 1 where groups overlap; None if no type of at least 10 cells has two groups.
    """
    x = as_embedding(x, "x")
    widths = []
    for rows, codes in _types(x, groups, labels, exclude, _LEAST_ASW):
        at = draw_rows(len(rows), sample_size)
        if 1 < len(np.unique(codes[at])) < len(at):
            widths.append(float(np.mean(1 - np.abs(silhouette_samples(x[rows[at]], codes[at])))))
    return float(np.mean(widths)) if widths else None


def kbet(
    x: ArrayLike,
    groups: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 0.05,
    exclude: Collection[object] | str = (),
) -> float | None:
    r"""Compute the share of cells in whose neighbourhood groups are as frequent as in their cell type.

    A chi-squared test for every cell (Büttner et al., 2019, doi 10.1038/s41592-018-0254-1) over its 40 nearest cells of
    the same type (a third of the type, if that is less). Groups of which less than one neighbour is expected are left
    out; the mean is over types of at least 60 cells.

    Parameters
    ----------
    x, groups, labels, exclude
        As in :func:`mixing_scores`.
    alpha
        Level of the test, in [0, 1].

    Returns
    -------
    In [0, 1], higher is better; a random mixture is near ``1 - alpha``. None if no type is large enough.
    """
    check_in_range(alpha, 0, 1, "alpha")
    x = as_embedding(x, "x")
    accepted = []
    for rows, codes in _types(x, groups, labels, exclude, _LEAST_KBET):
        k = min(_KBET_NEIGHBORS, len(rows) // 3)
        expected = k * np.bincount(codes) / len(rows)
        tested = np.flatnonzero(expected >= 1)
        if len(tested) < 2:
            continue
        near = codes[nearest_neighbors(x[rows], k=k).indices]
        statistic = np.zeros(len(rows))
        for code in tested:
            statistic += ((near == code).sum(axis=1) - expected[code]) ** 2 / expected[code]
        accepted.append(float((chi2.sf(statistic, len(tested) - 1) > alpha).mean()))
    return float(np.mean(accepted)) if accepted else None


def _types(
    x: NDArray[Any], groups: ArrayLike, labels: ArrayLike, exclude: Collection[object] | str, least: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and groups of the cells of each type that is large enough and has several groups."""
    codes, categories = encode_complete(groups, len(x), "groups")
    check_classes(codes, categories, "groups")
    types, names = encode_labels(labels, len(x), "labels", exclude=exclude)
    for code in range(len(names)):
        rows = np.flatnonzero(types == code)
        if len(rows) >= least and len(np.unique(codes[rows])) > 1:
            yield rows, codes[rows]
