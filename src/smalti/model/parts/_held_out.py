"""How well pairs find each other, for choices and floors on held-out cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smalti.metrics import match_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nearer_candidates(x: NDArray[np.float32], y: NDArray[np.float32], batch: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for every pair which share of the other cells of its batch is nearer than the partner, by cosine.

    Parameters
    ----------
    x, y
        ``(n, d)`` embeddings of the same cells from two modalities.
    batch
        ``(n,)`` codes; cells that are alone in their batch are left out.

    Returns
    -------
    ``(m,)`` in [0, 1], mean of both directions; 0.5 is chance.
    """
    out = []
    for code in np.unique(batch):
        at = np.flatnonzero(batch == code)
        if len(at) > 1:
            ranks = match_ranks(x[at], y[at], metric="cosine")
            out.append((ranks.mean(axis=1) - 1) / (len(at) - 1))
    return np.concatenate(out) if out else np.zeros(0)
