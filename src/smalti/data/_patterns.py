"""Distinct rows of presence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Patterns(NamedTuple):
    """Distinct rows of presence: those with most modalities first, then most cells, then leftmost modalities."""

    rows: NDArray[np.bool_]
    """``(P, M)``."""
    sizes: NDArray[np.int64]
    """``(P,)`` number of cells."""
    group: NDArray[np.int64]
    """``(n_obs,)`` row of each cell's pattern."""


def find_patterns(here: NDArray[np.bool_]) -> Patterns:
    """Return the patterns of presence, ``(n_obs, M)`` boolean."""
    rows, group, sizes = np.unique(here, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((*~rows.T[::-1], -sizes, -rows.sum(axis=1)))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Patterns(rows[order], sizes[order], rank[group.ravel()])
