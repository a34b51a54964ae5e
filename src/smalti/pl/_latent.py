"""A latent in two dimensions, coloured by what is known of the cells."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from smalti._mudata import check_mudata
from smalti.data import find_patterns, presence
from smalti.tl import cell_values, find_key

from ._axes import figure_of, make_axes
from ._colors import INK, QUIET, UNKNOWN, by_name
from ._coordinates import stored_umap, umap_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData
    from numpy.typing import NDArray

PRESENCE = "presence"
LEGEND_ROWS = 16


def latent(
    mdata: MuData,
    key: str = "X_clue",
    *,
    color: str | Sequence[str] = PRESENCE,
    layer: str | None = None,
    coordinates: str | NDArray[Any] | None = None,
    n_neighbors: int = 15,
    size: float | None = None,
    palette: Mapping[str, str] | None = None,
    random_state: int = 0,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool = False,
) -> Figure:
    """Draw a UMAP of a latent, one picture per colouring.

    If the MuData has a UMAP that scanpy computed from this latent, it is drawn; otherwise one is computed on a copy.
    Nothing is written to ``mdata``. Cells are drawn in random order, so that no group covers another one; cells of
    which nothing is known, such as those where a protein was not measured, are grey and lie below.

    A UMAP shows who is near whom, not how well modalities match; for that see :func:`smalti.tl.evaluate`.

    Parameters
    ----------
    mdata
        The mosaic.
    key
        Key of ``mdata.obsm`` with the latent; ``"clue"`` finds ``"X_clue"``. Cells with NaN (from a latent of one
        modality) are left out. If it has two columns they are drawn as they are.
    color
        ``"presence"`` for the modalities that each cell was measured in, or any name that
        :func:`smalti.tl.cell_values` knows: a column of ``mdata.obs``, a gene (``"CD3D"``), a protein of a named
        modality (``"adt:CD3"``), a prediction (``"predicted adt:CD3"``).
    layer
        Layer that holds the values of features; ``.X`` by default.
    coordinates
        Key of ``mdata.obsm`` or array with ``(n_obs, 2)`` coordinates to draw instead.
    n_neighbors
        Neighbours of each cell in UMAP.
    size
        Area of a point in square points; by the number of cells by default.
    palette
        Colour by category; colour-blind safe ones by default, or those in ``mdata.uns[f"{column}_colors"]``.
    random_state
        Seed of UMAP and of the order of cells.
    ax
        Axes to draw into, as many as there are colourings; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The figure.

    Raises
    ------
    KeyError
        If the latent, a column or a feature does not exist.
    ValueError
        If coordinates or axes have the wrong shape or number.
    """
    check_mudata(mdata)
    if not isinstance(color, Iterable):
        raise TypeError(f"Expected `color` to be a name or names, found {color!r}.")
    names = [color] if isinstance(color, str) else list(color)
    columns = [_presence_names(mdata) if name == PRESENCE else cell_values(mdata, name, layer=layer) for name in names]
    xy, name = _coordinates(mdata, key, coordinates, n_neighbors, random_state)
    order = np.random.default_rng(random_state).permutation(np.flatnonzero(np.isfinite(xy).all(axis=1)))
    size = 12_000 / max(len(order), 1) if size is None else size
    size = float(np.clip(size, 0.5, 30)) if size else size
    palettes = [
        None if _is_continuous(values) else _palette(mdata, title, values, palette)
        for title, values in zip(names, columns, strict=True)
    ]
    beside = max((_legend_width(colors) for colors in palettes), default=0.0)
    axes = make_axes(ax, len(names), what="colouring", max_columns=3, panel=(3.1 + beside, 3.2))
    for axis, title, values, colors in zip(axes, names, columns, palettes, strict=True):
        if colors is None:
            _draw_numbers(axis, xy, order, values, size)
        else:
            _draw_groups(axis, xy, order, values, size, colors)
        axis.set_title(title, fontsize=10, color=INK, loc="left")
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(f"{name} 1", fontsize=8, color=QUIET, loc="left")
        axis.set_ylabel(f"{name} 2", fontsize=8, color=QUIET, loc="bottom")
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(QUIET)
        axis.set_box_aspect(1)
    if show:
        plt.show()
    return figure_of(axes[0])


def _coordinates(
    mdata: MuData, key: str, given: str | NDArray[Any] | None, n_neighbors: int, random_state: int
) -> tuple[NDArray[Any], str]:
    """Return coordinates of every cell, NaN for those to leave out, and the name of the axes."""
    if given is None:
        key = find_key(mdata, key, "Latent in `mdata.obsm`")
        z = np.asarray(mdata.obsm[key])
        if z.ndim == 2 and z.shape[1] == 2:
            return z, key
        stored = stored_umap(mdata, key)
        if stored is not None:
            return stored, "UMAP"
        return umap_coordinates(z, n_neighbors=n_neighbors, random_state=random_state), "UMAP"
    name = "coordinate"
    if isinstance(given, str):
        given = find_key(mdata, given, "Coordinates in `mdata.obsm`")
        name, given = given.removeprefix("X_").upper(), mdata.obsm[given]
    xy = np.asarray(given, dtype=float)
    if xy.shape != (mdata.n_obs, 2):
        raise ValueError(f"Expected coordinates of shape ({mdata.n_obs}, 2), found {xy.shape}.")
    return xy, name


def _presence_names(mdata: MuData) -> pd.Series:
    """Return what each cell was measured in, such as ``"rna + adt"``; categories with most modalities first."""
    names = np.asarray(list(mdata.mod), dtype=object)
    patterns = find_patterns(presence(mdata))
    titles = [" + ".join(names[row]) if row.any() else "nothing" for row in patterns.rows]
    return pd.Series(pd.Categorical.from_codes(patterns.group, titles), index=mdata.obs_names)


def _is_continuous(values: pd.Series) -> bool:
    return pd.api.types.is_float_dtype(values) or (pd.api.types.is_integer_dtype(values) and values.nunique() > 20)


def _palette(mdata: MuData, column: str, values: pd.Series, given: Mapping[str, str] | None) -> dict[str, str]:
    """Return a colour for every category that occurs, in the order of the legend."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        names = [str(c) for c in values.cat.categories]
    else:
        names = sorted(values.dropna().astype(str).unique())
    stored = mdata.uns.get(f"{column}_colors")
    if stored is not None and len(stored) == len(names):
        colors = dict(zip(names, map(str, stored), strict=True))
    else:
        colors = by_name(names)
    return {name: (given or {}).get(name, shade) for name, shade in colors.items()}


def _draw_groups(
    ax: Axes, xy: NDArray[Any], order: NDArray[np.int64], values: pd.Series, size: float, colors: dict[str, str]
) -> None:
    known = values.notna().to_numpy()
    text = values.astype(object).astype(str).to_numpy()
    shades = np.array([colors.get(name, UNKNOWN) if k else UNKNOWN for name, k in zip(text, known, strict=True)])
    # cells of which nothing is known lie below the others
    for at in (order[~known[order]], order[known[order]]):
        ax.scatter(xy[at, 0], xy[at, 1], s=size, c=shades[at], linewidths=0, rasterized=True)
    counts = pd.Series(text[order][known[order]]).value_counts()
    entries = [(f"{name} ({counts[name]:,})", shade) for name, shade in colors.items() if name in counts]
    missing = int((~known[order]).sum())
    if missing:
        entries.append((f"not known ({missing:,})", UNKNOWN))
    handles = [Line2D([], [], marker="o", linestyle="", markersize=5, color=c, label=label) for label, c in entries]
    ax.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=8 if len(handles) <= LEGEND_ROWS else 7,
        ncols=math.ceil(len(handles) / LEGEND_ROWS) or 1,
        handletextpad=0.1,
        columnspacing=0.6,
        borderaxespad=0.2,
    )


def _legend_width(colors: Mapping[str, str] | None) -> float:
    """Return the inches that a legend, or for ``None`` a colour bar, takes beside its panel."""
    if colors is None:
        return 0.8
    columns = math.ceil((len(colors) + 1) / LEGEND_ROWS)
    letters = max((len(name) for name in colors), default=0) + 8  # with the number of cells
    return max(1.3, columns * (0.2 + letters * (0.062 if columns == 1 else 0.055)))


def _draw_numbers(ax: Axes, xy: NDArray[Any], order: NDArray[np.int64], values: pd.Series, size: float) -> None:
    numbers = values.to_numpy(dtype=float)
    known = np.isfinite(numbers[order])
    missing, at = order[~known], order[known]
    ax.scatter(xy[missing, 0], xy[missing, 1], s=size, c=UNKNOWN, linewidths=0, rasterized=True)
    points = ax.scatter(xy[at, 0], xy[at, 1], s=size, c=numbers[at], cmap="viridis", linewidths=0, rasterized=True)
    # an inset, so that the bar stays at the panel whatever the aspect of the figure
    bar = ax.figure.colorbar(points, cax=ax.inset_axes((1.03, 0.2, 0.035, 0.6)))
    bar.ax.tick_params(labelsize=8, colors=QUIET)
    bar.set_label(str(values.attrs.get("scale", "")), fontsize=7, color=QUIET)
    bar.outline.set_visible(False)
    if len(missing):
        ax.annotate(
            f"grey: not measured ({len(missing):,})", (1.03, 0.06), xycoords="axes fraction", fontsize=7, color=QUIET
        )
