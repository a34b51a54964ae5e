"""Equal spread for cells of different presence patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_CELLS = 20
"""Cells of a pattern in a batch below which its spread there is not looked at."""
MAX_STRETCH = 2.0
"""Largest change of one axis: an axis that a pattern says nothing about is not blown up to noise."""


def presence_patterns(present: dict[str, NDArray[np.bool_]]) -> NDArray[np.str_]:
    """Return a name per cell for what was measured of it, ``(n,)``: modalities joined by ``"+"``, ``""`` for none."""
    names = sorted(present)
    table = np.column_stack([present[name] for name in names])
    kinds, code = np.unique(table, axis=0, return_inverse=True)
    labels = np.array(["+".join(n for n, here in zip(names, kind, strict=True) if here) for kind in kinds], dtype=str)
    out: NDArray[np.str_] = labels[code.ravel()]
    return out


def pattern_scales(z: Floats, patterns: NDArray[np.str_], batch: NDArray[np.str_]) -> dict[str, Floats]:
    r"""Return what to multiply each axis by in each pattern, so that spreads are those of the fullest pattern.

    A cell of which less was measured is estimated nearer to the mean. Spreads are compared within the batches that have
    both patterns, where cells of both are of the same kinds; an axis changes at most twofold, and a common factor then
    makes the total variance equal.

    Parameters
    ----------
    z
        ``(n, d)``.
    patterns, batch
        ``(n,)``.

    Returns
    -------
    ``{pattern: (d,)}``, ones where there is nothing to compare.
    """
    kinds, counts = np.unique(patterns, return_counts=True)
    width = [len(kind.split("+")) if kind else 0 for kind in kinds]
    order = np.lexsort((-counts, -np.asarray(width)))
    fullest = str(kinds[order[0]])
    out: dict[str, Floats] = {str(kind): np.ones(z.shape[1]) for kind in kinds}
    for kind in kinds:
        if kind == fullest or not kind:
            continue
        own, reference, weight = np.zeros(z.shape[1]), np.zeros(z.shape[1]), 0.0
        for b in np.unique(batch):
            a, r = (np.flatnonzero((batch == b) & (patterns == p)) for p in (kind, fullest))
            if min(len(a), len(r)) >= MIN_CELLS:
                n = 1 / (1 / len(a) + 1 / len(r))
                own += n * z[a].var(axis=0)
                reference += n * z[r].var(axis=0)
                weight += n
        if weight > 0 and own.sum() > 0:
            ratio = np.sqrt(np.divide(reference, own, out=np.ones_like(own), where=own > 0))
            ratio = np.clip(ratio, 1 / MAX_STRETCH, MAX_STRETCH)
            out[str(kind)] = ratio * np.sqrt(reference.sum() / (ratio**2 * own).sum())
    return out


def stretch(patterns: NDArray[np.str_], scales: Mapping[str, Floats]) -> Floats:
    """Return the factors of every cell, ``(n_obs, d)``, given those of each pattern; 1 for patterns without any.

    Parameters
    ----------
    patterns
        ``(n_obs,)`` presence pattern of each cell.
    scales
        ``{pattern: (d,)}``, see :func:`pattern_scales`.
    """
    width = len(next(iter(scales.values())))
    kinds, code = np.unique(patterns, return_inverse=True)
    out: Floats = np.stack([scales.get(str(kind), np.ones(width)) for kind in kinds])[code.ravel()]
    return out
