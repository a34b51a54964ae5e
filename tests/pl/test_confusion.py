from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from matplotlib.colors import to_rgb

import smalti as sm
from smalti.metrics import confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH = ["B"] * 4 + ["T"] * 10 + ["NK"] * 5
FOUND = ["B", "B", "T", None] + ["T"] * 8 + ["B", None] + ["new"] * 5


@pytest.fixture
def table() -> pd.DataFrame:
    return confusion(TRUTH, FOUND)


def drawn(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the values behind the colors: of the classes, and of abstentions."""
    blocks = [np.ma.filled(mesh.get_array(), 0) for mesh in ax.collections]
    return blocks[0], blocks[1]


def numbers(ax: Axes) -> dict[tuple[float, float], str]:
    return {text.get_position()[::-1]: text.get_text() for text in ax.texts if "." not in text.get_text()}


def test_rows_are_shares_of_the_true_label_and_abstentions_stand_apart(table) -> None:
    (ax,) = sm.pl.confusion(table)
    inside, silent = drawn(ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["B", "NK", "T", "new"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["B", "NK", "T", "new", "abstained"]
    expected = [[0.5, 0, 0.25, 0], [0, 0, 0, 1], [0.1, 0, 0.8, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(inside, expected)
    np.testing.assert_allclose(silent.ravel(), [0.25, 0, 0.1, 0])
    assert ax.collections[1].get_datalim(ax.transData).x0 > ax.collections[0].get_datalim(ax.transData).x1


def test_counts_are_drawn_if_asked(table) -> None:
    (ax,) = sm.pl.confusion(table, normalize=False)
    inside, silent = drawn(ax)
    np.testing.assert_array_equal(inside, table.iloc[:, :-1])
    np.testing.assert_array_equal(silent, table.iloc[:, -1:])
    assert ax.collections[0].norm.vmax == 8


def test_few_classes_have_their_numbers_written_and_many_a_scale_of_colors(table) -> None:
    (ax,) = sm.pl.confusion(table)
    written = [text.get_text() for text in ax.texts]
    assert sorted(written) == sorted(["50", "25", "25", "100", "10", "80", "10", "4", "5", "10", "0"])
    assert len(ax.figure.axes) == 1
    names = [f"type {i:02d}" for i in range(13)]
    (many,) = sm.pl.confusion(confusion(names, names))
    assert [text.get_text() for text in many.texts] == ["1"] * 13  # cells in each row only
    assert len(many.figure.axes) == 2


def test_a_class_without_cells_is_grey_and_not_white(table) -> None:
    (ax,) = sm.pl.confusion(table)
    assert [patch.get_gid() for patch in ax.patches] == ["no cells|new"]
    patch = ax.patches[0]
    assert patch.get_y() <= 3 <= patch.get_y() + patch.get_height()
    assert to_rgb(patch.get_facecolor()) != (1, 1, 1)


def test_letters_can_be_read_on_their_cells() -> None:
    names = list("abcdefghij")
    rng = np.random.default_rng(0)
    counts = pd.DataFrame(rng.integers(1, 30, size=(10, 10)), index=names, columns=names)
    (ax,) = sm.pl.confusion(counts)
    mesh = ax.collections[0]
    shades = mesh.to_rgba(mesh.get_array()).reshape(10, 10, 4)

    def luminance(color):
        linear = np.asarray(color[:3]) ** 2.2
        return linear @ [0.2126, 0.7152, 0.0722]

    for text in ax.texts[:100]:
        column, row = text.get_position()
        light, dark = sorted([luminance(to_rgb(text.get_color())), luminance(shades[int(row), int(column)])])[::-1]
        assert (light + 0.05) / (dark + 0.05) > 3  # the contrast that WCAG asks of graphics


def test_a_report_gives_a_picture_for_each_modality_and_names_only_at_the_left() -> None:
    mdata = make_mosaic(n_obs=140)
    report = sm.tl.label_report(mdata, "label", dict.fromkeys(mdata.mod, mdata.obs["label"]))
    axes = sm.pl.confusion(report)
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "c"]
    assert [bool(ax.get_yticklabels()[0].get_text()) for ax in axes] == [True, False, False]
    for ax, name in zip(axes, "abc", strict=True):
        np.testing.assert_allclose(drawn(ax)[0], np.eye(3))
        assert str(mdata[name].n_obs) == str(report.confusion[name].to_numpy().sum())
    assert [ax.get_title(loc="left") for ax in sm.pl.confusion(report, modalities=["c", "a"])] == ["c", "a"]


def test_classes_can_be_chosen_and_shares_stay_those_of_the_whole_row(table) -> None:
    (ax,) = sm.pl.confusion({"x": table}, classes=["T", "B"])
    np.testing.assert_allclose(drawn(ax)[0], [[0.8, 0.1], [0.25, 0.5]])


@pytest.mark.parametrize("n", [3, 15, 35])
@pytest.mark.parametrize("panels", [1, 3])
def test_nothing_is_cut_off_and_labels_do_not_touch(n, panels) -> None:
    names = [f"a type with a long name {i}" for i in range(n)]
    table = confusion(names, names)
    axes = sm.pl.confusion({f"modality {i}": table for i in range(panels)})
    figure = axes[0].figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    whole = figure.get_tightbbox(renderer)
    assert whole.x0 >= -0.02
    assert whole.y0 >= -0.02
    assert whole.x1 <= figure.get_figwidth() + 0.02
    assert whole.y1 <= figure.get_figheight() + 0.02
    assert figure.get_figwidth() < 18
    heights = [tick.get_window_extent(renderer) for tick in axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in zip(heights, heights[1:], strict=False))


def test_given_axes_are_used_and_all_of_them_named(table) -> None:
    figure, given = plt.subplots(1, 2)
    axes = sm.pl.confusion({"x": table, "y": table}, ax=given)
    assert axes == list(given)
    assert all(ax.get_yticklabels()[0].get_text() == "B" for ax in axes)
    with pytest.raises(ValueError, match="Expected 2 axes, one for each modality, found 1"):
        sm.pl.confusion({"x": table, "y": table}, ax=given[0])


def test_bad_tables_are_refused(table) -> None:
    with pytest.raises(ValueError, match=r"same classes as rows and columns, found 3 rows and 4 columns"):
        sm.pl.confusion({"x": table.iloc[1:]})
    with pytest.raises(TypeError, match="label report or tables of counts, found ndarray"):
        sm.pl.confusion(table.to_numpy())
    with pytest.raises(KeyError, match="Modality: 'z' not found"):
        sm.pl.confusion({"x": table}, modalities=["z"])
    with pytest.raises(KeyError, match="Class: 'DC' not found"):
        sm.pl.confusion(table, classes=["DC"])
    with pytest.raises(ValueError, match="at least one modality"):
        sm.pl.confusion({})
