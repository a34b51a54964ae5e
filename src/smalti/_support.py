"""How many features are supported: smooth on a graph they did not draw, more often than permuted copies of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Block = tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]

FALSE_SHARE = 0.05
"""Share of false ones among supported features."""
N_DECOYS = 2000
"""Permuted features at least, so that few features can be supported at all."""
TOGETHER = 50
"""Features that share a permutation; more at once would make the number of false ones swing."""
N_BLOCKS = 20
"""Graphs that leave out features: each for itself of up to so many, else blocks of 5 %."""


class Support(NamedTuple):
    """Which features of one modality are supported."""

    score: NDArray[np.float64]
    """``(D,)`` standard deviations by which a feature is smoother than a permuted one; 0 where there is no graph."""
    supported: NDArray[np.bool_]
    """``(D,)``."""

    @property
    def n_supported(self) -> int:
        """Number of supported features: as many as should be kept at most."""
        return int(self.supported.sum())

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns of the gate table."""
        return {"support": self.score, "supported": self.supported}


def standardised_smoothness(x: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Return how smooth features are on a graph, in standard deviations of a permuted one (Moran's I), ``(S,)``.

    The sum over cells and their neighbours of products of centred values, standardised by its mean and variance over
    all permutations of the cells, which have a closed form :cite:p:`Cliff1981`.

    Parameters
    ----------
    x
        ``(n, S)`` values, at least four cells.
    near
        ``(n, k)`` positions of neighbours.
    """
    n, k = near.shape
    x = x - x.mean(dim=0)
    second = x.square().mean(dim=0).double().clamp(min=1e-30)
    kurtosis = x.double().pow(4).mean(dim=0) / second.square()
    found = (x * F.embedding_bag(near, x, mode="sum")).sum(dim=0).double() / (n * k * second)
    edges = torch.arange(n).repeat_interleave(k) * n + near.ravel()
    back = near.ravel() * n + torch.arange(n).repeat_interleave(k)
    s0, s1 = n * k, n * k + int(torch.isin(edges, back).sum())
    s2 = float((k + torch.bincount(near.ravel(), minlength=n)).double().square().sum())
    plain = n * ((n * n - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
    tails = kurtosis * ((n * n - n) * s1 - 2 * n * s2 + 6 * s0**2)
    mean = -1 / (n - 1)
    variance = (plain - tails) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - mean**2
    return (found - mean) / variance.clamp(min=1e-30).sqrt()


def neighbours(z: torch.Tensor, k: int = 10) -> torch.Tensor:
    """Return positions of the nearest other cells, ``(n, k)``, by the distance of rows of ``z``, ``(n, d)``."""
    return torch.cdist(z, z).fill_diagonal_(torch.inf).topk(min(k, len(z) - 1), dim=1, largest=False).indices


def leave_out(columns: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Return columns in parts that are left out of a graph together, about 5 % each."""
    order = np.random.default_rng(seed).permutation(columns)
    return [part for part in np.array_split(order, min(len(order), N_BLOCKS)) if len(part)]


def against_decoys(
    blocks: Iterable[Block],
    n_features: int,
    codes: NDArray[np.int64],
    *,
    totals: torch.Tensor | None = None,
    false_share: float = FALSE_SHARE,
    seed: int = 0,
) -> Support:
    r"""Compare features with permuted copies of themselves on graphs that they did not draw.

    With :math:`R` permuted copies of each feature, those with a score of at least :math:`t` are supported, for the
    smallest :math:`t` with

    .. math:: \frac{(1 + \#\{\text{copies} \ge t\}) / R}{\#\{\text{features} \ge t\}} \le q

    as in the knockoff filter :cite:p:`Barber2015`.

    Parameters
    ----------
    blocks
        Positions of features, their values ``(n, S)``, and ``(n, k)`` neighbours on a graph without them.
    n_features
        Number of all features ``D``; those of no block are not supported.
    codes
        ``(n,)`` batches within which values are centred and permuted.
    totals
        ``(n,)`` sums of the cells if values are counts, normalised to 10,000 per cell and logged: copies then are
        permuted counts, normalised by the cell they come to. A gene of which a cell's depth is all that its value tells
        is no better than such a copy.
    false_share
        :math:`q`.
    seed
        Seed of permutations.
    """
    rng, copies = np.random.default_rng(seed), max(1, math.ceil(N_DECOYS / max(n_features, 1)))
    score, decoys = np.zeros(n_features), [np.zeros(0)]
    seen = np.zeros(n_features, dtype=bool)
    by_code = np.argsort(codes, kind="stable")
    group = torch.from_numpy(codes)
    for columns, x, near in blocks:
        score[columns], seen[columns] = standardised_smoothness(_centred(x, group), near).numpy(), True
        for part in torch.split(x, TOGETHER, dim=1):
            for _ in range(copies):
                order = np.empty(len(codes), dtype=np.int64)
                order[by_code] = np.lexsort((rng.random(len(codes)), codes))
                copy = part[torch.from_numpy(order)]
                if totals is not None:
                    copy = torch.log1p(torch.expm1(copy) * (totals[torch.from_numpy(order)] / totals)[:, None])
                decoys.append(standardised_smoothness(_centred(copy, group), near).numpy())
    false = np.sort(np.concatenate(decoys))
    level = np.sort(score[seen])[::-1]
    n_false = (1 + len(false) - np.searchsorted(false, level, side="left")) / copies
    good = np.flatnonzero(n_false <= false_share * np.arange(1, len(level) + 1))
    limit = level[good[-1]] if len(good) else np.inf
    return Support(score, seen & (score >= limit))


def _centred(x: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Return values ``(n, S)`` without the means of their batches."""
    total = x.new_zeros(int(group.max()) + 1, x.shape[1]).index_add_(0, group, x)
    return x - (total / torch.bincount(group).clamp(min=1)[:, None])[group]


def sentence(name: str, selected: NDArray[np.bool_], supported: NDArray[np.bool_], share: float) -> str:
    """Say in one sentence how many features of a modality are supported."""
    n, both = int(supported.sum()), int((supported & selected).sum())
    return (
        f"{name!r}: {n:,} of {len(supported):,} features are supported (at most {share:.0%} of these expected to be "
        f"false), {both:,} of the {int(selected.sum()):,} selected ones."
    )


def too_many(name: str, selected: NDArray[np.bool_], supported: NDArray[np.bool_], remedy: str) -> str | None:
    """Return a warning if more features are selected than are supported; ``None`` otherwise."""
    n, most = int(selected.sum()), int(supported.sum())
    if n <= most:
        return None
    return (
        f"{n:,} features of modality {name!r} are selected, but only {most:,} are told from permuted ones: the others "
        f"may be noise. Keep at most {most:,} ({remedy}), or drop those that are not in the column `supported`."
    )
