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
# fmt: off
DISTINCT = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#0000FF", "#00F400", "#FF21E9",
    "#4E4300", "#6F64F4", "#FF0064", "#4E9B00", "#851621", "#7A007A", "#00F490", "#FFA685", "#BCD385", "#59E9E9",
    "#FF0016", "#593764", "#FF4EB1", "#B1A6FF", "#004E37", "#9000D3", "#A6E900", "#90850B", "#E985FF", "#0B5900",
    "#9B644E", "#9B0B59", "#008590", "#FF6459", "#2C439B", "#6F854E", "#9BE96F", "#F4C86F", "#0B90FF", "#F4C8F4",
    "#A60000", "#85E9B1", "#905900", "#FF6F90", "#0037E9", "#00C82C", "#9B64BC", "#16B159", "#5921A6", "#BC2CBC",
    "#9BB10B", "#904359", "#857AB1", "#C8A67A", "#BC5937", "#FF9B4E", "#FFA6F4", "#F4A6B1", "#6FA64E", "#C82C4E",
)
# fmt: on
"""The first seven and those that follow them best: each the farthest in CIELAB from all before it and from grey, among
colors that are neither pale nor dark. The smallest difference is 26 among the first 40, 22 among all, and 17 in
the usual palette of twenty."""
ABSENT = "#EDEDED"
UNKNOWN = "#C8C8C8"
INK, QUIET = "#222222", "#777777"


def categorical(n: int) -> list[str]:
    """Return ``n`` colours: up to nine that the colour-blind can tell apart, up to 60 as different as can be."""
    for palette in (OKABE_ITO, TOL_MUTED, DISTINCT):
        if n <= len(palette):
            return list(palette[:n])
    wheel = mpl.colormaps["turbo"]
    # neighbours in the list are far apart on the wheel
    step = next(s for s in range(max(2, round(0.38 * n)), n + 1) if _coprime(s, n))
    return [to_hex(wheel(0.04 + 0.92 * ((i * step) % n) / (n - 1))) for i in range(n)]


def by_name(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for every name, as pictures of categories use them.

    Parameters
    ----------
    names
        Categories, in the order of the legend.
    """
    return dict(zip(names, categorical(len(names)), strict=True))


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1
