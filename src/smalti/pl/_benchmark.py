"""Scores of several latents in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from smalti.tl import describe_score

from ._axes import figure_of, make_axes
from ._colors import ABSENT, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from smalti.tl import Evaluation

COLUMN = 0.62
MAP = "Blues"


def benchmark(found: Evaluation, *, ax: Axes | None = None, show: bool = False) -> Figure:
    """Draw the scores of :func:`smalti.tl.benchmark`, or :func:`smalti.tl.evaluate`: a row per latent.

    The darker a cell, the better the latent among those compared on that score; the number is the score itself, the
    best
    one bold. What a blind guess scores stands in the last row.

    Parameters
    ----------
    found
        The scores.
    ax
        Axes to draw into; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The figure.

    Raises
    ------
    ValueError
        If there is no score.
    """
    table, chance = found.scores, found.chance
    if table.empty:
        raise ValueError("There is no score to draw; the notes of the evaluation say why.")
    n_rows, n_columns = table.shape
    width = max(map(len, map(str, table.index))) * 0.085 + COLUMN * n_columns
    (axis,) = make_axes(ax, 1, what="table", max_columns=1, panel=(width + 0.4, 2.4 + 0.34 * (n_rows + 1)))
    shades = mpl.colormaps[MAP]
    best = found.best
    for x, name in enumerate(map(str, table.columns)):
        score = describe_score(name)
        values = table[name].to_numpy(dtype=float)
        for y, value in enumerate(values):
            level = _level(values, value, score.lower)
            color = ABSENT if np.isnan(level) else shades(0.08 + 0.72 * level)
            axis.add_patch(Rectangle((x - 0.47, y - 0.43), 0.94, 0.86, facecolor=color, linewidth=0))
            top = str(table.index[y]) == best[name]
            axis.text(
                *(x, y, "-" if np.isnan(value) else f"{value:.2f}"),
                ha="center",
                va="center",
                fontsize=8,
                fontweight="bold" if top else "normal",
                color="white" if level > 0.75 else INK,
            )
        blind = chance.get(name, np.nan)
        axis.text(
            x, n_rows, "" if pd.isna(blind) else f"{blind:.2f}", ha="center", va="center", fontsize=8, color=QUIET
        )
        arrow = "↓" if score.lower else "↑"
        axis.text(x - 0.1, -0.65, f"{score.title} {arrow}", rotation=45, ha="left", va="bottom", fontsize=8, color=INK)
    _groups(axis, [describe_score(str(name)).group for name in table.columns], n_rows)
    axis.set_yticks(range(n_rows + 1), [*map(str, table.index), "blind guess"], fontsize=9)
    axis.get_yticklabels()[-1].set_color(QUIET)
    axis.set_xticks([])
    axis.set(xlim=(-0.6, n_columns + 0.6), ylim=(n_rows + 1.1, -0.6))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if show:
        plt.show()
    return figure_of(axis)


def _level(values: np.ndarray, value: float, lower: bool) -> float:
    """Return where a value lies between the worst (0) and the best (1)."""
    if np.isnan(value):
        return float("nan")
    low, high = np.nanmin(values), np.nanmax(values)
    if high - low < 1e-12:
        return 0.5
    level = float((value - low) / (high - low))
    return 1 - level if lower else level


def _groups(axis: Axes, groups: list[str], n_rows: int) -> None:
    """Name the parts of the table below it."""
    start = 0
    for i in range(1, len(groups) + 1):
        if i == len(groups) or groups[i] != groups[start]:
            axis.plot([start - 0.45, i - 0.55], [n_rows + 0.5] * 2, color=QUIET, linewidth=0.8)
            text = groups[start] if i - start > 1 else ""
            axis.text((start + i - 1) / 2, n_rows + 0.62, text, ha="center", va="top", fontsize=8, color=QUIET)
            start = i
