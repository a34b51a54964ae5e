"""Pictures of gates: how many are open along the way, which are widest, and where local ones open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from smalti._mudata import check_mudata
from smalti._validate import check_count, check_keys

from ._axes import figure_of, make_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

COLOR, QUIET = "#0072B2", "#7A7A7A"
LOCAL_PREFIX = "gate_by_"


def gates(
    mdata: MuData,
    modality: str,
    *,
    groupby: str | None = None,
    n_top: int = 20,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool = False,
) -> Figure:
    """Draw the gates that a selector or ``model.write_gates`` wrote into a modality.

    Two pictures, three with local gates: how many gates were open at each price that was tried (selectors) or in each
    epoch (models); the features with the largest effect on the latent (models), or the features or groups with the
    widest gates, filled if selected, with the share of half-samples in which they are open where ``gate_stability`` is
    there; and the share of the cells of each category in which the gates of the features
    that differ most are open.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    groupby
        Category of the third picture, as given to ``write_gates``; by default one that is there.
    n_top
        Number of features in the pictures.
    ax
        Axes to draw into, as many as pictures.
    show
        Whether to show the figure.

    Raises
    ------
    KeyError
        If the modality has no gates, or there are none by that category.
    """
    check_mudata(mdata)
    check_count(n_top, "n_top")
    check_keys([modality], list(mdata.mod), "Modality")
    adata = mdata.mod[modality]
    check_keys(["selected", "gate", "gate_prob"], list(adata.var), f"Gates of modality {modality!r} in `.var`")
    uns = adata.uns.get("gates", {})
    local = [key for key in adata.varm if key.startswith(LOCAL_PREFIX)]
    if groupby is not None:
        check_keys([LOCAL_PREFIX + groupby], local, f"Local gates of modality {modality!r} in `.varm`")
        local = [LOCAL_PREFIX + groupby]
    n = 3 if local else 2
    axes = make_axes(ax, n, what="picture", max_columns=3, panel=(3.4, 0.6 + 0.17 * n_top), min_width=5.0)
    _draw_path(axes[0], uns, modality)
    _draw_top(axes[1], adata, uns, n_top)
    if local:
        _draw_local(axes[2], adata, local[0], n_top)
    figure = figure_of(axes[0])
    if show:
        plt.show()
    return figure


def _draw_path(ax: Axes, uns: Any, modality: str) -> None:
    if "open_by_epoch" in uns:
        y = np.asarray(uns["open_by_epoch"], dtype=float)
        ax.plot(np.arange(len(y)), y, color=COLOR)
        ax.set(xlabel="epoch", ylabel="expected number open", ylim=(0, None))
    elif "path" in uns and f"n_{modality}" in uns["path"]:
        table = uns["path"].sort_values("lam")
        ax.plot(table["lam"], table[f"n_{modality}"], "o-", color=COLOR, markersize=4)
        ax.axvline(uns["lam"], color=QUIET, linestyle=":", linewidth=0.9, gid="chosen")
        ax.set(xlabel="price of an open feature", ylabel="selected", xscale="log")
    else:
        ax.set_axis_off()
    _quiet(ax, "open gates")


def _draw_top(ax: Axes, adata: Any, uns: Any, n_top: int) -> None:
    table = uns["groups"] if "groups" in uns else adata.var
    by = "effect" if "effect" in table else "gate_prob"
    order = np.lexsort([-table["gate"].to_numpy(), -table["gate_prob"].to_numpy(), -table[by].to_numpy()])
    table = table.iloc[order[:n_top]][::-1]
    selected = table["selected"].to_numpy(dtype=bool)
    ax.barh(np.arange(len(table)), table[by], color=np.where(selected, COLOR, "white"), edgecolor=COLOR, height=0.7)
    ax.set_yticks(np.arange(len(table)), [str(name) for name in table.index], fontsize=7)
    if "gate_stability" in table:
        for y, (width, share) in enumerate(zip(table[by], table["gate_stability"], strict=True)):
            ax.text(width, y, f" {share:.0%}", va="center", fontsize=6, color=QUIET)
    if by == "effect":
        ax.set(xlim=(0, None), xlabel="effect on the latent")
    else:
        ax.set(xlim=(0, 1), xlabel="probability to be open")
    _quiet(ax, "widest groups" if "groups" in uns else "largest effects" if by == "effect" else "widest gates")


def _draw_local(ax: Axes, adata: Any, key: str, n_top: int) -> None:
    table = adata.varm[key]
    differences = table.max(axis=1) - table.min(axis=1)
    table = table.loc[differences.sort_values(ascending=False, kind="stable").index[:n_top]]
    image = ax.imshow(table.to_numpy(), vmin=0, vmax=1, cmap="Blues", aspect="auto", interpolation="nearest")
    ax.set_xticks(np.arange(table.shape[1]), [str(c) for c in table.columns], rotation=90, fontsize=7)
    ax.set_yticks(np.arange(len(table)), [str(r) for r in table.index], fontsize=7)
    figure_of(ax).colorbar(image, ax=ax, shrink=0.5, label="share of cells with an open gate")
    ax.set_title(f"local gates by {key.removeprefix(LOCAL_PREFIX)}", fontsize=9, loc="left")


def _quiet(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=9, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=7)
