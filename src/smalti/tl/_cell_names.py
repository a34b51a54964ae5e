"""Cells that are the same, but whose names are written in another way in each modality."""

from __future__ import annotations

import pandas as pd

FEW, MANY = 0.1, 0.5
"""Share of the smaller modality's cells below which shared names are few, and from which on they are many."""
WAYS = {
    "if capitals were the same": r"(.*)",
    "without what follows the last sign, such as '-1'": r"(.*)[-_.:#]\w{1,3}$",
    "by their barcodes alone": r"([ACGTN]{8,})",
}
"""How names of one cell differ between files, and the part of the name to compare, in capitals."""


def almost_equal(a: str, b: str, first: pd.Index, second: pd.Index, n_shared: int) -> list[str]:
    """Return a note if two modalities share few names of cells, but would share many if names were written alike.

    Parameters
    ----------
    a, b
        Names of the modalities.
    first, second
        Names of their cells.
    n_shared
        Names that are the same.
    """
    least = min(len(first), len(second))
    if n_shared >= FEW * least:
        return []
    for words, pattern in WAYS.items():
        x, y = _parts(first, pattern), _parts(second, pattern)
        if x.nunique() < MANY * len(x) or y.nunique() < MANY * len(y):
            continue
        same = x.intersection(y)
        if len(same) >= MANY * least:
            one, other = (str(n[p == same[0]][0]) for n, p in ((first, x), (second, y)))
            return [
                f"Few cells of {a!r} and {b!r} have the same name, but {len(same):,} would {words} (such as {one!r} "
                f"and {other!r}). If they are the same cells, rename them before the modalities are joined."
            ]
    return []


def _parts(names: pd.Index, pattern: str) -> pd.Index:
    """Return the part of each name that a pattern marks, the whole name where there is none."""
    upper = pd.Series(names.astype(str)).str.upper()
    found = upper.str.extract(pattern, expand=False)
    return pd.Index(found.where(found.notna(), upper))
