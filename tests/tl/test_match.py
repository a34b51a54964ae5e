from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.data import presence


def planted(noise: np.ndarray | float, n_obs: int = 300, pattern: str = "paired", seed: int = 0):
    """Return a MuData whose latents of a and b are one point each, b with noise."""
    mdata = make_mosaic(n_obs=n_obs, pattern=pattern, n_features={"a": 6, "b": 6}, n_clusters=3)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((mdata.n_obs, 8))
    here = presence(mdata, ["a", "b"])
    other = z + np.broadcast_to(np.asarray(noise).reshape(-1, 1), (mdata.n_obs, 1)) * rng.standard_normal(z.shape)
    mdata.obsm["X_z_a"] = np.where(here[:, [0]], z, np.nan)
    mdata.obsm["X_z_b"] = np.where(here[:, [1]], other, np.nan)
    return mdata


def test_true_partners_are_found_where_latents_agree_and_rows_sum_to_one() -> None:
    found = sm.tl.match(planted(0.02), "a", "b", key="X_z", cells="all")
    table = found.to_frame()
    assert (table["match"] == table.index).mean() > 0.98
    assert table["mutual"].mean() > 0.98
    assert table["confidence"].mean() > 0.95
    np.testing.assert_allclose(found.plan.plan.sum(axis=1), 1, atol=1e-3)


def test_confidence_is_the_share_of_matches_that_are_right() -> None:
    noise = np.where(np.arange(900) % 2 == 0, 0.15, 1.2)  # half of the cells are hopeless
    mdata = planted(noise, 900)
    mdata.obs["known"] = np.arange(900) < 450
    table = sm.tl.match(mdata, "a", "b", key="X_z", cells="all", known_pairs="known").to_frame()
    new = table[~mdata.obs["known"].to_numpy()]
    right = (new["match"] == new.index).to_numpy()
    bins = np.array_split(np.argsort(new["confidence"].to_numpy()), 5)
    gaps = [abs(new["confidence"].iloc[at].mean() - right[at].mean()) for at in bins]
    assert np.mean(gaps) < 0.08
    surest = np.argsort(-new["confidence"].to_numpy())[:45]
    assert right[surest].mean() > 1.5 * right.mean()


def test_latents_that_agree_by_chance_get_no_confidence() -> None:
    found = sm.tl.match(planted(50.0, 300), "a", "b", key="X_z", cells="all")
    assert found.plan.confidence.mean() < 0.03
    assert "reliability error" in repr(found)


def test_partners_are_sought_within_groups() -> None:
    mdata = planted(0.3)
    found = sm.tl.match(mdata, "a", "b", key="X_z", cells="all", within="batch").to_frame()
    batch = mdata.obs["batch"].astype(str)
    assert (batch[found["match"]].to_numpy() == batch[found.index].to_numpy()).all()


def test_unpaired_cells_are_matched_with_all_cells_of_the_other_modality() -> None:
    mdata = planted(0.1, pattern="mosaic")
    here = presence(mdata, ["a", "b"])
    found = sm.tl.match(mdata, "a", "b", key="X_z")
    assert set(found.source) == set(mdata.obs_names[here[:, 0] & ~here[:, 1]])
    assert set(found.target) == set(mdata.obs_names[here[:, 1]])


def test_too_few_pairs_are_said_and_not_calibrated() -> None:
    mdata = planted(0.1)
    mdata.obs["known"] = np.arange(300) < 10
    found = sm.tl.match(mdata, "a", "b", key="X_z", cells="all", known_pairs="known")
    assert found.reliability is None
    assert "not calibrated: 10 known pairs" in found.note


def test_wrong_requests_are_refused() -> None:
    mdata = planted(0.1)
    with pytest.raises(ValueError, match="Found 0 cells of 'a' to match"):
        sm.tl.match(mdata, "a", "b", key="X_z")
    with pytest.raises(ValueError, match="two modalities"):
        sm.tl.match(mdata, "a", "a", key="X_z")
    with pytest.raises(KeyError, match="'x' not found"):
        sm.tl.match(mdata, "a", "x", key="X_z")
