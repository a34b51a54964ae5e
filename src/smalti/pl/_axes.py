"""Axes given by the caller, or a grid of new ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def make_axes(
    ax: Axes | Sequence[Axes] | None,
    n: int,
    *,
    what: str,
    max_columns: int,
    panel: tuple[float, float],
    extra: float = 0.0,
    min_width: float = 0.0,
    sharex: bool = False,
) -> list[Axes]:
    """Return ``n`` axes: those given, or a new figure of rows as equal as can be.

    Parameters
    ----------
    ax
        What the caller gave.
    n
        Number needed.
    what
        What one picture shows, for the message.
    max_columns
        Most pictures in a row.
    panel
        Width and height of a picture, in inches.
    extra, min_width
        Additional height and smallest width of the figure, in inches.
    sharex
        Whether all pictures have one x axis.
    """
    if n == 0:
        raise ValueError(f"Expected at least one {what} to draw, found none.")
    if ax is not None:
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n:
            raise ValueError(f"Expected {n} axes, one for each {what}, found {len(axes)}.")
        return axes
    rows = math.ceil(n / max_columns)
    columns = math.ceil(n / rows)
    size = (max(min_width, panel[0] * columns), extra + panel[1] * rows)
    _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=sharex, layout="constrained")
    axes = list(grid.ravel())
    for spare in axes[n:]:
        spare.remove()
    for at in range(max(0, n - columns), n):  # the lowest of their columns
        axes[at].tick_params(labelbottom=True)
    return axes[:n]


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are in, the outermost one."""
    return cast("Figure", ax.figure.figure if ax.figure is not ax.figure.figure else ax.figure)
