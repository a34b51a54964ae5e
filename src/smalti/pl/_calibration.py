"""Whether probabilities mean what they say, a picture for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from smalti._validate import check_count, check_keys
from smalti.metrics import error_of_curve
from smalti.tl import LabelReport

from ._axes import make_axes
from ._colors import INK, OKABE_ITO, QUIET, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

COLUMNS = ("low", "high", "n", "confidence", "accuracy")
LINE, BARS = OKABE_ITO[0], UNKNOWN
TALLEST = 0.3
"""Height of the tallest bar, in shares of the picture."""


def calibration(
    report: LabelReport | Mapping[str, pd.DataFrame] | pd.DataFrame,
    *,
    modalities: Sequence[str] | None = None,
    max_columns: int = 4,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool = False,
) -> list[Axes]:
    """Draw accuracy over confidence, a reliability diagram for each modality.

    On the dotted line probabilities mean what they say; below it they are too sure. Areas of points grow with the cells
    in the bin, and so do the grey bars at the bottom. The expected calibration error is at the top.

    Parameters
    ----------
    report
        What :func:`smalti.tl.label_report` returned, curves by modality, or one curve, as
        :func:`smalti.metrics.calibration_curve` makes them.
    modalities
        Pictures to draw, in this order; all by default.
    max_columns
        Most pictures side by side.
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
        If a modality does not exist, or a curve lacks a column.
    TypeError
        If ``report`` is something else.
    ValueError
        If there are no probabilities in the report, or the number of axes is not that of the modalities.
    """
    curves = _curves(report)
    names = list(curves) if modalities is None else list(modalities)
    check_keys(names, list(curves), "Modality")
    check_count(max_columns, "max_columns")
    axes = make_axes(ax, len(names), what="modality", max_columns=max_columns, panel=(2.6, 2.7))
    for axis, name in zip(axes, names, strict=True):
        _draw(axis, name, curves[name])
    if show:
        plt.show()
    return axes


def _curves(report: LabelReport | Mapping[str, pd.DataFrame] | pd.DataFrame) -> dict[str, pd.DataFrame]:
    if isinstance(report, LabelReport):
        curves = report.calibration
        if not curves:
            raise ValueError(
                "The report was made without probabilities. Pass `probabilities=` to `sm.tl.label_report`."
            )
    elif isinstance(report, pd.DataFrame):
        curves = {"": report}
    elif isinstance(report, Mapping):
        curves = dict(report)
    else:
        raise TypeError(f"Expected a label report or calibration curves, found {type(report).__name__}.")
    for name, curve in curves.items():
        check_keys(COLUMNS, list(curve.columns), f"Column of the curve of {name!r}")
    return curves


def _draw(ax: Axes, name: str, curve: pd.DataFrame) -> None:
    share = (curve["n"] / curve["n"].sum()).to_numpy()
    width = (curve["high"] - curve["low"]).to_numpy()
    ax.bar(
        curve["low"], TALLEST * share / share.max(), width, align="edge", color=BARS, edgecolor="white", linewidth=0.5
    )
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=":")
    filled = curve[curve["n"] > 0]
    ax.plot(filled["confidence"], filled["accuracy"], color=LINE, linewidth=1.2)
    ax.scatter(
        filled["confidence"],
        filled["accuracy"],
        s=8 + 160 * share[(curve["n"] > 0).to_numpy()],
        color=LINE,
        edgecolor="white",
        linewidth=0.5,
        zorder=3,
        clip_on=False,
    )
    said = f"ECE {error_of_curve(curve):.3f}, {int(curve['n'].sum()):,} cells"
    ax.set_title(said, fontsize=8, color=QUIET, loc="right")
    ax.set_title(name, fontsize=10, color=INK, loc="left", weight="bold")
    ax.set_xlabel("confidence", fontsize=8, color=QUIET)
    ax.set_ylabel("accuracy", fontsize=8, color=QUIET)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 5), yticks=np.linspace(0, 1, 5), aspect="equal")
    ax.tick_params(labelsize=8, colors=QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.set_axisbelow(True)
