from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import smalti as sm
from smalti.planning import PhaseDiagram
from smalti.planning._sample_size import plan_from_curve


@pytest.fixture
def diagram():
    rows = [
        {"method": method, "n_features": 100, "n_active": k, "correlation": 0.9, "n_obs": n, "replicate": i,
         "error_x": 1.0 if n < 25 * k else 0.0, "f1": 1.0, "held_out": 0.9}
        for method in ("truncated", "cca") for k in (2, 16) for n in (20, 100, 500) for i in range(2)
    ]  # fmt: skip
    return PhaseDiagram(table=pd.DataFrame(rows))


@pytest.fixture
def plan():
    rng = np.random.default_rng(0)
    rows = [
        {"n": n, "draw": d, "score": n**-0.5 * (1 + 0.01 * rng.standard_normal()), "cell_variance": 1e-4}
        for d in range(5) for n in (40, 80, 160, 320, 640)
    ]  # fmt: skip
    return plan_from_curve(pd.DataFrame(rows), n_now=800, target="foscttm", goal=0.03)


def test_each_cell_of_the_grid_is_a_line_at_its_own_units(diagram):
    ax = sm.pl.phase_diagram(diagram, method="truncated")
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 2
    for line, k in zip(lines, (2, 16), strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.array([20, 100, 500]) * 0.81 / (k * np.log(100)))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["2", "16"]


def test_cells_are_the_unit_on_demand_and_colours_follow_the_hue(diagram):
    ax = sm.pl.phase_diagram(diagram, x="n", hue="method", palette={"cca": "#000000"})
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 4
    assert {line.get_color() for line in lines[:2]} == {"#000000"}
    np.testing.assert_array_equal(lines[0].get_xdata(), [20, 100, 500])


@pytest.mark.parametrize("bad", [{"x": "p"}, {"hue": "seed"}, {"method": "deep"}])
def test_what_the_diagram_does_not_have_is_refused(diagram, bad):
    with pytest.raises(ValueError, match="Expected"):
        sm.pl.phase_diagram(diagram, **bad)


def test_the_picture_of_a_plan_shows_every_size_the_goal_and_the_interval(plan):
    ax = sm.pl.sample_size(plan)
    points = np.concatenate([c.get_offsets() for c in ax.collections if len(c.get_offsets()) == 5])
    np.testing.assert_allclose(points[:, 1], plan.points["score"])
    heights = [line for line in ax.lines if np.allclose(line.get_ydata(), 0.03)]
    ends = [sorted(line.get_xdata()) for line in heights if line.get_linewidth() == 4]
    np.testing.assert_allclose(ends[0], plan.interval)
    assert ax.get_title(loc="left").replace("\n", " ") == plan.sentence


def test_a_plan_without_a_curve_has_no_picture(plan):
    with pytest.raises(ValueError, match="no shared component"):
        sm.pl.sample_size(type(plan)(**{**plan.__dict__, "points": pd.DataFrame()}))
