"""How training went, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from smalti._errors import NotFittedError
from smalti._validate import check_keys

from ._axes import figure_of, make_axes
from ._colors import INK, OKABE_ITO, QUIET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MONITOR, BEST_EPOCH = "monitor", "best_epoch"
REPEATED = ("elbo", "reconstruction_loss", "kl_local", "kl_global")
"""What scvi-tools logs besides the model's own terms; the same numbers on another scale."""
MIN_WIDTH = 4.2
"""Inches that the legend needs."""
TRAIN, VALIDATION = OKABE_ITO[0], OKABE_ITO[1]

Series = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def history(
    model: Any,
    *,
    terms: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool = False,
) -> Figure:
    """Draw every loss term of training and validation cells over epochs, a small picture each.

    The best epoch, whose weights the model kept, is marked: that of the lowest ``monitor`` on validation cells.

    Parameters
    ----------
    model
        A trained model, or its ``history``: a mapping of ``<term>_train`` and ``<term>_validation`` to a series by
        epoch.
    terms
        Terms to draw, such as ``["monitor", "contrastive"]``; by default all that the model logged.
    ax
        Axes to draw into, as many as there are terms; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The figure.

    Raises
    ------
    NotFittedError
        If the model was not trained.
    KeyError
        If a term was not logged.
    ValueError
        If the number of axes is not that of the terms.
    """
    if not hasattr(model, "keys") and not hasattr(model, "history"):
        raise TypeError(f"Expected a trained model or its history, found the type {type(model).__name__}.")
    logged = model if hasattr(model, "keys") else model.history
    if not logged:
        raise NotFittedError("There is no history: the model was not trained. Call `model.train()` first.")
    known = _terms(logged)
    if terms is None:
        terms = [term for term in known if term not in REPEATED]
    check_keys(terms, known, "Term of the history")
    axes = make_axes(
        ax, len(terms), what="term", max_columns=5, panel=(2.3, 1.8), extra=0.4, min_width=MIN_WIDTH, sharex=True
    )
    best = best_epoch(logged)
    for axis, term in zip(axes, terms, strict=True):
        _draw(axis, logged, term, best)
    figure = figure_of(axes[0])
    handles, labels = axes[0].get_legend_handles_labels()
    if ax is None:
        figure.legend(handles, labels, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8)
    else:
        axes[0].legend(handles, labels, frameon=False, fontsize=8)
    if show:
        plt.show()
    return figure


def best_epoch(logged: Mapping[str, Any]) -> float | None:
    """Return the epoch whose weights were kept; ``None`` if nothing was held out.

    Models note it; of other histories it is that of the lowest monitor on validation cells.
    """
    if BEST_EPOCH in logged:
        return float(_series(logged[BEST_EPOCH])[0][0])
    if f"{MONITOR}_validation" not in logged:
        return None
    epochs, values = _series(logged[f"{MONITOR}_validation"])
    return float(epochs[np.nanargmin(values)]) if np.isfinite(values).any() else None


def _terms(logged: Mapping[str, Any]) -> list[str]:
    """Return the terms in the order they were logged, the monitor first."""
    ends = ("_train", "_validation")
    found = dict.fromkeys(key.removesuffix(end) for key in logged for end in ends if key.endswith(end))
    return sorted(found, key=lambda term: term != MONITOR)


def _series(values: Any) -> Series:
    """Return epochs and values of one logged quantity."""
    table = values.iloc[:, 0] if isinstance(values, pd.DataFrame) else pd.Series(values)
    table = pd.to_numeric(table, errors="coerce").dropna()
    return table.index.to_numpy(dtype=float), table.to_numpy(dtype=float)


def _draw(ax: Axes, logged: Mapping[str, Any], term: str, best: float | None) -> None:
    for end, label, color in (("train", "training", TRAIN), ("validation", "validation", VALIDATION)):
        if f"{term}_{end}" in logged:
            epochs, values = _series(logged[f"{term}_{end}"])
            ax.plot(epochs, values, color=color, label=label, linewidth=1.4)
            at = np.flatnonzero(epochs == best)
            if end == "validation" and len(at):
                ax.plot(epochs[at[0]], values[at[0]], "o", color=color, markersize=4, gid="best")
    if best is not None:
        ax.axvline(best, color=QUIET, linewidth=0.9, linestyle=":", label=f"best epoch: {best:g}", gid="best")
    ax.set_title(term.replace("_", " "), fontsize=9, color=INK, loc="left")
    if ax.xaxis.get_tick_params().get("labelbottom", True):
        ax.set_xlabel("epoch", fontsize=8, color=QUIET)
    ax.tick_params(labelsize=8, colors=QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    ax.set_axisbelow(True)
