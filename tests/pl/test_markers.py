from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm


@pytest.fixture
def mdata():
    return make_mosaic(pattern="every", n_obs=105)


def test_every_group_has_a_dot_or_a_cross_for_every_feature(mdata) -> None:
    names = [f"{m}:{mdata[m].var_names[0]}" for m in "ab"]
    mdata.obs["where"] = np.where(sm.data.presence(mdata, ["a"]).ravel(), "yes", "no")
    ax = sm.pl.markers(mdata, "where", names).axes[0]
    dots, crosses = ax.collections[:2]
    assert len(dots.get_offsets()) == 3
    assert np.asarray(crosses.get_offsets()).tolist() == [[0, 0]]  # no cell of "no" was measured in a
    assert [t.get_text() for t in ax.get_yticklabels()] == ["no", "yes"]


def test_color_is_the_scaled_mean_and_area_the_share_of_cells(mdata) -> None:
    name = f"a:{mdata['a'].var_names[0]}"
    dots = sm.pl.markers(mdata, "label", [name]).axes[0].collections[0]
    values = sm.tl.cell_values(mdata, name)
    mean = values.groupby(mdata.obs["label"], observed=True).mean().to_numpy()
    np.testing.assert_allclose(dots.get_array(), (mean - mean.min()) / np.ptp(mean), rtol=1e-6)
    share = (values.dropna() > 0).groupby(mdata.obs["label"], observed=True).mean().to_numpy()
    areas = dots.get_sizes()
    np.testing.assert_allclose((areas - areas.min()) / 90, share - share.min(), atol=1e-6)


def test_markers_are_found_by_default_and_a_table_is_taken(mdata) -> None:
    table = sm.tl.rank_features(mdata, "label", n=3)
    figure, ax = plt.subplots()
    assert sm.pl.markers(mdata, "label", table, n=1, ax=ax) is figure
    drawn = [t.get_text() for t in ax.get_xticklabels()]
    assert set(drawn) <= set(table["feature"])
    assert len(drawn) <= 9
    assert sm.pl.markers(mdata, "label", n=1).axes[0].get_xticklabels()[0].get_text() == drawn[0]
    with pytest.raises(ValueError, match="at least one feature"):
        sm.pl.markers(mdata, "label", [])
