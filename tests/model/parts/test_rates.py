from __future__ import annotations

import numpy as np
import pytest

from smalti.model.parts import RateCalibration, fit_rates, shares_of


@pytest.fixture
def planted(rng):
    """Counts of known shares, and rates that are too large by a factor of the feature and one of the cell."""
    shares = rng.dirichlet(np.full(40, 0.5), size=600)
    total = rng.integers(200, 2000, size=600)
    counts = np.stack([rng.multinomial(n, p) for n, p in zip(total, shares, strict=True)]).astype(np.float32)
    wrong = rng.lognormal(0.2, 0.4, size=40)
    rates = (shares * total[:, None] * wrong * rng.lognormal(0, 0.3, size=(600, 1))).astype(np.float32)
    return rates, counts, shares * total[:, None]


def test_totals_of_cells_are_exact_and_those_of_features_right(planted):
    rates, counts, truth = planted
    found = fit_rates(rates, counts)(rates, counts.sum(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), counts.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), counts.sum(axis=0), rtol=0.02)
    assert np.abs(np.log(found / truth)).mean() < 0.2 * np.abs(np.log(rates / truth)).mean()


def test_features_that_were_not_measured_take_no_share(planted, rng):
    rates, counts, truth = planted
    measured = np.ones(counts.shape, dtype=bool)
    measured[:300, :15] = False
    counts = counts * measured
    found = fit_rates(rates, counts, measured)(rates, counts.sum(axis=1), measured)
    np.testing.assert_allclose((found * measured).sum(axis=1), counts.sum(axis=1), rtol=1e-5)
    # what was not measured is predicted at the level of what was
    np.testing.assert_allclose(found[:300, :15].sum(), truth[:300, :15].sum(), rtol=0.05)


def test_probabilities_stay_probabilities_and_are_right_on_average(rng):
    truth = rng.random((2000, 5)) * 0.9
    seen = (rng.random(truth.shape) < truth).astype(np.float32)
    rates = -np.expm1(2.5 * np.log1p(-truth))
    found = fit_rates(rates, seen, adds_up=False)(rates, seen.sum(axis=1))
    assert (found >= 0).all()
    assert (found <= 1).all()
    np.testing.assert_allclose(found.mean(axis=0), seen.mean(axis=0), rtol=0.03)


def test_cells_and_features_without_counts_stay_finite():
    rates, counts = np.ones((30, 4), np.float32), np.zeros((30, 4), np.float32)
    found = fit_rates(rates, counts)
    assert np.isfinite(found(rates, counts.sum(axis=1))).all()
    np.testing.assert_array_equal(shares_of(np.zeros((2, 3))), 0)
    plain = RateCalibration(np.ones(4, np.float32), True)
    np.testing.assert_allclose(plain(rates, np.full(30, 8.0)), 2)
