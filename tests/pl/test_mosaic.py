from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from _factories import make_mosaic
from matplotlib.colors import to_hex

import smalti as sm
from smalti.data import presence
from smalti.pl._colors import ABSENT
from smalti.pl._mosaic import _shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle


def blocks(ax: Axes) -> list[tuple[str, str, str, Rectangle]]:
    """Return (modality, label, "present" or "absent", rectangle) of every block."""
    return [(*patch.get_gid().split("|"), patch) for patch in ax.patches]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_every_pattern_is_a_row_of_blocks_filled_where_measured() -> None:
    mdata = make_mosaic(pattern="every")
    ax = sm.pl.mosaic(mdata)
    drawn = blocks(ax)
    assert len(drawn) == 7 * 3
    rows = np.array([kind == "present" for _, _, kind, _ in drawn]).reshape(7, 3)
    expected = np.unique(presence(mdata), axis=0)
    assert {tuple(r) for r in rows.tolist()} == {tuple(r) for r in expected.tolist()}
    for _, _, kind, patch in drawn:
        assert (to_hex(patch.get_facecolor()) == ABSENT.lower()) == (kind == "absent")


def test_blocks_of_one_modality_share_color_and_place_and_modalities_do_not() -> None:
    ax = sm.pl.mosaic(make_mosaic(pattern="every"))
    colors, places = {}, {}
    for name, _, kind, patch in blocks(ax):
        places.setdefault(name, set()).add((patch.get_x(), patch.get_width()))
        if kind == "present":
            colors.setdefault(name, set()).add(patch.get_facecolor())
    assert all(len(values) == 1 for values in (*colors.values(), *places.values()))
    assert len(set.union(*colors.values())) == 3


def test_blocks_do_not_overlap_and_wide_modalities_are_wider() -> None:
    ax = sm.pl.mosaic(make_mosaic(pattern="every", n_features={"a": 400, "b": 100, "c": 25}))
    patches = [patch for *_, patch in blocks(ax)]
    widths = [patch.get_width() for patch in patches[:3]]
    assert widths[0] / widths[1] == pytest.approx(2)
    assert widths[0] > widths[1] > widths[2]
    for i, first in enumerate(patches):
        for second in patches[i + 1 :]:
            apart_x = first.get_x() + first.get_width() <= second.get_x() + 1e-9
            apart_x |= second.get_x() + second.get_width() <= first.get_x() + 1e-9
            apart_y = first.get_y() + first.get_height() <= second.get_y() + 1e-9
            assert apart_x or apart_y


def test_numbers_of_cells_and_features_are_written() -> None:
    mdata = sm.datasets.pbmc_mosaic()
    ax = sm.pl.mosaic(mdata, batch_key="batch", title="Blood")
    written = texts(ax)
    assert written.count("400") == 4
    assert written.count("1,200") == 2
    assert {"rna", "adt", "500 features", "224 features", "1,600", "p1_0", "p2_0", "p3_0", "p4_0"} <= set(written)
    assert ax.get_title() == "Blood"
    kinds = {(label, name): kind for name, label, kind, _ in blocks(ax)}
    assert (kinds["p1_0", "rna"], kinds["p1_0", "adt"]) == ("present", "absent")
    assert (kinds["p2_0", "rna"], kinds["p2_0", "adt"]) == ("absent", "present")
    assert (kinds["p3_0", "rna"], kinds["p3_0", "adt"]) == ("present", "present")


def test_heights_follow_numbers_of_cells() -> None:
    ax = sm.pl.mosaic(sm.datasets.pbmc_mosaic())
    heights = [patch.get_height() for *_, patch in blocks(ax)][::2]
    assert heights == pytest.approx([0.5, 0.25, 0.25])


def test_too_many_batches_are_drawn_as_one_per_pattern() -> None:
    mdata = make_mosaic(pattern="every", n_obs=210, n_batches=10)
    ax = sm.pl.mosaic(mdata, batch_key="batch", max_blocks=20)
    drawn = blocks(ax)
    assert len(drawn) <= 20 * 3
    assert any(label.endswith(" batches") for _, label, _, _ in drawn)
    rows = [int(text.replace(",", "")) for text in texts(ax) if text.replace(",", "").isdigit()]
    # counts at the right of blocks, then per modality, then all cells
    n_blocks = len(drawn) // 3
    assert sum(rows[:n_blocks]) == mdata.n_obs


def test_modalities_and_colors_can_be_chosen() -> None:
    ax = sm.pl.mosaic(make_mosaic(pattern="every"), modalities=["c", "a"], palette={"c": "#123456"})
    drawn = blocks(ax)
    assert [name for name, *_ in drawn[:2]] == ["c", "a"]
    assert {to_hex(p.get_facecolor()) for name, _, kind, p in drawn if name == "c" and kind == "present"} == {"#123456"}


def test_given_axes_are_used_and_show_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    _, ax = plt.subplots()
    assert sm.pl.mosaic(make_mosaic(), ax=ax) is ax
    assert plt.get_fignums() == [ax.figure.number]
    assert not shown
    sm.pl.mosaic(make_mosaic(), ax=ax, show=True)
    assert shown == [True]


def test_unknown_columns_and_modalities_are_refused() -> None:
    with pytest.raises(KeyError, match="'donor' not found"):
        sm.pl.mosaic(make_mosaic(), batch_key="donor")
    with pytest.raises(KeyError, match="'z' not found"):
        sm.pl.mosaic(make_mosaic(), modalities=["a", "z"])


@pytest.mark.parametrize("sizes", [[1, 1000], [5, 5, 5], [1], [1, 2, 3, 100_000], [1] * 40])
def test_shares_fill_the_picture_and_respect_the_minimum(sizes: list[int]) -> None:
    share = _shares(sizes, 0.06)
    assert share.sum() == pytest.approx(1)
    assert share.min() >= min(0.06, 1 / len(sizes)) - 1e-9
    assert (np.diff(share[np.argsort(sizes, kind="stable")]) >= -1e-9).all()
