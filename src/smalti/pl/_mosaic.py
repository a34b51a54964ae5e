"""The presence picture: which cells were measured in which modalities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from smalti._mudata import check_mudata
from smalti._validate import check_count, check_keys
from smalti.data import find_patterns, presence

from ._colors import ABSENT, INK, QUIET, by_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

GAP = 0.012
"""Space between modalities, and between patterns, in shares of the picture."""
MIN_HEIGHT = 0.06
"""Smallest height of a block, so that its label can be read; less if there are more than ten."""
MIN_WIDTH = 0.5
"""Smallest width of a modality, in shares of the mean width, so that a panel beside a genome can be seen."""


@dataclass(frozen=True)
class _Block:
    label: str
    here: tuple[bool, ...]
    n_cells: int


def mosaic(
    mdata: MuData,
    *,
    batch_key: str | None = None,
    modalities: Sequence[str] | None = None,
    palette: Mapping[str, str] | None = None,
    max_blocks: int = 24,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool = False,
) -> Axes:
    """Draw who was measured in what.

    Every row of blocks is a set of cells with the same pattern of presence (and batch), every column a modality;
    filled where measured. Heights grow with the number of cells and widths with the square root of the number of
    features, both with a minimum, so the numbers are written beside them.

    Parameters
    ----------
    mdata
        The mosaic.
    batch_key
        Column of ``mdata.obs``; splits patterns into batches.
    modalities
        Modalities to draw, from left to right; all by default.
    palette
        Colour by modality; colour-blind safe ones by default.
    max_blocks
        Rows to draw at most. If there are more, batches of a pattern are drawn as one.
    title
        Title of the picture.
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
        If a modality or column does not exist.
    MosaicAlignmentError
        If the map between cells and rows is stale.
    """
    check_mudata(mdata)
    names = list(mdata.mod) if modalities is None else list(modalities)
    here = presence(mdata, names)
    check_count(max_blocks, "max_blocks")
    batch = None
    if batch_key is not None:
        check_keys([batch_key], list(mdata.obs.columns), "Column of `mdata.obs`")
        column = mdata.obs[batch_key].astype(object)
        batch = column.where(column.notna(), "no batch").astype(str).to_numpy()
    blocks = _blocks(here, batch, max_blocks)
    colors = by_name(names) | dict(palette or {})

    heights = _shares([block.n_cells for block in blocks], min(MIN_HEIGHT, 0.6 / len(blocks)))
    widths = _shares(np.sqrt([mdata.mod[name].n_vars for name in names]), MIN_WIDTH / len(names))
    if ax is None:
        size = (2.4 + 1.2 * len(names), max(2.2, 1.2 + 0.32 * len(blocks)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    left = np.concatenate([[0.0], np.cumsum(widths + GAP)])
    bottom = _draw_blocks(ax, blocks, heights, names, left, widths, colors)
    for i, name in enumerate(names):
        middle = left[i] + widths[i] / 2
        _write(ax, name, (middle, 0.0), (0, 15), size=10, color=INK, weight="bold")
        _write(ax, f"{mdata.mod[name].n_vars:,} features", (middle, 0.0), (0, 4), size=8, color=QUIET)
        _write(ax, f"{int(here[:, i].sum()):,}", (middle, bottom), (0, -4), size=8, color=QUIET, va="top")
    _write(ax, "cells", (left[-1], 0.0), (2, 4), size=8, color=QUIET, ha="left")
    _write(ax, f"{len(here):,}", (left[-1], bottom), (2, -4), size=8, color=QUIET, ha="left", va="top")
    ax.set(xlim=(0.0, left[-1]), ylim=(bottom, 0.0))
    ax.axis("off")
    if title:
        ax.set_title(title, color=INK, pad=32)
    if show:
        plt.show()
    return ax


def _draw_blocks(
    ax: Axes,
    blocks: list[_Block],
    heights: NDArray[np.float64],
    names: list[str],
    left: NDArray[np.float64],
    widths: NDArray[np.float64],
    colors: Mapping[str, str],
) -> float:
    """Draw all blocks from the top down and return where they end."""
    top = 0.0
    for i, (block, height) in enumerate(zip(blocks, heights, strict=True)):
        top += GAP if i and block.here != blocks[i - 1].here else 0.0
        for j, name in enumerate(names):
            face = colors[name] if block.here[j] else ABSENT
            patch = Rectangle((left[j], top), widths[j], height, facecolor=face, edgecolor="white", linewidth=0.8)
            patch.set_gid(f"{name}|{block.label}|{'present' if block.here[j] else 'absent'}")
            ax.add_patch(patch)
        middle = top + height / 2
        _write(ax, block.label, (0.0, middle), (-4, 0), size=9, color=INK, ha="right", va="center")
        _write(ax, f"{block.n_cells:,}", (left[-1], middle), (2, 0), size=9, color=INK, ha="left", va="center")
        top += height
    return top


def _write(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    points: tuple[float, float],
    *,
    size: float,
    color: str,
    ha: str = "center",
    va: str = "bottom",
    weight: str = "normal",
) -> None:
    """Write beside a place of the picture, at a distance in points."""
    ax.annotate(text, at, points, textcoords="offset points", ha=ha, va=va, fontsize=size, color=color, weight=weight)


def _blocks(here: NDArray[np.bool_], batch: NDArray[np.str_] | None, max_blocks: int) -> list[_Block]:
    """Return sets of cells from top to bottom: most modalities first, then most cells, then by batch."""
    patterns = find_patterns(here)
    whole = [_Block("", tuple(row), n) for row, n in zip(patterns.rows.tolist(), patterns.sizes.tolist(), strict=True)]
    if batch is None:
        return whole
    split = []
    for i, block in enumerate(whole):
        names, counts = np.unique(batch[patterns.group == i], return_counts=True)
        split.append([_Block(str(name), block.here, int(n)) for name, n in zip(names, counts, strict=True)])
    # the patterns with most batches are drawn as one until all fits
    while sum(map(len, split)) > max_blocks and max(map(len, split)) > 1:
        i = max(range(len(split)), key=lambda j: len(split[j]))
        split[i] = [_Block(f"{len(split[i])} batches", whole[i].here, whole[i].n_cells)]
    return [block for blocks in split for block in blocks]


def _shares(sizes: Sequence[float] | NDArray[np.float64], smallest: float) -> NDArray[np.float64]:
    """Return shares of 1 in proportion to ``sizes``, none below ``smallest`` (or below an equal share)."""
    size = np.asarray(sizes, dtype=float)
    smallest = min(smallest, 1 / len(size))
    share = size / size.sum()
    low = np.zeros(len(size), dtype=bool)
    while ((share < smallest - 1e-12) & ~low).any():
        low |= share < smallest
        rest = 1 - smallest * low.sum()
        share = np.where(low, smallest, size / size[~low].sum() * rest)
    return share
