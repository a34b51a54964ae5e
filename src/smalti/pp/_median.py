"""The median of numbers that do not fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

HALF = 16
"""Bits per pass: positive numbers in single precision are in the order of their 32 bits."""


def streamed_median(parts: Callable[[], Iterable[NDArray[Any]]]) -> float:
    """Return the median of the positive numbers among ``parts`` to single precision; 0 if there are none.

    Two passes of counting, one by the first half of the bits of a number and one by the second, need no memory.

    Parameters
    ----------
    parts
        Function that starts a pass over the numbers, ``(n,)`` each.
    """
    first = np.zeros(1 << HALF, np.int64)
    for part in parts():
        first += np.bincount(_bits(part) >> HALF, minlength=len(first))
    total = int(first.sum())
    if total == 0:
        return 0.0
    ends = np.cumsum(first)
    ranks = ((total - 1) // 2, total // 2)
    buckets = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    second = {bucket: np.zeros(1 << HALF, np.int64) for bucket in buckets}
    for part in parts():
        bits = _bits(part)
        for bucket, counts in second.items():
            counts += np.bincount(bits[bits >> HALF == bucket] & ((1 << HALF) - 1), minlength=len(counts))
    found = []
    for rank, bucket in zip(ranks, buckets, strict=True):
        within = rank - (ends[bucket] - first[bucket])
        low = int(np.searchsorted(np.cumsum(second[bucket]), within, side="right"))
        found.append(np.array([(bucket << HALF) | low], np.uint32).view(np.float32)[0])
    return float(np.mean(found, dtype=np.float64))


def _bits(part: NDArray[Any]) -> NDArray[np.uint32]:
    values = np.ascontiguousarray(part, dtype=np.float32)
    return values[values > 0].view(np.uint32)
