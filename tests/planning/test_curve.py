from __future__ import annotations

import numpy as np
import pytest

from smalti.planning import fit_curve

N = np.geomspace(100, 1600, 8)


def test_a_power_law_without_noise_is_carried_on():
    truth = lambda n: 0.04 + 1.5 * np.asarray(n) ** -0.5  # noqa: E731
    fit = fit_curve(N, truth(N), error=0.003, discrepancy=0.0)
    low, middle, high = fit.predict([3200, 12800])
    np.testing.assert_allclose(middle, truth([3200, 12800]), rtol=0.04)
    assert (low < truth([3200, 12800])).all()
    assert (truth([3200, 12800]) < high).all()


def test_a_score_that_rises_to_a_ceiling_is_carried_on():
    truth = lambda n: 5 - 30 * np.asarray(n) ** -0.7  # noqa: E731
    fit = fit_curve(N, truth(N), error=0.004, lower_is_better=False, discrepancy=0.0)
    assert fit.predict(6400)[1, 0] == pytest.approx(truth(6400), rel=0.03)


@pytest.mark.parametrize("exponent", [0.4, 0.8])
def test_intervals_hold_the_truth_about_as_often_as_they_say(exponent):
    inside = 0
    for run in range(60):
        rng = np.random.default_rng([run, 1])
        truth = lambda n: 0.05 + 0.5 * (np.asarray(n) / 100) ** -exponent  # noqa: E731
        fit = fit_curve(N, truth(N) * (1 + 0.04 * rng.standard_normal(len(N))), error=0.04, discrepancy=0.0)
        low, _, high = fit.predict(6400)[:, 0]
        inside += low <= truth(6400) <= high
    # 90 % of 60 is 54; 45 would happen once in a thousand.
    assert inside >= 46


def test_intervals_widen_with_the_distance():
    fit = fit_curve(N, 0.04 + 1.5 * N**-0.5, error=0.02)
    low, middle, high = fit.predict([1600, 3200, 6400, 12800])
    assert (np.diff((high - low) / middle) > 0).all()


def test_the_unit_of_sizes_and_scores_does_not_matter():
    score = 0.04 + 1.5 * N**-0.5
    plain, scaled = fit_curve(N, score), fit_curve(N * 10, score * 7)
    np.testing.assert_allclose(scaled.predict(40_000), 7 * plain.predict(4000))


def test_the_required_size_is_where_the_curve_meets_the_goal():
    fit = fit_curve(N, 2 * N**-0.5, error=0.003, discrepancy=0.0)
    draws = fit.required(2 * 3200**-0.5)
    assert np.median(draws) == pytest.approx(3200, rel=0.08)


def test_a_goal_below_the_floor_is_never_reached():
    fit = fit_curve(N, np.full(8, 0.2) + 0.5 / N, error=0.003)
    assert np.isinf(fit.required(0.05)).mean() > 0.95


def test_a_curve_that_does_not_fall_is_told_from_one_that_does():
    assert not fit_curve([3000, 5000, 10_000], [0.030, 0.029, 0.031]).improves
    assert fit_curve([3000, 5000, 10_000], [0.039, 0.029, 0.019]).improves
    assert not fit_curve([3000, 5000, 10_000], [0.019, 0.029, 0.039]).improves


@pytest.mark.parametrize(
    ("scores", "published"),
    [((0.039, 0.029, 0.019), 0.015), ((0.050, 0.039, 0.028), 0.028), ((0.038, 0.032, 0.026), 0.026),
     ((0.018, 0.016, 0.014), 0.013)],
)  # fmt: skip
def test_published_curves_that_fall_are_predicted_from_their_first_half(scores, published):
    low, _, high = fit_curve([3000, 5000, 10_000], scores).predict(20_000)[:, 0]
    assert low <= published <= high


def test_what_is_no_curve_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        fit_curve([100], [0.1])
    with pytest.raises(ValueError, match="positive"):
        fit_curve([100, 200], [0.1, -0.1])


def test_a_score_that_still_rises_from_chance_is_carried_on_when_chance_is_known():
    n = np.array([100, 150, 220, 330, 500])

    def score(n):
        return 9 / (1 + (600 / n) ** 1.3)

    told, untold = (fit_curve(n, score(n), error=0.02, lower_is_better=False, chance=c) for c in (0.0, None))
    low, middle, high = told.predict(3200)[:, 0]
    assert low < score(3200) < high
    assert abs(middle / score(3200) - 1) < 0.25
    assert abs(middle / score(3200) - 1) < abs(untold.predict(3200)[1, 0] / score(3200) - 1)


def test_far_from_chance_a_known_chance_level_changes_nothing():
    n = np.array([500, 1000, 2000, 4000])
    told, untold = (fit_curve(n, 2 / n**0.5, error=0.03, chance=c) for c in (0.5, None))
    np.testing.assert_allclose(told.predict(16_000)[1], untold.predict(16_000)[1], rtol=0.03)
