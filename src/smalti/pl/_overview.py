"""What was measured, and what a latent makes of it, in one figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from ._latent import PRESENCE, latent
from ._mosaic import mosaic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from mudata import MuData
    from numpy.typing import NDArray


def overview(
    mdata: MuData,
    key: str = "X_clue",
    *,
    color: str | Sequence[str] = PRESENCE,
    batch_key: str | None = None,
    coordinates: str | NDArray[Any] | None = None,
    random_state: int = 0,
    show: bool = False,
) -> Figure:
    """Draw the presence picture and, beside it, a UMAP of a latent for every colouring.

    Parameters
    ----------
    mdata, key, color, coordinates, random_state
        As in :func:`smalti.pl.latent`.
    batch_key
        As in :func:`smalti.pl.mosaic`.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The figure; its first axes are the presence picture.
    """
    colors = [color] if isinstance(color, str) else list(color)
    rows = math.ceil((1 + len(colors)) / 2)
    figure, grid = plt.subplots(rows, 2, figsize=(9.6, 3.3 * rows), squeeze=False, layout="constrained")
    axes = list(grid.ravel())
    mosaic(mdata, batch_key=batch_key, ax=axes[0])
    latent(mdata, key, color=colors, coordinates=coordinates, random_state=random_state, ax=axes[1 : 1 + len(colors)])
    for spare in axes[1 + len(colors) :]:
        spare.remove()
    if show:
        plt.show()
    return figure
