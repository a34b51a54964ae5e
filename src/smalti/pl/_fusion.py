"""Where modalities disagree about clusters."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm

from smalti._mudata import check_mudata
from smalti._validate import check_keys

from ._axes import make_axes
from ._colors import INK, OKABE_ITO, QUIET, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from mudata import MuData

MAX_WRITTEN = 12
"""Clusters up to which percentages are written into the table."""


def fusion(
    mdata: MuData,
    key: str = "cluster",
    *,
    modalities: Sequence[str] | None = None,
    max_columns: int = 3,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool = False,
) -> list[Axes]:
    """Draw what ``write_clusters`` of :class:`~smalti.model.FusionClustering` wrote: disagreement is off the diagonal.

    For every pair of modalities a table: of the cells that the first puts into a cluster (row), the share that the
    second puts into each cluster (column). Then the agreement of the modalities of each cell by cluster, lowest median
    first: cells at its left are what to look at. And, where the number of clusters was chosen, that on which two
    halves of the cells agree, less that on which they do not, by which it was chosen.

    Parameters
    ----------
    mdata
        With ``.obs[key]`` and the columns beside it.
    key
        ``key_added`` of ``write_clusters``.
    modalities
        Modalities to compare; by default all that the model had.
    max_columns
        Most pictures side by side.
    ax
        Axes to draw into, one for each picture; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The axes: tables, agreement, and what halves agree on if the number of clusters was chosen.

    Raises
    ------
    KeyError
        If there are no such columns, or a modality was not in the model.
    ValueError
        If no cell has two of the modalities, or the number of axes is not that of the pictures.
    """
    check_mudata(mdata)
    check_keys([key], list(mdata.uns), "Entry of `mdata.uns`")
    check_keys([key, f"{key}_agreement"], list(mdata.obs), "Column of `mdata.obs`")
    said: dict[str, Any] = mdata.uns[key]
    known = [str(name) for name in said["modalities"]]
    names = known if modalities is None else list(modalities)
    check_keys(names, known, "Modality")
    tables = {}
    for a, b in combinations(names, 2):
        table = _shares(mdata.obs[f"{key}_{a}"], mdata.obs[f"{key}_{b}"])
        if table is not None:
            tables[a, b] = table
    if not tables:
        raise ValueError(f"Expected cells with two of the modalities {names}, found none.")
    curve = said.get("stability")
    axes = make_axes(
        ax, len(tables) + 1 + (curve is not None), what="picture", max_columns=max_columns, panel=(3.6, 3.4)
    )
    for axis, ((a, b), table) in zip(axes, tables.items(), strict=False):
        _draw_shares(axis, a, b, table)
    _draw_agreement(axes[len(tables)], mdata.obs[key], mdata.obs[f"{key}_agreement"])
    if curve is not None:
        _draw_stability(axes[-1], curve, int(said["n_clusters"]))
    if show:
        plt.show()
    return axes


def _shares(first: pd.Series, second: pd.Series) -> pd.DataFrame | None:
    """Return shares of rows, clusters in the order of their names; ``None`` if no cell has both."""
    both = first.notna() & second.notna()
    if not both.any():
        return None
    table = pd.crosstab(first[both], second[both], dropna=False)
    size = table.sum(axis=1).to_numpy(dtype=float)[:, None]
    return table / np.where(size > 0, size, np.nan)


def _draw_shares(ax: Axes, a: str, b: str, table: pd.DataFrame) -> None:
    scale = PowerNorm(0.6, vmin=0, vmax=1)
    ax.imshow(table.to_numpy(dtype=float), cmap="Blues", norm=scale, aspect="equal")
    if len(table) <= MAX_WRITTEN:
        for (i, j), value in np.ndenumerate(table.to_numpy(dtype=float)):
            if value >= 0.005:
                ax.text(
                    j, i, f"{value:.0%}", ha="center", va="center", fontsize=6, color="white" if value > 0.5 else INK
                )
    ax.set_xticks(range(table.shape[1]), [str(c) for c in table.columns], fontsize=7, color=INK)
    ax.set_yticks(range(table.shape[0]), [str(c) for c in table.index], fontsize=7, color=INK)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title("clusters by each modality", fontsize=10, color=INK, loc="left", weight="bold")
    ax.set_xlabel(f"cluster by {b}", fontsize=8, color=QUIET)
    ax.set_ylabel(f"cluster by {a}", fontsize=8, color=QUIET)


def _draw_agreement(ax: Axes, clusters: pd.Series, agreement: pd.Series) -> None:
    known = agreement.notna()
    values = {
        str(name): group.to_numpy()
        for name, group in agreement[known].groupby(clusters[known], observed=True)
        if len(group)
    }
    order = sorted(values, key=lambda name: float(np.median(values[name])), reverse=True)
    ax.boxplot(
        [values[name] for name in order],
        orientation="horizontal",
        widths=0.6,
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": OKABE_ITO[5]},
        medianprops={"color": OKABE_ITO[0]},
        boxprops={"color": QUIET},
        whiskerprops={"color": QUIET},
        capprops={"color": QUIET},
    )
    ax.set_yticks(range(1, len(order) + 1), order, fontsize=7, color=INK)
    ax.set_xlim(-0.02, 1.02)
    ax.set_title("agreement of modalities", fontsize=10, color=INK, loc="left", weight="bold")
    ax.set_title(f"{int((agreement[known] < 0.5).sum()):,} cells below 0.5", fontsize=8, color=QUIET, loc="right")
    ax.set_xlabel("shared probability", fontsize=8, color=QUIET)
    ax.set_ylabel("cluster", fontsize=8, color=QUIET)
    _plain(ax)


def _draw_stability(ax: Axes, curve: dict[str, Any], chosen: int) -> None:
    known = "information" in curve  # files of earlier versions have the Rand index alone
    ax.axvline(chosen, color=UNKNOWN, linewidth=6, zorder=0)
    ax.errorbar(
        curve["n_clusters"],
        curve["information" if known else "stability"],
        yerr=curve["information_error" if known else "standard_error"],
        color=OKABE_ITO[0],
        linewidth=1.2,
        marker="o",
        markersize=3,
    )
    ax.set_title("number of clusters", fontsize=10, color=INK, loc="left", weight="bold")
    ax.set_title(f"chosen: {chosen}", fontsize=8, color=QUIET, loc="right")
    ax.set_xlabel("clusters", fontsize=8, color=QUIET)
    ax.set_ylabel("halves agree on (nats)" if known else "agreement of two halves", fontsize=8, color=QUIET)
    _plain(ax)


def _plain(ax: Axes) -> None:
    ax.tick_params(labelsize=7, colors=QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
