"""Plans between cells: potentials extended from landmarks, matching, confidence."""

from __future__ import annotations

import numpy as np
import pytest

from smalti.align import entropic_plan, squared_distances, transport_plan


def points(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


def test_rows_are_those_of_the_unbalanced_entropic_plan():
    x, y = points(50), points(40, 1)
    found = transport_plan(x, y, epsilon=0.05, relax=0.2)
    mass = (np.full(50, 1 / 50), np.full(40, 1 / 40))
    whole = entropic_plan(squared_distances(x, y), mass, epsilon=0.05, relax=0.2, n_iterations=5000)
    rows = whole / whole.sum(1, keepdims=True)
    dense = found.plan.toarray()
    top = np.sort(rows, axis=1)[:, -20:].sum(1)
    np.testing.assert_allclose(dense * top[:, None], np.where(dense > 0, rows, 0), atol=1e-4)
    np.testing.assert_array_equal(found.partner, rows.argmax(1))


def test_landmarks_stand_for_all():
    x, y = points(400), points(400, 1)
    all_cells, few = transport_plan(x, y), transport_plan(x, y, n_landmarks=150)
    assert np.corrcoef(all_cells.confidence, few.confidence)[0, 1] > 0.5
    assert (all_cells.partner == few.partner).mean() > 0.5


def test_a_noisy_copy_is_matched_and_a_group_without_counterpart_gets_little_confidence():
    x = points(300)
    x[250:] += 6
    y = x[:250] + 0.02 * points(250, 2)
    found = transport_plan(x, y)
    assert (found.partner[:250] == np.arange(250)).mean() > 0.8
    assert found.mutual[:250].mean() > 0.8
    assert found.confidence[250:].max() < np.quantile(found.confidence[:250], 0.1)
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_a_matching_uses_no_partner_twice():
    x, y = points(60), points(50, 1)
    found = transport_plan(x, y).permutation()
    used = found[found >= 0]
    assert len(np.unique(used)) == len(used)
    assert len(used) > 40


def test_values_are_averaged_over_partners():
    x = points(200)
    found = transport_plan(x, x + 1e-3)
    np.testing.assert_allclose(np.asarray(found.plan.sum(1)).ravel(), 1)
    assert np.corrcoef(found.transfer(x)[:, 0], x[:, 0])[0, 1] > 0.9
    assert found.transfer(np.ones(200)) == pytest.approx(np.ones(200))
