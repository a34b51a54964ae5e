"""Is a selected feature smooth on a graph that it did not draw itself?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import norm

from smalti._support import standardised_smoothness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

N_NEIGHBORS, LEVEL = 10, 0.05
MOST_SINGLE, MOST_SINGLE_GROUPS = 60, 200
"""Features, and groups, up to which each has a graph of its own; beyond, graphs leave out blocks of 5 %."""
FEW = 30
"""Features up to which one is removed at a time."""
SHARE = 0.05


def leave_one_out(x: torch.Tensor, *, blocks: Sequence[NDArray[np.int64]] | None = None, seed: int = 0) -> Floats:
    """Return how smooth each feature is on the graph of the others, in standard deviations of a permuted one, ``(S,)``.

    See :func:`~smalti._support.standardised_smoothness`, with ten neighbours.

    Parameters
    ----------
    x
        ``(n, S)`` values of the features in question, at least two, of at least four cells.
    blocks
        Columns that are left out together; by default each for itself, and beyond 60 features blocks of 5 %.
    seed
        Seed of blocks.
    """
    n, s = x.shape
    distance = torch.addmm(x.square().sum(dim=1)[:, None] + x.square().sum(dim=1)[None], x, x.T, alpha=-2)
    if blocks is None:
        order = np.arange(s) if s <= MOST_SINGLE else np.random.default_rng(seed).permutation(s)
        blocks = np.array_split(order, s if s <= MOST_SINGLE else round(1 / SHARE))
    out = np.empty(s)
    for block in blocks:
        part = x[:, block]
        own = part.square().sum(dim=1)
        left = torch.addmm(distance - own[None], part, part.T, alpha=2).sub_(own[:, None])
        left.fill_diagonal_(torch.inf)
        near = left.topk(min(N_NEIGHBORS, n - 1), dim=1, largest=False).indices
        out[block] = standardised_smoothness(part, near).numpy()
    return out


def _n_removed(n_left: int, n_weak: int) -> int:
    """Return how many are removed together: one of few, of many the weaker half of the weak and at least 5 %."""
    return 1 if n_left <= FEW else min(n_weak, max(1, round(SHARE * n_left), n_weak // 2))


def prune(x: torch.Tensor, n_features: int, *, seed: int = 0) -> tuple[NDArray[np.int64], Floats]:
    """Remove the least smooth features, again and again, until all that are left are smooth.

    Parameters
    ----------
    x
        ``(n, S)`` standardised values of selected features.
    n_features
        Number of features ``D`` that could have been selected; the level is 0.05 over it.
    seed
        Seed of blocks.

    Returns
    -------
    Positions that stay, and the last statistic of every feature, ``(S,)``, NaN where there was no other.
    """
    keep = np.arange(x.shape[1])
    last = np.full(x.shape[1], np.nan)
    limit = norm.isf(LEVEL / max(n_features, 1))
    while len(keep) >= 2:
        z = leave_one_out(x[:, keep], seed=seed)
        last[keep] = z
        order = np.argsort(z)
        weak = order[z[order] < limit]
        if len(weak) == 0:
            return keep, last
        keep = np.delete(keep, weak[: _n_removed(len(keep), len(weak))])
    return keep[:0], last  # a feature alone is smooth on no graph


def prune_groups(x: torch.Tensor, codes: NDArray[np.int64], n_groups: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Remove the least smooth groups, until all that are left are smooth on the graph of the other groups.

    A group counts by the sum of the statistics of its features over the root of their number.

    Parameters
    ----------
    x
        ``(n, S)`` standardised values of the features of selected groups.
    codes
        ``(S,)`` their groups.
    n_groups
        Number of groups that could have been selected; the level is 0.05 over it.
    seed
        Seed of permutations.

    Returns
    -------
    Codes of the groups that stay.
    """
    keep, limit = np.unique(codes), norm.isf(LEVEL / max(n_groups, 1))
    while len(keep) >= 2:
        at = np.flatnonzero(np.isin(codes, keep))
        place = np.searchsorted(keep, codes[at])
        parts = [np.flatnonzero(place == g) for g in range(len(keep))]
        if len(keep) > MOST_SINGLE_GROUPS:
            order = np.array_split(np.random.default_rng(seed).permutation(len(keep)), round(1 / SHARE))
            blocks = [np.concatenate([parts[g] for g in some]) for some in order]
        else:
            blocks = parts
        z = leave_one_out(x[:, torch.from_numpy(at)], blocks=blocks, seed=seed)
        total = np.array([z[part].sum() / np.sqrt(len(part)) for part in parts])
        order_of = np.argsort(total)
        weak = order_of[total[order_of] < limit]
        if len(weak) == 0:
            return keep
        keep = np.delete(keep, weak[: _n_removed(len(keep), len(weak))])
    return keep[:0]
