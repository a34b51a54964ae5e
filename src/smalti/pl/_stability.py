"""How much of a result depends on the seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from smalti.tl import Stability, score_title

from ._axes import figure_of, make_axes
from ._colors import INK, OKABE_ITO, QUIET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def stability(found: Stability, *, ax: Axes | Sequence[Axes] | None = None, show: bool = False) -> Figure:
    """Draw the spread of every score over seeds, and how many cells keep how much of their neighbourhood.

    Parameters
    ----------
    found
        What :func:`smalti.tl.stability` returned.
    ax
        Two axes to draw into; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The figure.

    Raises
    ------
    ValueError
        If other than two axes are given.
    """
    if not isinstance(found, Stability):
        raise TypeError(f"Expected what `sm.tl.stability` returned, found the type {type(found).__name__}.")
    scores = found.scores.dropna(axis=1, how="all")
    axes = make_axes(ax, 2, what="picture of stability", max_columns=2, panel=(5.0, max(2.8, 0.2 * scores.shape[1])))
    for y, name in enumerate(scores):
        values = scores[name].to_numpy(dtype=float)
        axes[0].plot([np.nanmin(values), np.nanmax(values)], [y, y], color=QUIET, linewidth=1, zorder=1)
        axes[0].scatter(values, np.full(len(values), y), s=18, color=OKABE_ITO[0], linewidths=0, zorder=2, gid=name)
    axes[0].set_yticks(range(scores.shape[1]), [score_title(str(name)) for name in scores])
    axes[0].invert_yaxis()
    axes[0].set_xlim(-0.02, 1.02)
    axes[0].set_title(f"scores, a point per seed ({len(found.seeds)})", fontsize=10, color=INK, loc="left")
    bins = np.linspace(0, 1, found.n_neighbors + 1).tolist()
    for (name, values), color in zip(found.neighbourhood.items(), OKABE_ITO, strict=False):
        known = values.dropna().to_numpy()
        weights = np.full(len(known), 1 / max(len(known), 1))
        label = f"{name}, mean {known.mean():.2f}"
        axes[1].hist(known, bins=bins, weights=weights, histtype="step", linewidth=1.6, color=color, label=label)
    axes[1].axvline(found.chance, color=QUIET, linestyle=":", label=f"unrelated latents, {found.chance:.3f}")
    axes[1].legend(frameon=False, fontsize=8, loc="upper left")
    axes[1].set_xlabel(f"share of the {found.n_neighbors} nearest cells that two seeds have in common", fontsize=8)
    axes[1].set_ylabel("share of cells", fontsize=8)
    axes[1].set_title("neighbourhoods of cells", fontsize=10, color=INK, loc="left")
    for axis in axes:
        axis.tick_params(labelsize=8, colors=QUIET)
        axis.spines[["top", "right"]].set_visible(False)
    if show:
        plt.show()
    return figure_of(axes[0])
