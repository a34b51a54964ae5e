"""Colours that the colour-blind can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.colors import to_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito (2008), reordered so that the first ones differ most in lightness as well; black is for text."""
TOL_MUTED = ("#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
"""Tol (2021), "muted", reordered likewise."""
ABSENT = "#EDEDED"
UNKNOWN = "#C8C8C8"
INK, QUIET = "#222222", "#777777"


def categorical(n: int) -> list[str]:
    """Return ``n`` colours: up to nine that the colour-blind can tell apart, beyond that as different as can be."""
    for palette in (OKABE_ITO, TOL_MUTED):
        if n <= len(palette):
            return list(palette[:n])
    if n <= 20:
        tab = mpl.colormaps["tab20"]
        return [to_hex(tab((2 * i) % 20 + (2 * i) // 20)) for i in range(n)]
    wheel = mpl.colormaps["turbo"]
    # neighbours in the list are far apart on the wheel
    step = next(s for s in range(max(2, round(0.38 * n)), n + 1) if _coprime(s, n))
    return [to_hex(wheel(0.04 + 0.92 * ((i * step) % n) / (n - 1))) for i in range(n)]


def by_name(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for every name."""
    return dict(zip(names, categorical(len(names)), strict=True))


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1
