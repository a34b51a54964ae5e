"""The answer of a planner: a number with its interval, what it rests on, and one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from ._curve import CurveFit

Status = Literal["ok", "reached", "flat", "far", "rise", "useless"]
COVERAGE = 0.9


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """How many paired cells (or linked features) a goal needs, never as a bare number; ``print`` it."""

    unit: str
    """What is counted: ``"paired cells"`` or ``"links"``."""
    n_now: int
    """How many the pilot has."""
    target: str
    goal: float
    """Score to be reached; with a tolerance, the median over what the limit may be."""
    goal_words: str
    """The goal in words."""
    n_required: float
    """Median estimate; infinite if it is beyond eight times the pilot. NaN if nothing can be said."""
    interval: tuple[float, float]
    """90 % interval of ``n_required``."""
    status: Status
    """``"ok"``; ``"reached"``: the pilot reaches the goal already; ``"far"``: beyond eight times the pilot;
    ``"flat"``: the score does not improve with more, so that no curve can be carried further; ``"rise"``: it still
    improves faster and faster, so that nobody can see where that ends; ``"useless"``: no signal is shared."""
    points: pd.DataFrame
    """Means of the learning curve: ``n``, ``score``, ``error`` (relative), ``draws``, ``used`` in the fit."""
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row per size and draw."""
    fit: CurveFit | None = None
    components: pd.DataFrame = field(default_factory=pd.DataFrame)
    """What new cells confirm, one row per component: ``correlation`` with its 90 % interval, ``k`` (effective number of
    features), reliabilities, and ``n``, ``n_low``, ``n_high``: pairs that find its features in nine of ten studies."""
    warnings: tuple[str, ...] = ()

    @property
    def can_extrapolate(self) -> bool:
        """Whether the number may be used."""
        return self.status in ("ok", "reached")

    def predict(self, n: float) -> tuple[float, float, float]:
        """Return the score expected of ``n``, with its 90 % interval: (low, median, high)."""
        if self.fit is None:
            raise ValueError("Expected a learning curve to predict from, found none: the pilot has no shared signal.")
        low, middle, high = self.fit.predict(n, coverage=COVERAGE)[:, 0]
        return float(low), float(middle), float(high)

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        have = f"you have {_count(self.n_now)}"
        if self.status == "useless":
            return f"Cannot extrapolate: the pilot of {_count(self.n_now)} {self.unit} shows no shared component."
        if self.status == "flat":
            last = f"{self.points['score'].iloc[-1]:.3g}"
            return (
                f"Cannot extrapolate: the score ({last}) does not improve with more {self.unit} within the pilot; "
                f"{have}."
            )
        if self.status == "rise":
            last = f"{self.points['score'].iloc[-1]:.3g}"
            return (
                f"Cannot extrapolate: the score ({last}) still improves faster and faster with more {self.unit} within "
                f"the pilot; measure about twice as many and ask again; {have}."
            )
        if self.status == "far":
            return (
                f"Cannot extrapolate: {self.goal_words} needs more than {_count(8 * self.n_now)} {self.unit} or cannot "
                f"be reached; {have}."
            )
        enough = " are enough" if self.status == "reached" else ""
        return f"About {_count(self.n_required)} {self.unit} ({self._range()}){enough} for {self.goal_words}; {have}."

    def _range(self) -> str:
        low, high = self.interval
        if np.isfinite(high):
            return f"90 % interval {_count(low)}-{_count(high)}"
        return f"90 % interval from {_count(low)} to more than {_count(8 * self.n_now)}"

    def __repr__(self) -> str:
        lines = [self.sentence]
        if self.fit is not None:
            low, high = np.quantile(self.fit.limit(), [0.05, 0.95])
            lines.append(
                f"  with unlimited {self.unit}: {low:.3g} to {high:.3g}; now {self.points['score'].iloc[-1]:.3g}"
            )
        for number, row in self.components.iterrows():
            deep = f", {row['correlation_deep']:.2f} without noise" if row.get("correlation_deep", np.nan) > 0 else ""
            lines.append(
                f"  component {number}: correlation {row['correlation']:.2f} ({row['low']:.2f}-{row['high']:.2f})"
                f"{deep}, about {row['k']:.0f} features; finding these takes {_count(row['n'])} pairs "
                f"({_count(row['n_low'])}-{_count(row['n_high'])})"
            )
        lines += [f"  note: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _count(n: float) -> str:
    """Return a number of cells as one would say it: two digits, thousands with commas."""
    if n < 100:
        return f"{round(n)}"
    digits = 10 ** (len(str(int(n))) - 2)
    return f"{round(n / digits) * digits:,}"
