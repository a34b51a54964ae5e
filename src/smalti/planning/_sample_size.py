"""How many paired cells, from a pilot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._validate import check_in_range

from ._curve import UNREPLICATED, fit_curve
from ._learning import beyond_chance, learning_curve, paired_cells, summarise
from ._pilot import components, formula, pilot_values
from ._plan import SamplePlan
from ._scores import INFO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from ._curve import CurveFit
    from ._learning import Vary
    from ._plan import Status
    from ._scores import Fit, Target

TOLERANCE = 0.05
LEAST_SCORE = 1e-6
"""Put in the place of zero, which has no logarithm."""
MIN_POINTS = 3
NEAR_BEST, MIN_BENT, BEND_Z = 2 / 3, 4, 1.645
"""A score that has come two thirds of the way from chance to 0 is past the rise; a bend needs four sizes, and to be
beyond its error at the 5 % level. Judged on one data set: docs/methods/planning.md."""
DENSE = 0.5
"""Share of all features above which a component is no longer sparse, and ``n`` grows like the number of features."""


def sample_size(
    mdata: MuData,
    *,
    goal: float | None = None,
    target: Target = "foscttm",
    modalities: Sequence[str] | None = None,
    vary: Vary = "cells",
    tolerance: float = TOLERANCE,
    sizes: Sequence[int] | None = None,
    n_draws: int = 10,
    fit: Fit | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    random_state: int = 0,
) -> SamplePlan:
    r"""Say how many paired cells a goal needs, from a pilot with some.

    Two things are measured. First the shared components that new cells of the pilot confirm, with their correlation,
    their effective number of features and their noise; :math:`n = 7.5\, k \log(p) / \rho^2` pairs are what finding the
    features of each takes. Then a learning curve: a method is fitted to ever fewer cells and scores others, and a power
    law with a floor, with all that is uncertain about it, carries the curve further.

    Parameters
    ----------
    mdata
        The pilot: two modalities, at least 30 cells with both. Raw values.
    goal
        Score to reach; by default the limit of unlimited cells, up to ``tolerance``.
    target
        ``"foscttm"``: fraction of cells closer than the true match, by cosine, within batches, lower is better.
        ``"correlation"``: sum of the correlations of all axes. ``"labels"``: accuracy of transferred labels.
    modalities
        Two names; those of ``mdata`` by default.
    vary
        ``"cells"``: what to sequence, all of it paired. ``"pairs"``: how many of many cells to measure twice; those
        of the pilot beyond the size stay, unpaired.
    tolerance
        Without a goal: share of the way from chance to the limit that may be missing.
    sizes, n_draws, fit, batch_key, labels_key
        See :func:`learning_curve`.
    random_state
        Seed.

    Returns
    -------
    The plan; its ``sentence`` is the answer, :func:`smalti.pl.sample_size` the picture. If the pilot shows no shared
    component, if its curve does not improve or still improves ever faster, or if the answer would be beyond eight times
    the pilot, it says "cannot extrapolate".

    Raises
    ------
    ValueError
        If there are not two modalities with 30 paired cells, or labels are missing.

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.simulate.factor_views(300, n_shared=4, n_private=2)
    >>> plan = sm.planning.sample_size(mdata, goal=0.2, n_draws=2)
    >>> plan.sentence.startswith("About")
    True
    """
    check_in_range(tolerance, 0.001, 0.5, "tolerance")
    names, paired = paired_cells(mdata, modalities)
    pilot = pilot_values(mdata, names, paired, batch_key=batch_key, seed=random_state)
    found = components(pilot, seed=random_state)
    if not len(found):
        return SamplePlan(
            unit="paired cells", n_now=len(paired), target=target, goal=np.nan if goal is None else goal, goal_words="",
            n_required=np.nan, interval=(np.nan, np.nan), status="useless", points=pd.DataFrame(),
        )  # fmt: skip
    table = learning_curve(
        mdata,
        modalities=names,
        target=target,
        vary=vary,
        sizes=sizes,
        n_draws=n_draws,
        fit=fit,
        batch_key=batch_key,
        labels_key=labels_key,
        random_state=random_state,
    )
    needed = formula(found)
    found[["n", "n_low", "n_high"]] = needed[["n", "low", "high"]]
    notes = component_notes(found, [v.shape[1] for v in pilot.values])
    return plan_from_curve(
        table, n_now=len(paired), target=target, goal=goal, tolerance=tolerance, components=found, notes=notes,
        random_state=random_state,
    )  # fmt: skip


def plan_from_curve(
    table: pd.DataFrame,
    *,
    n_now: int,
    target: Target,
    goal: float | None,
    tolerance: float = TOLERANCE,
    unit: str = "paired cells",
    chance: float | None = None,
    components: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    random_state: int = 0,
) -> SamplePlan:
    """Fit the curve and answer; see :func:`sample_size`."""
    info, points = INFO[target], summarise(table, n_now)
    chance = info.chance if chance is None else chance
    used = beyond_chance(points, chance, info.lower_is_better)
    points["used"] = points["n"].isin(used["n"])
    level_error = points.attrs["level_error"]
    base = {"unit": unit, "n_now": n_now, "target": target, "points": points, "curve": table}
    base |= {"components": pd.DataFrame() if components is None else components, "warnings": tuple(notes)}
    if len(used) < MIN_POINTS:
        return SamplePlan(
            **base, goal=np.nan if goal is None else goal, goal_words="", n_required=np.nan,
            interval=(np.nan, np.nan), status="flat",
        )  # type: ignore[arg-type] # fmt: skip
    curve = fit_curve(
        used["n"],
        used["score"].clip(lower=LEAST_SCORE),
        error=used["error"].to_numpy(),
        lower_is_better=info.lower_is_better,
        chance=None if info.lower_is_better else chance,
        level_error=level_error,
        random_state=random_state,
    )
    limit = curve.limit()
    goals = limit + tolerance * (chance - limit) if goal is None else np.full_like(limit, goal)
    draws = curve.required(goals)
    low, middle, high = _quantiles(draws)
    words = info.words + (
        f" within {tolerance:.0%} of its limit" if goal is None else _bound(info.lower_is_better, goal)
    )
    status = _status(table, used, curve, middle, n_now, goal, info.lower_is_better)
    if status in ("ok", "far") and info.lower_is_better and _still_rising(table, used, chance):
        status = "rise"
    return SamplePlan(
        **base, goal=float(np.median(goals)), goal_words=words, n_required=middle, interval=(low, high), status=status,
        fit=curve,
    )  # type: ignore[arg-type] # fmt: skip


def component_notes(found: pd.DataFrame, sizes: Sequence[int]) -> list[str]:
    """Return what a reader of the table of components should know."""
    notes = []
    if (found["k"] > DENSE * min(sizes)).any():
        notes.append("a component is carried by most features, so that n grows like their number, not its logarithm")
    error = (found["high"] - found["low"]) / (2 * 1.645)
    near = found["correlation"].diff().abs() < 2 * error
    if near.any():
        notes.append(
            "components "
            + ", ".join(f"{i - 1} and {i}" for i in found.index[near])
            + " correlate alike: only the space that they span together is identified"
        )
    return notes


def _status(
    table: pd.DataFrame,
    used: pd.DataFrame,
    curve: CurveFit,
    n_required: float,
    n_now: int,
    goal: float | None,
    lower_is_better: bool,
) -> Status:
    last = used.iloc[-1]
    if goal is None:
        there = n_required <= curve.n_max
    else:
        there = bool(last["score"] <= goal if lower_is_better else last["score"] >= goal)
    if there:
        return "reached"
    half = used.iloc[(used["n"] - last["n"] / 2).abs().argmin()]
    gain, error = _gain(table, half["n"], last["n"])
    if not curve.improves or (gain if lower_is_better else -gain) < 2 * error:
        return "flat"
    return "ok" if np.isfinite(n_required) and n_required <= 8 * n_now else "far"


def _still_rising(table: pd.DataFrame, used: pd.DataFrame, chance: float) -> bool:
    """Return whether a falling score falls ever faster, on double logarithmic axes, and is far from its best."""
    if used["score"].iloc[-1] < (1 - NEAR_BEST) * chance or len(used) < MIN_BENT:
        return False
    wide = np.log(table[table["n"].isin(used["n"])].pivot_table(index="draw", columns="n", values="score").dropna())
    if len(wide) < MIN_POINTS:
        return False
    x = np.log(wide.columns.to_numpy(dtype=np.float64))
    bend = np.polyfit(x - x.mean(), wide.to_numpy().T, 2)[0]
    return bool(bend.mean() < -BEND_Z * bend.std(ddof=1) / np.sqrt(len(bend)))


def _gain(table: pd.DataFrame, half: float, whole: float) -> tuple[float, float]:
    """Return the mean log ratio of the scores of two sizes and its standard error, within draws."""
    wide = np.log(table.pivot_table(index="draw", columns="n", values="score").clip(lower=1e-6))
    ratio = (wide[half] - wide[whole]).dropna()
    if len(ratio) < 2:
        return float(ratio.mean()), UNREPLICATED * np.sqrt(2)
    return float(ratio.mean()), float(ratio.std() / np.sqrt(len(ratio)))


def _quantiles(draws: np.ndarray) -> tuple[float, float, float]:
    """Return 5 %, 50 % and 95 % of draws that may be infinite."""
    ordered = np.sort(draws)
    low, middle, high = (float(ordered[round(q * (len(ordered) - 1))]) for q in (0.05, 0.5, 0.95))
    return low, middle, high


def _bound(lower_is_better: bool, goal: float) -> str:
    return f" {'under' if lower_is_better else 'of at least'} {goal:g}"
