"""Where sparse CCA starts to work, and how far a pilot is from its goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from smalti._validate import check_choice, check_keys

from ._colors import INK, QUIET, by_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

    from smalti.planning import PhaseDiagram, SamplePlan

POWERS = {"k log p": 1.0, "k^1.5 log p": 1.5, "k^2 log p": 2.0, "n": 0.0}
LABELS = {
    "k log p": r"$n\, \rho^2 / (k \log p)$",
    "k^1.5 log p": r"$n\, \rho^2 / (k^{1.5} \log p)$",
    "k^2 log p": r"$n\, \rho^2 / (k^2 \log p)$",
    "n": "cells",
}
HUES = ("n_active", "n_features", "correlation", "method")


def phase_diagram(
    diagram: PhaseDiagram,
    *,
    x: str = "k log p",
    hue: str = "n_active",
    method: str | None = None,
    palette: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    show: bool = False,
) -> Axes:
    """Draw the share of failures over the sample size, in units in which all curves should fall together.

    Parameters
    ----------
    diagram
        From :func:`smalti.planning.phase_diagram`.
    x
        Unit of the sample size: ``"k log p"``, ``"k^1.5 log p"`` or ``"k^2 log p"``, each over the squared correlation,
        or ``"n"`` for cells.
    hue
        What colours tell apart: ``"n_active"``, ``"n_features"``, ``"correlation"`` or ``"method"``. A line is drawn
        for every combination of all four.
    method
        Draw this estimator alone.
    palette
        Colour by value of ``hue``, as text.
    ax
        Axes to draw into; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        If a unit, hue or estimator does not exist.
    """
    check_choice(x, list(POWERS), "x")
    check_choice(hue, HUES, "hue")
    table = diagram.failure()
    if method is not None:
        check_choice(method, sorted(table["method"].unique()), "method")
        table = table[table["method"] == method]
    ax = _axes(ax)
    values = [str(v) for v in sorted(table[hue].unique())]
    colors = by_name(values) | dict(palette or {})
    drawn = set()
    for key, cell in table.groupby(["method", "n_features", "n_active", "correlation"]):
        name = str(dict(zip(("method", "n_features", "n_active", "correlation"), key, strict=True))[hue])
        at = cell["n_obs"] / _unit(cell, x)
        ax.plot(
            at,
            cell["failure"],
            color=colors[name],
            linewidth=1.1,
            alpha=0.8,
            marker="o",
            markersize=2.5,
            label=None if name in drawn else name,
        )
        drawn.add(name)
    ax.axhline(0.5, color=QUIET, linewidth=0.9, linestyle=":", zorder=1)
    ax.set_ylim(-0.03, 1.03)
    handles, labels = ax.get_legend_handles_labels()
    order = np.argsort([values.index(label) for label in labels])
    title = {"n_active": "k", "n_features": "p", "correlation": "correlation", "method": "method"}[hue]
    ax.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        title=title,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
    )
    _furnish(ax, LABELS[x], f"share of runs with error > {diagram.delta:g}")
    if show:
        plt.show()
    return ax


def sample_size(plan: SamplePlan, *, n_max: float | None = None, ax: Axes | None = None, show: bool = False) -> Axes:
    """Draw the learning curve of a pilot, how it may go on, and where it meets the goal.

    Points are means over draws, open ones were not fitted; the band holds the score with 90 % probability; the bar on
    the goal is the interval of the answer.

    Parameters
    ----------
    plan
        From :func:`smalti.planning.sample_size` or :func:`smalti.planning.link_size`.
    n_max
        Largest n shown; by default the larger of four times the pilot and twice the answer.
    ax
        Axes to draw into; a new figure by default.
    show
        Call ``plt.show()`` at the end.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        If the plan has no learning curve, because the pilot shows no shared component.
    """
    if plan.points.empty:
        raise ValueError("Expected a plan with a learning curve, found none: the pilot shows no shared component.")
    check_keys(["n", "score", "used"], list(plan.points), "Columns of `plan.points`")
    ax = _axes(ax)
    if n_max is None:
        n_max = 4.0 * plan.n_now
        if np.isfinite(plan.n_required):
            n_max = max(n_max, 2 * plan.n_required)
    if plan.fit is not None:
        n = np.geomspace(plan.points["n"].min(), n_max, 100)
        low, middle, high = plan.fit.predict(n)
        seen = n <= plan.fit.n_max
        ax.fill_between(n, low, high, color="#0072B2", alpha=0.15, linewidth=0, label="90 % interval")
        ax.plot(n[seen], middle[seen], color="#0072B2", linewidth=1.6)
        ax.plot(n[~seen], middle[~seen], color="#0072B2", linewidth=1.6, linestyle="--")
    for used, face in ((True, "#0072B2"), (False, "white")):
        part = plan.points[plan.points["used"] == used]
        ax.scatter(part["n"], part["score"], s=22, facecolor=face, edgecolor="#0072B2", zorder=4)
    ax.axvline(plan.n_now, color=QUIET, linewidth=0.9, linestyle=":", zorder=1)
    ax.annotate(
        "you have",
        (plan.n_now, 1),
        (3, -9),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=8,
        color=QUIET,
    )
    if np.isfinite(plan.goal):
        ax.axhline(plan.goal, color="#D55E00", linewidth=1.0, zorder=2)
        if plan.can_extrapolate:
            ends = [min(v, n_max) for v in plan.interval]
            ax.plot(ends, [plan.goal] * 2, color="#D55E00", linewidth=4, alpha=0.5, solid_capstyle="butt", zorder=3)
            ax.plot(plan.n_required, plan.goal, marker="D", color="#D55E00", markersize=6, zorder=5)
    _furnish(ax, plan.unit, plan.target.replace("foscttm", "FOSCTTM"))
    ax.set_title(_wrap(plan.sentence), fontsize=8, color=INK, loc="left")
    if show:
        plt.show()
    return ax


def _unit(cell: pd.DataFrame, x: str) -> Any:
    if x == "n":
        return 1.0
    return cell["n_active"] ** POWERS[x] * np.log(cell["n_features"]) / cell["correlation"] ** 2


def _wrap(text: str, width: int = 62) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 3.3), layout="constrained")
    return ax


def _furnish(ax: Axes, x: str, y: str) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(x, fontsize=9, color=INK)
    ax.set_ylabel(y, fontsize=9, color=INK)
    ax.tick_params(labelsize=8, colors=QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    ax.set_axisbelow(True)
