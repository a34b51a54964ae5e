"""Accuracy without held-out labels, and probabilities that are as sure as they are right."""

from __future__ import annotations

import numpy as np
import pytest

from smalti.metrics import expected_calibration_error
from smalti.model.modis._belief import (
    LeftOut,
    accuracy_by_agreement,
    believe,
    frequent,
    leave_out,
    temperature_of,
    tempered,
)
from smalti.model.modis._label_floor import USUAL, FloorReport, LabelFloor

K = 4


def said(rng, truth, accuracy, n_classes=K):
    """Predictions that are right with a probability, and otherwise any other class."""
    wrong = (truth + rng.integers(1, n_classes, len(truth))) % n_classes
    return np.where(rng.random(len(truth)) < accuracy, truth, wrong)


@pytest.mark.parametrize(("n_classes", "accuracy"), [(2, 0.9), (4, 0.6), (4, 0.95)])
def test_agreement_tells_accuracy_where_errors_are_independent(rng, n_classes, accuracy):
    truth = rng.integers(n_classes, size=20_000)
    linear, network = (said(rng, truth, p, n_classes) for p in (0.75, accuracy))
    assert accuracy_by_agreement(linear, network, 0.75, n_classes) == pytest.approx(accuracy, abs=0.03)


def test_agreement_with_chance_tells_nothing(rng):
    truth = rng.integers(K, size=500)
    assert accuracy_by_agreement(said(rng, truth, 0.25), truth, 0.25, K) == 0.25


@pytest.mark.parametrize("wanted", [0.5, 0.7, 0.95])
def test_a_temperature_makes_probabilities_as_sure_as_wanted_either_way(rng, wanted):
    p = rng.dirichlet(np.ones(K), size=300)
    found = tempered(p, temperature_of(p, wanted))
    assert found.max(axis=1).mean() == pytest.approx(wanted, abs=1e-3)
    np.testing.assert_array_equal(found.argmax(axis=1), p.argmax(axis=1))
    assert temperature_of(p, 0.99, least=1.0) == 1.0


def test_few_labels_lean_on_those_of_other_modalities():
    def part(n, n_right):
        labels = np.zeros(n, int)
        return LeftOut(np.eye(2)[(np.arange(n) >= n_right).astype(int)] * 0.8 + 0.1, labels, np.ones(n, bool))

    few, many = part(10, 10), part(90, 60)
    assert believe(few, [few]).accuracy == 1
    assert believe(few, [few, many]).accuracy == pytest.approx((10 + 20 * 0.7) / 30)
    assert believe(many, [few, many]).accuracy == pytest.approx((60 + 20 * 0.7) / 110)


def five_per_class(rng, n=600, strength=2.2):
    truth = rng.integers(K, size=n)
    x = rng.normal(size=(n, 12)).astype(np.float32)
    x[:, :K] += strength * np.eye(K)[truth]
    labels = np.full(n, -1)
    for c in range(K):
        labels[rng.permutation(np.flatnonzero(truth == c))[:5]] = c
    return x, truth, labels


def test_five_labels_per_class_calibrate_a_mixture_with_a_network_that_is_too_sure():
    after, before = [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        x, truth, labels = five_per_class(rng, 400)
        network, new = 0.996 * np.eye(K)[said(rng, truth, 0.8)] + 0.001, labels < 0
        floor = LabelFloor()
        assert floor.fit("a", x, labels, network, np.zeros(len(x), bool)).share == USUAL
        found = floor.mix("a", x[new], network[new])
        after.append(expected_calibration_error(found, truth[new]))
        floor.temperatures["a"]["mixed"] = 1.0
        plain = floor.mix("a", x[new], network[new])
        np.testing.assert_array_equal(found.argmax(axis=1), plain.argmax(axis=1))
        before.append(expected_calibration_error(plain, truth[new]))
    assert np.mean(after) < 0.16  # twenty labels tell the accuracy up to 0.1
    assert np.mean(after) < 0.6 * np.mean(before)


def test_linear_probabilities_alone_are_calibrated_too(rng):
    x, truth, labels = five_per_class(rng)
    new, turned = labels < 0, np.where(labels >= 0, labels, (truth + 1) % K)
    network = 0.996 * np.eye(K)[turned] + 0.001
    floor = LabelFloor()
    assert floor.fit("a", x, labels, network, np.zeros(len(x), bool)).share == 0
    calibrated = floor.mix("a", x[new], network[new])
    floor.temperatures.clear()
    plain = floor.mix("a", x[new], network[new])
    np.testing.assert_array_equal(calibrated.argmax(axis=1), plain.argmax(axis=1))
    assert expected_calibration_error(calibrated, truth[new]) < 0.15 < expected_calibration_error(plain, truth[new])


@pytest.mark.parametrize(("back", "n", "contradicts"), [(13 / 15, 15, False), (0.8, 15, False), (0.5, 20, True)])
def test_one_or_two_labels_that_do_not_come_back_are_no_contradiction(back, n, contradicts):
    assert FloorReport(0.5, 0.7, 1.0, back, n).contradicts is contradicts


def test_left_out_predictions_are_those_of_fits_without_the_sample(rng):
    x = rng.normal(size=(80, 6)).astype(np.float32)
    labels = rng.integers(2, size=80)
    known = frequent(labels)
    found = leave_out(x, labels, known, 2)
    assert found.n_right / 80 < 0.7  # nothing to learn
    assert frequent(np.array([0, 0, 1, -1])) is None
