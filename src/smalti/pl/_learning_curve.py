"""How a score grows with what a model was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from smalti._validate import check_keys

from ._colors import INK, QUIET, by_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

MAX_TICKS = 8
"""Values of x up to which each gets its own tick."""
WIDE = 15
"""Ratio of the largest to the smallest positive x from which a logarithmic axis is easier to read."""


def learning_curve(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str | None = None,
    log: bool | None = None,
    palette: Mapping[str, str] | None = None,
    reference: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    show: bool = False,
) -> Axes:
    """Draw a score over the size of the data (or anything else that was varied), with its spread over runs.

    A line runs through the means, a band shows one standard deviation to each side, and every run is a small point.

    Parameters
    ----------
    table
        One row per run. Rows in which ``x`` or ``y`` is missing are left out.
    x, y
        Columns with numbers: what was varied, and the score.
    hue
        Column with the name of the method or setting; a line for each, in the order of its categories, or of
        appearance if it is not categorical.
    log
        Logarithmic x axis; by default if all x are positive and the largest is at least 15 times the smallest.
    palette
        Color by value of ``hue``; colour-blind safe ones by default.
    reference
        Horizontal lines, by name: a baseline, chance, a published number.
    ax
        Axes to draw into; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If no row has both numbers, or ``log`` is asked for x that are not positive.
    """
    check_keys([column for column in (x, y, hue) if column is not None], list(table.columns), "Column of the table")
    runs = table.dropna(subset=[x, y])
    if runs.empty:
        raise ValueError(f"Expected rows with both {x!r} and {y!r}, found none in {len(table)} rows.")
    values = np.unique(runs[x].to_numpy(dtype=float))
    if log is None:
        log = bool(values[0] > 0 and values[-1] >= WIDE * values[0])
    if log and values[0] <= 0:
        raise ValueError(f"Expected {x!r} to be positive on a logarithmic axis, found {values[0]:g}. Pass `log=False`.")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.4, 3.0), layout="constrained")
    groups = _groups(runs, hue)
    colors = by_name(list(groups)) | dict(palette or {})
    for name, group in groups.items():
        _draw(ax, group[x].to_numpy(dtype=float), group[y].to_numpy(dtype=float), name, colors[name])
    for name, height in (reference or {}).items():
        ax.axhline(height, color=QUIET, linewidth=0.9, linestyle=":", zorder=1)
        ax.annotate(
            name,
            (1, height),
            (-2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=QUIET,
        )
    if log:
        ax.set_xscale("log")
    if len(values) <= MAX_TICKS:
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.set_xticks([], minor=True)
    _furnish(ax, x, y)
    if hue is not None:
        ax.legend(title=hue.replace("_", " "), frameon=False, fontsize=8, title_fontsize=8, loc="best")
    if show:
        plt.show()
    return ax


def _groups(runs: pd.DataFrame, hue: str | None) -> dict[str, pd.DataFrame]:
    """Return the rows of each line, by name."""
    if hue is None:
        return {"": runs}
    column = runs[hue]
    if isinstance(column.dtype, pd.CategoricalDtype):
        names: list[Any] = [name for name in column.cat.categories if (column == name).any()]
    else:
        names = list(column.dropna().unique())
    return {str(name): runs[column == name] for name in names}


def _draw(ax: Axes, x: Any, y: Any, name: str, color: str) -> None:
    runs = pd.DataFrame({"x": x, "y": y}).groupby("x")["y"].agg(["mean", "std"])
    at, mean, deviation = runs.index.to_numpy(), runs["mean"].to_numpy(), runs["std"].fillna(0).to_numpy()
    ax.fill_between(at, mean - deviation, mean + deviation, color=color, alpha=0.18, linewidth=0, zorder=2)
    ax.plot(at, mean, color=color, linewidth=1.6, marker="o", markersize=4, label=name, zorder=4)
    ax.scatter(x, y, s=7, color=color, alpha=0.55, linewidths=0, zorder=3)


def _furnish(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x.replace("_", " "), fontsize=9, color=INK)
    ax.set_ylabel(y.replace("_", " "), fontsize=9, color=INK)
    ax.tick_params(labelsize=8, colors=QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    ax.set_axisbelow(True)
