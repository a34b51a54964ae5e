from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from _factories import make_mosaic
from matplotlib.colors import to_hex

import smalti as sm
from smalti.data import presence
from smalti.pl._colors import UNKNOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@pytest.fixture
def mdata():
    mdata = make_mosaic(pattern="every", n_obs=105)
    mdata.obsm["z"] = np.random.default_rng(0).standard_normal((105, 5)).astype(np.float32)
    mdata.obsm["flat"] = mdata.obsm["z"][:, :2]
    return mdata


def points(ax: Axes) -> pd.DataFrame:
    """Return x, y and color of every point of a picture."""
    parts = [
        pd.DataFrame(
            {"x": c.get_offsets()[:, 0], "y": c.get_offsets()[:, 1], "color": [*map(to_hex, c.get_facecolor())]}
        )
        for c in ax.collections
        if len(c.get_offsets())
    ]
    return pd.concat(parts, ignore_index=True)


def legend(ax: Axes) -> dict[str, str]:
    """Return text and color of the entries of a legend."""
    found = ax.get_legend()
    return {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(found.get_texts(), found.legend_handles, strict=True)
    }


def at_cells(ax: Axes, xy: np.ndarray) -> np.ndarray:
    """Return the color drawn at the place of every cell."""
    drawn = points(ax)
    nearest = ((drawn[["x", "y"]].to_numpy()[None] - xy[:, None]) ** 2).sum(axis=2).argmin(axis=1)
    return drawn["color"].to_numpy()[nearest]


def test_presence_is_colored_by_what_each_cell_has(mdata) -> None:
    ax = sm.pl.latent(mdata, "flat").axes[0]
    here = presence(mdata)
    names = [" + ".join(np.array(["a", "b", "c"])[row]) for row in here]
    counts = pd.Series(names).value_counts()
    entries = legend(ax)
    assert set(entries) == {f"{name} ({n})" for name, n in counts.items()}
    assert next(iter(entries)).startswith("a + b + c")
    expected = [entries[f"{name} ({counts[name]})"] for name in names]
    assert at_cells(ax, mdata.obsm["flat"]).tolist() == expected


def test_columns_are_colored_and_counted_with_unknown_cells_in_grey(mdata) -> None:
    mdata.obs["type"] = mdata.obs["label"].astype(object)
    mdata.obs.loc[mdata.obs_names[:9], "type"] = None
    ax = sm.pl.latent(mdata, "flat", color="type").axes[0]
    entries = legend(ax)
    assert entries["not known (9)"] == UNKNOWN.lower()
    assert sum(int(text.split("(")[1][:-1]) for text in entries) == 105
    assert set(at_cells(ax, mdata.obsm["flat"])[:9]) == {UNKNOWN.lower()}


def test_cells_without_a_latent_are_left_out(mdata) -> None:
    z = mdata.obsm["flat"].copy()
    z[~presence(mdata)[:, 0]] = np.nan
    mdata.obsm["z_a"] = z
    ax = sm.pl.latent(mdata, "z_a", color="batch").axes[0]
    assert len(points(ax)) == presence(mdata)[:, 0].sum()


def test_stored_colors_and_given_colors_are_used(mdata) -> None:
    mdata.uns["label_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    assert list(legend(sm.pl.latent(mdata, "flat", color="label").axes[0]).values()) == mdata.uns["label_colors"]
    ax = sm.pl.latent(mdata, "flat", color="label", palette={"label_1": "#abcdef"}).axes[0]
    assert list(legend(ax).values()) == ["#ff0000", "#abcdef", "#0000ff"]


def test_numbers_get_a_color_scale_instead_of_a_legend(mdata) -> None:
    mdata.obs["depth"] = np.linspace(0, 7, 105)
    figure = sm.pl.latent(mdata, "flat", color=["depth", "batch"])
    assert figure.axes[0].get_legend() is None
    scale = figure.axes[0].collections[-1].get_array()
    assert (scale.min(), scale.max()) == (0, 7)
    assert figure.axes[1].get_legend() is not None


def test_a_umap_is_computed_on_a_copy_and_keeps_neighbors_near(mdata) -> None:
    rng = np.random.default_rng(1)
    group = np.arange(105) % 3
    mdata.obsm["z"] = (30 * np.eye(3)[group] + rng.standard_normal((105, 3))).astype(np.float32)
    mdata.obsm["X_umap"] = np.zeros((105, 2))  # of something else
    keys = (set(mdata.obsm), set(mdata.obsp), set(mdata.uns), set(mdata.obs))
    ax = sm.pl.latent(mdata, "z").axes[0]
    assert (set(mdata.obsm), set(mdata.obsp), set(mdata.uns), set(mdata.obs)) == keys
    assert not mdata.obsm["X_umap"].any()
    xy = sm.pl.umap_coordinates(mdata.obsm["z"])
    np.testing.assert_allclose(np.sort(points(ax)[["x", "y"]], axis=0), np.sort(xy, axis=0), rtol=1e-5)
    nearest = np.argsort(((xy[:, None] - xy[None]) ** 2).sum(axis=2), axis=1)[:, 1:6]
    assert (group[nearest] == group[:, None]).mean() > 0.95


def test_the_users_own_umap_of_that_latent_is_drawn(mdata) -> None:
    sc.pp.neighbors(mdata, use_rep="z", n_neighbors=10)
    sc.tl.umap(mdata, maxiter=20)
    ax = sm.pl.latent(mdata, "z", color="batch").axes[0]
    drawn = points(ax)[["x", "y"]].to_numpy()
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(mdata.obsm["X_umap"], axis=0), rtol=1e-6)
    mdata.uns["neighbors"]["params"]["use_rep"] = "flat"
    other = points(sm.pl.latent(mdata, "z", color="batch").axes[0])[["x", "y"]].to_numpy()
    assert not np.allclose(np.sort(other, axis=0), np.sort(drawn, axis=0))


def test_coordinates_can_be_given_by_key_or_array(mdata) -> None:
    for given in ("flat", mdata.obsm["flat"]):
        ax = sm.pl.latent(mdata, "z", color="batch", coordinates=given).axes[0]
        assert len(points(ax)) == 105
        np.testing.assert_allclose(np.sort(points(ax)["x"]), np.sort(mdata.obsm["flat"][:, 0]), rtol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(105, 2\), found \(105, 5\)"):
        sm.pl.latent(mdata, "flat", coordinates="z")


def test_rows_with_nan_get_no_coordinates() -> None:
    z = np.random.default_rng(0).standard_normal((40, 3))
    z[7] = np.nan
    xy = sm.pl.umap_coordinates(z)
    assert np.isnan(xy[7]).all()
    assert np.isfinite(np.delete(xy, 7, axis=0)).all()
    with pytest.raises(ValueError, match="at least 4 cells"):
        sm.pl.umap_coordinates(z[:3])


def test_features_of_any_modality_color_cells_and_cells_without_them_are_grey(mdata) -> None:
    name = f"a:{mdata['a'].var_names[0]}"
    figure = sm.pl.latent(mdata, "flat", color=[name, "batch"])
    values = sm.tl.cell_values(mdata, name)
    scale = figure.axes[0].collections[-1].get_array()
    np.testing.assert_allclose(np.sort(scale), np.sort(values.dropna()))
    grey = figure.axes[0].collections[0]
    assert len(grey.get_offsets()) == values.isna().sum()
    assert to_hex(grey.get_facecolor()[0]) == UNKNOWN.lower()


def test_a_color_bar_sits_at_its_own_panel(mdata) -> None:
    mdata.obs["depth"] = np.linspace(0, 7, 105)
    figure = sm.pl.latent(mdata, "flat", color=["depth", "batch"])
    figure.draw_without_rendering()
    panel, bar = figure.axes[0], figure.axes[0].child_axes[0]
    box, beside = panel.get_window_extent(), bar.get_window_extent()
    assert 0 < beside.x0 - box.x1 < 0.1 * box.width
    assert box.y0 < beside.y0 < beside.y1 < box.y1


def test_long_legends_stay_beside_their_panel_and_inside_the_figure(mdata) -> None:
    mdata.obs["type"] = [f"a rather long name of type {i % 30}" for i in range(105)]
    figure = sm.pl.latent(mdata, "flat", color=["type", "batch"])
    figure.draw_without_rendering()
    first, second = (ax.get_window_extent() for ax in figure.axes)
    legend = figure.axes[0].get_legend().get_window_extent()
    assert first.x1 <= legend.x0
    assert legend.x1 <= second.x0
    assert figure.bbox.y0 <= legend.y0
    assert legend.y1 <= figure.bbox.y1
    assert first.width > 0.2 * figure.bbox.width / 2


def test_drawing_order_mixes_groups(mdata) -> None:
    mdata.obs["half"] = np.where(np.arange(105) < 52, "first", "second")
    colors = points(sm.pl.latent(mdata, "flat", color="half").axes[0])["color"]
    assert (colors != colors.shift()).sum() > 20


def test_pictures_go_into_given_axes_of_the_right_number(mdata) -> None:
    figure, axes = plt.subplots(1, 2)
    assert sm.pl.latent(mdata, "flat", color=["presence", "batch"], ax=axes) is figure
    assert [ax.get_title(loc="left") for ax in axes] == ["presence", "batch"]
    with pytest.raises(ValueError, match="Expected 1 axes, one for each colouring, found 2"):
        sm.pl.latent(mdata, "flat", ax=axes)


def test_unknown_latents_and_columns_are_refused(mdata) -> None:
    with pytest.raises(KeyError, match="'X_clue' not found"):
        sm.pl.latent(mdata)
    mdata.obsm["X_flat"] = mdata.obsm.pop("flat")
    with pytest.raises(KeyError, match="'tissue' not found"):
        sm.pl.latent(mdata, "flat", color="tissue")
    with pytest.raises(ValueError, match="at least one"):
        sm.pl.latent(mdata, "flat", color=[])


def test_an_overview_has_the_mosaic_and_every_coloring(mdata) -> None:
    figure = sm.pl.overview(mdata, "flat", color=["presence", "batch"], batch_key="batch")
    assert len(figure.axes) == 3
    assert figure.axes[0].patches[0].get_gid().startswith("a|")
    assert [ax.get_title(loc="left") for ax in figure.axes[1:]] == ["presence", "batch"]
