"""Marker features of groups as a dot plot over several modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from smalti._validate import check_count, check_keys
from smalti.data import as_text
from smalti.tl import cell_values, rank_features

from ._axes import figure_of
from ._colors import INK, QUIET, by_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData
    from numpy.typing import NDArray

LARGEST = 90.0
"""Area of the dot of a feature that all cells of a group have, in square points."""


def markers(
    mdata: MuData,
    groupby: str,
    features: pd.DataFrame | Sequence[str] | None = None,
    *,
    n: int = 2,
    modalities: Sequence[str] | None = None,
    layer: str | None = None,
    max_features: int = 60,
    ax: Axes | None = None,
    show: bool = False,
) -> Figure:
    """Draw which features mark which groups: a dot for every group and feature, modality by modality.

    The colour of a dot is the mean of the feature in the group, scaled from its lowest to its highest group; its area
    is the share of the group's cells with a value above 0. Only cells that were measured in the modality count; a cross
    says that the group has none.

    Parameters
    ----------
    mdata
        The mosaic.
    groupby
        Column of ``mdata.obs``, such as ``"leiden"``.
    features
        Names as :func:`smalti.tl.cell_values` reads them (``"rna:CD3D"``, ``"adt:CD3"``), or what
        :func:`smalti.tl.rank_features` returned, of which the first ``n`` of each group and modality are drawn; by
        default it is called here.
    n
        Features of each group and modality.
    modalities
        Modalities to look for markers in; all by default.
    layer
        Layer that holds the values; ``.X`` by default.
    max_features
        Most features to draw; of a longer list the first ones.
    ax
        Axes to draw into; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The figure.

    Raises
    ------
    KeyError
        If the column or a feature does not exist.
    ValueError
        If there is nothing to draw.
    """
    check_keys([groupby], list(mdata.obs.columns), "Column of `mdata.obs`")
    check_count(n, "n")
    if features is None:
        features = rank_features(mdata, groupby, modalities=modalities, layer=layer, n=n)
    names = _names(features, n) if isinstance(features, pd.DataFrame) else list(features)
    names = names[: check_count(max_features, "max_features")]
    if not names:
        raise ValueError("Expected at least one feature to draw, found none.")
    groups = as_text(mdata.obs[groupby])
    order = _group_order(mdata.obs[groupby])
    mean, share = _summaries(mdata, names, groups, order, layer)
    if ax is None:
        size = (1.6 + 0.09 * max(map(len, order)) + 0.2 * len(names), 1.5 + 0.24 * len(order))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    low, high = np.nanmin(mean, axis=0), np.nanmax(mean, axis=0)
    scaled = (mean - low) / np.where(high > low, high - low, 1)
    row, column = np.divmod(np.arange(mean.size).reshape(mean.shape), mean.shape[1])
    known = np.isfinite(mean)
    dots = ax.scatter(
        column[known], row[known], s=2 + LARGEST * share[known], c=scaled[known], cmap="Blues", vmin=-0.1, vmax=1
    )
    ax.scatter(column[~known], row[~known], s=14, c=QUIET, marker="x", linewidths=0.8)
    ax.set_yticks(range(len(order)), order, fontsize=8, color=INK)
    ax.set_xticks(range(len(names)), [name.partition(":")[2] or name for name in names], fontsize=7, rotation=90)
    of = [name.partition(":")[0] if ":" in name else "" for name in names]
    colors = by_name([m for m in mdata.mod if m in of])
    for label, modality in zip(ax.get_xticklabels(), of, strict=True):
        label.set_color(colors.get(modality, INK))
    ax.set(xlim=(-0.6, len(names) - 0.4), ylim=(len(order) - 0.4, -0.6))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    _legends(ax, dots, colors)
    if show:
        plt.show()
    return figure_of(ax)


def _names(table: pd.DataFrame, n: int) -> list[str]:
    check_keys(("group", "modality", "feature"), list(table.columns), "Column of `features`")
    best = table.groupby(["modality", "group"], sort=False).head(n)
    best = best.sort_values("modality", key=lambda m: m.map({v: i for i, v in enumerate(m.unique())}), kind="stable")
    return list(dict.fromkeys(best["modality"] + ":" + best["feature"]))


def _group_order(column: pd.Series) -> list[str]:
    text = as_text(column).dropna()
    if isinstance(column.dtype, pd.CategoricalDtype):
        here = set(text)
        return [str(c) for c in column.cat.categories if str(c) in here]
    return sorted(text.unique())


def _summaries(
    mdata: MuData, names: list[str], groups: pd.Series, order: list[str], layer: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and share of cells above 0, ``(groups, features)``; missing where no cell was measured."""
    mean, share = [], []
    for name in names:
        values = cell_values(mdata, name, layer=layer).astype(float)
        by_group = values.groupby(groups)
        above = (values > 0).where(values.notna()).astype(float).groupby(groups)
        mean.append(by_group.mean().reindex(order).to_numpy(dtype=float))
        share.append(above.mean().reindex(order).to_numpy(dtype=float))
    return np.column_stack(mean), np.column_stack(share)


def _legends(ax: Axes, dots: object, colors: dict[str, str]) -> None:
    bar = ax.figure.colorbar(dots, cax=ax.inset_axes((1.02, 0.55, 0.015, 0.4)))  # type: ignore[arg-type]
    bar.set_label("mean, from lowest to\nhighest group", fontsize=7, color=QUIET)
    bar.ax.tick_params(labelsize=7, colors=QUIET)
    bar.outline.set_visible(False)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=QUIET, markersize=(2 + LARGEST * s) ** 0.5, label=f"{s:.0%}")
        for s in (0.1, 0.5, 1.0)
    ]
    handles += [Line2D([], [], marker="s", linestyle="", color=c, label=name) for name, c in colors.items()]
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 0.45),
        frameon=False,
        fontsize=7,
        title="cells of the group",
        title_fontsize=7,
        labelspacing=0.8,
    )
