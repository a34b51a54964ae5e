from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve as binary_curve
from sklearn.metrics import brier_score_loss

from smalti.metrics import brier_score, calibration_curve, expected_calibration_error, fit_temperature

SCORES = (expected_calibration_error, brier_score)


def draw(rng, n, k, *, scale=2.0):
    """Return logits and labels drawn from their softmax, so that the probabilities are true."""
    logits = scale * rng.normal(size=(n, k))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits, labels


def cross_entropy(logits, labels, t=1.0, pseudo_count=0.0):
    log_p = log_softmax(logits / t, axis=1)
    epsilon = pseudo_count / (len(logits) + pseudo_count)
    target = (1 - epsilon) * np.eye(logits.shape[1])[labels] + epsilon / logits.shape[1]
    return -(target * log_p).sum(axis=1).mean()


# ------------------------------------------------------------------ calibration error


@pytest.mark.parametrize("n_bins", [1, 5, 15])
def test_the_curve_and_its_error_equal_a_count_by_hand(rng, n_bins):
    logits, labels = draw(rng, 400, 4)
    p = softmax(3 * logits, axis=1)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    curve = calibration_curve(p, labels, n_bins=n_bins)
    error = 0.0
    for i in range(n_bins):
        low, high = i / n_bins, (i + 1) / n_bins
        inside = (confidence > low) & (confidence <= high)
        assert curve["n"][i] == inside.sum()
        assert (curve["low"][i], curve["high"][i]) == pytest.approx((low, high))
        if inside.any():
            assert curve["accuracy"][i] == pytest.approx(right[inside].mean())
            assert curve["confidence"][i] == pytest.approx(confidence[inside].mean())
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        else:
            assert curve.loc[i, ["accuracy", "confidence"]].isna().all()
    assert expected_calibration_error(p, labels, n_bins=n_bins) == pytest.approx(error, abs=1e-12)


def test_the_curve_is_that_of_scikit_learn_for_right_against_wrong(rng):
    logits, labels = draw(rng, 500, 3)
    p = softmax(logits, axis=1)
    accuracy, confidence = binary_curve(p.argmax(axis=1) == labels, p.max(axis=1), n_bins=15)
    curve = calibration_curve(p, labels).dropna()
    np.testing.assert_allclose(curve["accuracy"], accuracy)
    np.testing.assert_allclose(curve["confidence"], confidence)


def test_true_probabilities_have_a_small_error_and_sharpened_ones_a_large_one(rng):
    logits, labels = draw(rng, 20_000, 5)
    assert expected_calibration_error(softmax(logits, axis=1), labels) < 0.02
    assert expected_calibration_error(softmax(4 * logits, axis=1), labels) > 0.15
    assert expected_calibration_error(softmax(logits / 4, axis=1), labels) > 0.15


def test_certainty_is_rewarded_if_right_and_costs_all_if_wrong():
    p = np.eye(3)
    assert [score(p, [0, 1, 2]) for score in SCORES] == [0, 0]
    assert [score(p, [1, 2, 0]) for score in SCORES] == [1, 2]


# ------------------------------------------------------------------ Brier score


def test_brier_equals_the_squared_distance_to_the_label(rng):
    logits, labels = draw(rng, 200, 6)
    p = softmax(logits, axis=1)
    assert brier_score(p, labels) == pytest.approx(((p - np.eye(6)[labels]) ** 2).sum(axis=1).mean(), abs=1e-12)
    assert brier_score(np.full((200, 6), 1 / 6), labels) == pytest.approx(1 - 1 / 6)
    of_one = brier_score_loss(labels == 0, p[:, 0])
    two = np.column_stack([p[:, 0], 1 - p[:, 0]])
    assert brier_score(two, (labels != 0).astype(int)) == pytest.approx(2 * of_one)


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7), reason="scikit-learn 1.7 has more than two classes"
)
def test_brier_equals_that_of_scikit_learn(rng):
    logits, labels = draw(rng, 200, 6)
    p = softmax(logits, axis=1)
    assert brier_score(p, labels) == pytest.approx(brier_score_loss(labels, p), abs=1e-12)


def test_brier_is_lowest_for_true_probabilities(rng):
    logits, labels = draw(rng, 20_000, 4)
    scores = [brier_score(softmax(f * logits, axis=1), labels) for f in (0.5, 1, 2)]
    assert scores[1] < min(scores[0], scores[2])


# ------------------------------------------------------------------ which cells count, and which column is whose


def test_cells_without_label_or_prediction_are_left_out(rng):
    logits, labels = draw(rng, 100, 3)
    p, names = softmax(logits, axis=1), np.array(["x", "y", "z"])[labels].astype(object)
    silent, unknown = rng.random((2, 100)) < 0.3
    used = ~(silent | unknown)
    hidden = p.copy()
    hidden[silent] = np.nan
    for blank in (None, np.nan, "?"):
        blanked = names.copy()
        blanked[unknown] = blank
        for score in SCORES:
            found = score(hidden, blanked, classes=["x", "y", "z"], exclude="?")
            assert found == score(p[used], labels[used])
        values = np.where(silent[:, None], np.nan, logits)
        found = fit_temperature(values, blanked, classes=["x", "y", "z"], exclude=("?",))
        assert found == fit_temperature(logits[used], labels[used])


def test_columns_of_a_data_frame_name_the_classes(rng):
    logits, labels = draw(rng, 100, 3)
    p, names = softmax(logits, axis=1), np.array(["x", "y", "z"])[labels]
    table = pd.DataFrame(p, columns=["x", "y", "z"])
    for score in SCORES:
        assert score(table, names) == score(p, labels)
        assert score(table[["z", "x", "y"]], pd.Series(names, dtype="category")) == pytest.approx(score(p, labels))
    frame = pd.DataFrame(logits, columns=["x", "y", "z"])
    assert fit_temperature(frame[["y", "z", "x"]], names) == pytest.approx(fit_temperature(logits, labels))


def test_a_label_without_a_column_can_only_be_missed():
    p = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert expected_calibration_error(p, ["x", "new"], classes=["x", "y"]) == pytest.approx(0.4)
    assert brier_score(p, ["x", "new"], classes=["x", "y"]) == pytest.approx((0.02 + 0.82 + 1) / 2)


# ------------------------------------------------------------------ temperature


@pytest.mark.parametrize("pseudo_count", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_the_temperature_minimises_the_cross_entropy(rng, scale, pseudo_count):
    logits, labels = draw(rng, 150, 4)
    logits = logits * scale
    found = fit_temperature(logits, labels, pseudo_count=pseudo_count)
    best = minimize_scalar(
        lambda log_t: cross_entropy(logits, labels, np.exp(log_t), pseudo_count), bounds=(-4.6, 4.6), method="bounded"
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-3)
    assert cross_entropy(logits, labels, found, pseudo_count) <= best.fun + 1e-12


def test_a_planted_temperature_is_found_and_mends_the_calibration(rng):
    logits, labels = draw(rng, 20_000, 5)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.03)
    sharp = softmax(3 * logits, axis=1)
    mended = softmax(3 * logits / fit_temperature(3 * logits, labels), axis=1)
    assert expected_calibration_error(mended, labels) < 0.02 < 0.1 < expected_calibration_error(sharp, labels)


def test_the_temperature_scales_with_the_logits_and_ignores_shifts(rng):
    logits, labels = draw(rng, 60, 4)
    t = fit_temperature(logits, labels)
    assert fit_temperature(5 * logits, labels) == pytest.approx(5 * t, rel=1e-6)
    assert fit_temperature(logits + 1e3 * rng.normal(size=(60, 1)), labels) == pytest.approx(t, rel=1e-6)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(t, rel=1e-5)


@pytest.mark.parametrize("n", [1, 5, 50, 500])
@pytest.mark.parametrize("k", [2, 35])
def test_perfectly_separated_logits_become_no_surer_than_their_number_allows(n, k):
    labels = np.arange(n) % k
    logits = 7.0 * np.eye(k)[labels]
    confidence = softmax(logits / fit_temperature(logits, labels), axis=1).max()
    # with equal gaps the minimum is at (1 - epsilon) + epsilon / K
    assert confidence == pytest.approx(1 - (1 - 1 / k) / (n + 1), abs=1e-6)
    assert fit_temperature(logits, labels, pseudo_count=0) == 0.01


def test_logits_that_are_always_wrong_become_flat():
    logits = 5.0 * np.eye(3)
    assert fit_temperature(logits, [1, 2, 0]) == 100
    assert fit_temperature(logits, [1, 2, 0], pseudo_count=0) == 100


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_equal_logits_leave_the_temperature_at_one(value):
    assert fit_temperature(np.full((4, 3), value), [0, 1, 2, 0]) == 1


def test_one_wild_cell_among_sure_ones_keeps_the_temperature_finite():
    logits = 50.0 * np.eye(4)[np.zeros(30, int)]
    labels = np.zeros(30, int)
    labels[0] = 1
    t = fit_temperature(logits, labels)
    assert softmax(logits / t, axis=1).max() == pytest.approx(29 / 30, abs=0.03)


# ------------------------------------------------------------------ what is refused


def test_bad_arguments_are_refused(rng):
    p = np.full((4, 2), 0.5)
    labels = [0, 1, 0, 1]
    for score in SCORES:
        with pytest.raises(ValueError, match="sum to 1, found values from -2 .* Logits need a softmax"):
            score(np.array([[3.0, -2.0]]), [0])
        with pytest.raises(ValueError, match="sums from 0.9 to 0.9"):
            score(0.9 * p, labels)
        with pytest.raises(ValueError, match="name the 2 columns of `probabilities`, found 3"):
            score(p, labels, classes=[0, 1, 2])
        with pytest.raises(ValueError, match=r"among the classes 0, 1, found none of them but '0', '1'"):
            score(p, ["0", "1", "0", "1"])
        with pytest.raises(ValueError, match="`labels` to hold one label for each of 4"):
            score(p, labels[1:])
        with pytest.raises(ValueError, match="labelled cells with `probabilities`, found none among 4"):
            score(np.full((4, 2), np.nan), labels)
        with pytest.raises(ValueError, match="`probabilities` to be finite, found NaN or infinity in 1 of 4"):
            score(np.where(np.arange(8).reshape(4, 2) == 3, np.nan, p), labels)
        with pytest.raises(ValueError, match="`probabilities` to be a matrix"):
            score(p[0], labels)
    with pytest.raises(ValueError, match="`n_bins` to be a whole number"):
        calibration_curve(p, labels, n_bins=0)
    with pytest.raises(ValueError, match="found 1 cells with another one"):
        fit_temperature(p, [0, 1, 0, 2])
    with pytest.raises(ValueError, match="`pseudo_count` to be a finite number >= 0"):
        fit_temperature(p, labels, pseudo_count=-1)
