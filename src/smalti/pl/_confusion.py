"""Which labels are taken for which, a picture for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle

from smalti._validate import check_count, check_keys, check_unique
from smalti.metrics import ABSTAINED
from smalti.tl import LabelReport

from ._axes import figure_of, make_axes
from ._colors import ABSENT, INK, QUIET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from numpy.typing import NDArray

MAX_WRITTEN = 12
"""Classes up to which numbers fit into the cells."""
LOOKS = ((MAX_WRITTEN, 0.36, 8.0), (20, 0.22, 7.0))
"""Most classes, inches of a cell, and points of its letters."""
MANY = (0.15, 6.5)
"""Inches and points with more classes than that."""
PAGE = 15.0
"""Inches that pictures side by side may take."""
FAINT = 0.6
"""Exponent of the color scale: below 1, so that rare mistakes can be seen."""
DARK = 0.6
"""Place on the color scale from which letters are white."""
GRID = "#EEEEEE"
"""Color of the lines between cells."""
GAP = 0.35
"""Space before the column of abstentions, in cells."""


def confusion(
    report: LabelReport | Mapping[str, pd.DataFrame] | pd.DataFrame,
    *,
    modalities: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    normalize: bool = True,
    max_columns: int | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool = False,
) -> list[Axes]:
    """Draw which true labels (rows) were predicted as which (columns), a picture for each modality.

    Abstentions are the last column, set apart and in grey. At the right of each row is its number of cells; a row of a
    class without cells is grey throughout. With up to 12 classes the numbers are written into the cells, beyond that
    there is a scale of colors.

    Parameters
    ----------
    report
        What :func:`smalti.tl.label_report` returned, tables of counts by modality, or one table, as
        :func:`smalti.metrics.confusion` makes them: square, or with the column ``"(abstained)"`` at the end.
    modalities
        Pictures to draw, in this order; all by default.
    classes
        Rows and columns to draw, in this order; all by default. Shares are still of all cells of a row.
    normalize
        Color by the share of the row's cells, and write percentages; otherwise numbers of cells.
    max_columns
        Most pictures side by side; by default as many as fit into 15 inches.
    ax
        Axes to draw into, as many as there are modalities; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The axes, one for each modality.

    Raises
    ------
    KeyError
        If a modality or class does not exist.
    TypeError
        If ``report`` is something else.
    ValueError
        If a table is not square, or the number of axes is not that of the modalities.
    """
    tables = _tables(report)
    names = list(tables) if modalities is None else list(modalities)
    check_keys(names, list(tables), "Modality")
    chosen = [_checked(name, tables[name]) for name in names]
    shown = [_Shown(table, list(table.index) if classes is None else list(classes), normalize) for table in chosen]
    most = max((len(table.rows) for table in shown), default=1)
    written = most <= MAX_WRITTEN
    side, small = next(((inches, points) for limit, inches, points in LOOKS if most <= limit), MANY)
    letters = 0.0087 * small * max((len(name) for table in shown for name in [*table.rows, "abstained"]), default=0)
    panel = (side * (most + 1 + GAP) + 0.5, side * most + letters + 0.7)
    if max_columns is None:
        max_columns = max(1, int(PAGE / panel[0]))
    check_count(max_columns, "max_columns")
    axes = make_axes(ax, len(names), what="modality", max_columns=max_columns, panel=panel)
    if ax is None:
        across = len({_column(axis) for axis in axes})
        figure = figure_of(axes[0])
        figure.set_figwidth(across * panel[0] + letters + 0.3 + (0 if written else 0.7))
        figure.set_layout_engine("compressed")  # made for pictures of one aspect
    top = 1.0 if normalize else float(max(np.nanmax(table.counts, initial=1) for table in shown))
    scale = PowerNorm(FAINT, vmin=0, vmax=top)
    for axis, name, table in zip(axes, names, shown, strict=True):
        labelled = ax is not None or _column(axis) == 0 or table.rows != shown[0].rows
        _draw(axis, name, table, scale, small=small, written=written, labelled=labelled)
    if ax is None and not written:
        _add_scale(axes, scale, "share of the row" if normalize else "cells")
    if show:
        plt.show()
    return axes


class _Shown:
    """What is drawn of one table."""

    def __init__(self, table: pd.DataFrame, classes: list[str], normalize: bool) -> None:
        check_keys(classes, list(table.index), "Class")
        check_unique([str(name) for name in classes], "Names in `classes`")
        self.normalize = normalize
        self.rows = [str(name) for name in classes]
        self.n = table.loc[classes].sum(axis=1).to_numpy(dtype=float)
        per_row = np.where(self.n > 0, self.n if normalize else 1.0, np.nan)[:, None]
        self.counts: NDArray[np.float64] = table.loc[classes, classes].to_numpy(dtype=float) / per_row
        self.silent: NDArray[np.float64] | None = None
        if ABSTAINED in table.columns:
            self.silent = table.loc[classes, [ABSTAINED]].to_numpy(dtype=float) / per_row


def _tables(report: LabelReport | Mapping[str, pd.DataFrame] | pd.DataFrame) -> dict[str, pd.DataFrame]:
    if isinstance(report, LabelReport):
        return report.confusion
    if isinstance(report, pd.DataFrame):
        return {"": report}
    if isinstance(report, Mapping):
        return dict(report)
    raise TypeError(f"Expected a label report or tables of counts, found {type(report).__name__}.")


def _checked(name: str, table: pd.DataFrame) -> pd.DataFrame:
    columns = [column for column in table.columns if column != ABSTAINED]
    if list(table.index) != columns:
        raise ValueError(
            f"Expected the table of {name!r} to have the same classes as rows and columns, found {table.shape[0]} rows "
            f"and {len(columns)} columns. Make it with `sm.metrics.confusion`."
        )
    return table


def _column(ax: Axes) -> int:
    place = ax.get_subplotspec()
    return 0 if place is None else place.colspan.start


def _draw(ax: Axes, name: str, table: _Shown, scale: Normalize, *, small: float, written: bool, labelled: bool) -> None:
    size = len(table.rows)
    edges = np.arange(size + 1) - 0.5
    _draw_cells(ax, edges, edges, table.counts, scale, "Blues")
    right = size - 0.5
    columns, places = list(table.rows), list(np.arange(size, dtype=float))
    if table.silent is not None:
        _draw_cells(ax, right + GAP + np.arange(2), edges, table.silent, scale, "Greys")
        columns.append("abstained")
        places.append(right + GAP + 0.5)
        right += GAP + 1
    for empty in np.flatnonzero(table.n == 0):
        place = (-0.5, empty - 0.5)
        patch = Rectangle(place, right + 0.5, 1, facecolor=ABSENT, linewidth=0, gid=f"no cells|{table.rows[empty]}")
        ax.add_patch(patch)
    if written:
        _write(ax, table, scale)
    for row, n in enumerate(table.n.tolist()):
        ax.annotate(
            f"{n:,.0f}", (right, row), (3, 0), textcoords="offset points", va="center", fontsize=small, color=QUIET
        )
    ax.set(xlim=(-0.5, right), ylim=(size - 0.5, -0.5), aspect="equal")
    ax.set_xticks(places, columns, rotation=90, fontsize=small, color=INK)
    ax.set_yticks(places[:size], table.rows if labelled else [""] * size, fontsize=small, color=INK)
    ax.tick_params(length=0, pad=2)
    ax.spines[:].set_visible(False)
    ax.set_title(name, fontsize=10, color=INK, loc="left", weight="bold")
    ax.set_xlabel("predicted", fontsize=8, color=QUIET)
    if labelled:
        ax.set_ylabel("true", fontsize=8, color=QUIET)


def _draw_cells(
    ax: Axes, x: NDArray[Any], y: NDArray[Any], values: NDArray[np.float64], scale: Normalize, cmap: str
) -> None:
    """Draw a block of cells; zeros stay white."""
    shades = np.where(values > 0, values, np.nan)
    ax.pcolormesh(x, y, shades, cmap=cmap, norm=scale, edgecolors=GRID, linewidth=0.4)


def _add_scale(axes: list[Axes], scale: Normalize, what: str) -> None:
    colors = ScalarMappable(scale, "Blues")
    bar = figure_of(axes[0]).colorbar(colors, ax=axes, fraction=0.03, shrink=0.35, aspect=16, pad=0.02)
    bar.set_label(what, fontsize=8, color=QUIET)
    bar.ax.tick_params(labelsize=7, colors=QUIET)
    bar.outline.set_visible(False)


def _write(ax: Axes, table: _Shown, scale: Normalize) -> None:
    """Write the numbers into the cells; zeros are left out."""
    parts = [(0.0, table.counts)]
    if table.silent is not None:
        parts.append((len(table.rows) + GAP, table.silent))
    for left, values in parts:
        for row, column in np.argwhere(np.nan_to_num(values) > 0):
            value = values[row, column]
            text = f"{100 * value:.0f}" if table.normalize else f"{value:,.0f}"
            color = "white" if scale(value) > DARK else INK
            ax.text(left + column, row, text, ha="center", va="center", fontsize=7, color=color)
