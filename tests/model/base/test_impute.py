from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.model.base import conformal_limits
from smalti.model.base._imputation import Stack


@pytest.mark.parametrize("n", [60, 200])
def test_limits_hold_the_promised_share_of_new_residuals(n: int) -> None:
    rng = np.random.default_rng(0)
    low, high = conformal_limits(rng.standard_normal((n, 4000)), 0.9)
    new = rng.standard_normal((50, 4000))
    assert ((new >= low) & (new <= high)).mean() == pytest.approx(0.9, abs=0.006)


def test_a_stack_gives_all_weight_to_what_is_right_and_weights_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5))
    y = np.sin(3 * x[:, :3])
    stack = Stack(x, y)
    stack.fit_weights(stack.parts(x, y), y)
    np.testing.assert_allclose(stack.weights, [1, 0, 0], atol=0.02)
    noise = stack.parts(x, rng.standard_normal(y.shape))
    stack.fit_weights(noise, y)
    assert stack.weights.sum() == pytest.approx(1)
    assert (stack.weights >= 0).all()
    best = min(np.square(part - y).mean() for part in noise)
    assert np.square(stack.combine(noise) - y).mean() <= best + 1e-9


@pytest.fixture(scope="module")
def fitted():
    mdata = make_mosaic(pattern="mosaic", n_obs=1200, n_features={"a": 25, "b": 12}, n_shared=4, n_private=1)
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    model = sm.model.CLUE(mdata, n_latent=4, n_hidden=16, n_components=6)
    model.train(2, progress=False, train_size=0.7)
    return mdata, model


def test_cells_that_lack_the_target_get_intervals_around_their_mean(fitted) -> None:
    mdata, model = fitted
    found = model.impute(target="b", key_added="predicted")
    lacking = set(mdata.obs_names) - set(mdata["b"].obs_names)
    assert set(found.mean.index) == lacking
    good = found.skill["predictable"].to_numpy()
    mean, low, high = (t.to_numpy()[:, good] for t in (found.mean, found.lower, found.upper))
    assert ((low <= mean) & (mean <= high)).mean() > 0.99
    assert (low >= 0).all()
    table = mdata.obsm["predicted_b"]
    assert isinstance(table, pd.DataFrame)
    assert table.loc[mdata["b"].obs_names].isna().all(axis=None)
    name = found.mean.columns[good][0]
    values = sm.tl.cell_values(mdata, f"predicted b:{name}")
    np.testing.assert_allclose(values[found.mean.index], np.log1p(found.mean[name]), rtol=1e-6)
    assert "ridge" in repr(found)


def test_skill_beside_ridge_and_nearest_cells_is_never_much_worse(fitted) -> None:
    skill = fitted[1].impute(target="b").skill
    rmse = np.sqrt(np.square(skill[["rmse", "rmse_ridge", "rmse_knn", "rmse_model"]]).mean())
    assert rmse["rmse"] <= rmse.min() + 1e-6


def test_features_without_skill_are_flagged_and_not_filled(fitted) -> None:
    mdata, model = fitted
    found = model.impute(target="b")
    bad = ~found.skill["predictable"]
    assert found.mean.loc[:, bad].isna().all(axis=None)
    assert found.mean.loc[:, ~bad].notna().all(axis=None)
    assert (found.skill.loc[bad, "r2"] <= 0.02).all()


def test_too_few_held_out_cells_are_refused_and_said(fitted) -> None:
    found = fitted[1].impute(target="b", min_calibration=10_000)
    assert found.mean.isna().all(axis=None)
    assert set(found.calibration["calibrated_by"]) == {"refused"}


def test_wrong_requests_are_refused(fitted) -> None:
    with pytest.raises(ValueError, match="target"):
        fitted[1].impute(target="x")
    paired = make_mosaic(pattern="paired", n_obs=90, n_features={"a": 25, "b": 12})
    with pytest.raises(ValueError, match="nothing to impute"):
        fitted[1].impute(paired, target="b")


@pytest.mark.parametrize("rate", [3.0, 20.0])
def test_intervals_of_counts_hold_little_more_than_they_promise(rate: float) -> None:
    rng = np.random.default_rng(0)
    counts, new = rng.poisson(rate, (300, 1000)).astype(float), rng.poisson(rate, (100, 1000)).astype(float)
    spread = np.maximum(counts + rng.random(counts.shape) - 0.5, -0.5)
    plain = conformal_limits(spread - rate, 0.9)
    low, high = conformal_limits(spread - rate, 0.9, whole=counts - rate)
    held = ((new - rate >= low) & (new - rate <= high)).mean()
    before = ((new - rate >= plain[0]) & (new - rate <= plain[1])).mean()
    assert 0.89 < held < before
    assert held < 0.935
