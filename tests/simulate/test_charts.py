"""Devices see their parts of the square through their lenses."""

from __future__ import annotations

import numpy as np
import pytest

from smalti import simulate
from smalti.data import presence


def test_every_state_is_seen_and_devices_see_their_part() -> None:
    for n, limits in ((2, ((0, 0.6), (0.4, 1))), (3, ((0, 0.4), (0.3, 0.7), (0.6, 1)))):
        mdata = simulate.overlap_charts(400, n_devices=n, n_burst=6)
        here, x = presence(mdata), mdata.obsm["truth"][:, 0]
        assert here.any(axis=1).all()
        for column, (low, high) in zip(here.T, limits, strict=True):
            np.testing.assert_array_equal(column, (x >= low) & (x <= high))


def test_images_are_those_of_the_truth_and_bursts_lie_around_them() -> None:
    mdata = simulate.overlap_charts(300, n_burst=50, burst_scale=0.01, mismatch=2.0)
    truth = dict(zip(mdata.obs_names, mdata.obsm["truth"], strict=True))
    t = np.array([truth[name] for name in mdata["cubic"].obs_names])
    expected = np.column_stack([t[:, 0] + t[:, 1] ** 3, t[:, 1] - t[:, 0] ** 3])
    np.testing.assert_allclose(mdata["cubic"].X, expected, atol=1e-6)
    assert np.linalg.norm(mdata["sphere"].X, axis=1) == pytest.approx(1, abs=1e-5)
    burst = mdata["cubic"].obsm["burst"]
    assert burst.shape == (mdata["cubic"].n_obs, 50, 2)
    np.testing.assert_allclose(burst.mean(axis=1), mdata["cubic"].X, atol=0.02)


def test_only_as_many_states_stay_co_observed_as_are_wanted() -> None:
    mdata = simulate.overlap_charts(400, n_devices=3, n_burst=5, n_shared=7)
    here = presence(mdata)
    assert (here[:, 0] & here[:, 1]).sum() == (here[:, 1] & here[:, 2]).sum() == 7
    with pytest.raises(ValueError, match="found"):
        simulate.overlap_charts(30, n_burst=5, n_shared=29)


def test_charts_are_the_truth_but_for_noise_and_a_turn() -> None:
    truth, charts = simulate.noisy_charts(200, n_latent=3, noise=0.0, scales=(1.0, 2.0))
    for name, scale in (("a", 1.0), ("b", 2.0)):
        known = np.isfinite(charts[name][:, 0])
        gaps = [np.linalg.norm(z[known][:, None] - z[known][None], axis=2) for z in (charts[name], truth)]
        np.testing.assert_allclose(gaps[0], scale * gaps[1], atol=1e-8)
