"""Pairwise covering arrays: few rows in which every two values of two options meet."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def covering_rows(factors: Mapping[str, Sequence[Any]], seed: int = 0, tries: int = 20) -> list[dict[str, Any]]:
    """Return rows, each a value of every factor, so that every pair of values of two factors is in some row.

    Greedy: each row begins with a pair that is not covered yet, and takes for every further factor the value that
    covers most; the best of some random orders is kept.
    """
    rng, names = np.random.default_rng(seed), list(factors)
    sizes = [len(factors[name]) for name in names]
    left = {
        ((i, a), (j, b))
        for i, j in combinations(range(len(names)), 2)
        for a, b in product(range(sizes[i]), range(sizes[j]))
    }
    rows = []
    while left:
        (first, second), best = sorted(left)[int(rng.integers(len(left)))], (-1, [])
        for _ in range(tries):
            row: dict[int, int] = dict([first, second])
            for i in rng.permutation([i for i in range(len(names)) if i not in row]):
                gain = [
                    sum(tuple(sorted([(i, a), each])) in left for each in row.items()) + rng.random() / 2
                    for a in range(sizes[i])
                ]
                row[int(i)] = int(np.argmax(gain))
            covered = sum(pair in left for pair in combinations(sorted(row.items()), 2))
            if covered > best[0]:
                best = (covered, sorted(row.items()))
        left -= set(combinations(best[1], 2))
        rows.append({names[i]: factors[names[i]][a] for i, a in best[1]})
    return rows
