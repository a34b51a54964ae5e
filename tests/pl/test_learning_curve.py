from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import smalti as sm


@pytest.fixture
def runs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"n_samples": n, "seed": seed, "score": n / 100 + rng.random() / 10 + (method == "ours"), "method": method}
        for method in ("ours", "baseline")
        for n in (1, 5, 20)
        for seed in range(4)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_lines_run_through_means_and_bands_show_one_standard_deviation(runs) -> None:
    ax = sm.pl.learning_curve(runs, x="n_samples", y="score", hue="method")
    lines = {line.get_label(): line for line in ax.lines}
    bands = [c for c in ax.collections if hasattr(c, "get_paths") and len(c.get_paths()[0].vertices) > 6]
    for name, band in zip(lines, bands[::2], strict=True):
        grouped = runs[runs["method"] == name].groupby("n_samples")["score"]
        np.testing.assert_array_equal(lines[name].get_xdata(), [1, 5, 20])
        np.testing.assert_allclose(lines[name].get_ydata(), grouped.mean())
        corners = band.get_paths()[0].vertices
        for n, mean, spread in zip((1, 5, 20), grouped.mean(), grouped.std(), strict=True):
            heights = corners[corners[:, 0] == n, 1]
            assert (heights.min(), heights.max()) == pytest.approx((mean - spread, mean + spread))


def test_every_run_is_a_point(runs) -> None:
    ax = sm.pl.learning_curve(runs, x="n_samples", y="score")
    points = ax.collections[-1].get_offsets()
    assert len(points) == len(runs)
    np.testing.assert_allclose(np.sort(points[:, 1]), np.sort(runs["score"]))
    assert ax.get_legend() is None


def test_one_run_is_drawn_without_a_spread(runs) -> None:
    ax = sm.pl.learning_curve(runs.drop_duplicates("n_samples"), x="n_samples", y="score")
    assert np.isfinite(ax.collections[0].get_paths()[0].vertices).all()


def test_runs_without_a_score_are_left_out(runs) -> None:
    gone = runs.copy()
    gone.loc[gone["n_samples"] == 5, "score"] = np.nan
    ax = sm.pl.learning_curve(gone, x="n_samples", y="score")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 20])
    with pytest.raises(ValueError, match="both 'n_samples' and 'score', found none in 24 rows"):
        sm.pl.learning_curve(runs.assign(score=np.nan), x="n_samples", y="score")


def test_the_axis_is_logarithmic_over_a_wide_range_only(runs) -> None:
    assert sm.pl.learning_curve(runs, x="n_samples", y="score").get_xscale() == "log"
    assert sm.pl.learning_curve(runs, x="n_samples", y="score", log=False).get_xscale() == "linear"
    narrow = runs[runs["n_samples"] > 1]
    assert sm.pl.learning_curve(narrow, x="n_samples", y="score").get_xscale() == "linear"
    zero = runs.replace({"n_samples": {1: 0}})
    assert sm.pl.learning_curve(zero, x="n_samples", y="score").get_xscale() == "linear"
    with pytest.raises(ValueError, match="'n_samples' to be positive on a logarithmic axis, found 0"):
        sm.pl.learning_curve(zero, x="n_samples", y="score", log=True)


def test_ticks_name_the_values_that_were_tried(runs) -> None:
    ax = sm.pl.learning_curve(runs, x="n_samples", y="score")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "5", "20"]
    assert ax.get_xlabel() == "n samples"


def test_lines_follow_the_order_of_categories_and_the_given_colors(runs) -> None:
    runs["method"] = pd.Categorical(runs["method"], categories=["baseline", "unused", "ours"])
    ax = sm.pl.learning_curve(runs, x="n_samples", y="score", hue="method", palette={"ours": "#123456"})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["baseline", "ours"]
    assert to_hex(ax.lines[1].get_color()) == "#123456"
    assert to_hex(ax.lines[0].get_color()) != "#123456"


def test_references_are_named_horizontal_lines(runs) -> None:
    _, given = plt.subplots()
    ax = sm.pl.learning_curve(runs, x="n_samples", y="score", reference={"chance": 0.2}, ax=given)
    assert ax is given
    assert list(ax.lines[-1].get_ydata()) == [0.2, 0.2]
    assert [text.get_text() for text in ax.texts] == ["chance"]


def test_unknown_columns_are_refused(runs) -> None:
    with pytest.raises(KeyError, match="'accuracy' not found; available: 'n_samples'"):
        sm.pl.learning_curve(runs, x="n_samples", y="accuracy")
