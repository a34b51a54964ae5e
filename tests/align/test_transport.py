"""Plans against linear programming, against each other, and where they must fall back."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from align._planted import planted

from smalti.align import entropic_plan, gromov_plan, squared_distances
from smalti.align._transport import dual_potentials, geometry


def marginals(n: int, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    a, b = rng.random(n) + 0.5, rng.random(m) + 0.5
    return a / a.sum(), b / b.sum()


def test_squared_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(squared_distances(x, y), ((x[:, None] - y[None]) ** 2).sum(2), atol=1e-12)


def test_a_plan_keeps_its_marginals_and_nears_the_linear_programme_as_epsilon_falls():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(40, 2))
    mass, cost = marginals(30, 40, rng), squared_distances(x, y)
    exact = ot.emd2(*mass, cost)
    costs = []
    for epsilon in (0.5, 0.1, 0.02):
        plan = entropic_plan(cost, mass, epsilon=epsilon, n_iterations=5000)
        np.testing.assert_allclose(plan.sum(0), mass[1], atol=1e-4)
        np.testing.assert_allclose(plan.sum(1), mass[0], atol=1e-4)
        costs.append((plan * cost).sum())
    assert exact < costs[2] < costs[1] < costs[0]
    assert costs[2] < 1.1 * exact


def test_neither_the_unit_of_costs_nor_what_is_added_to_a_row_changes_a_plan():
    rng = np.random.default_rng(2)
    cost, mass = squared_distances(rng.normal(size=(20, 2)), rng.normal(size=(25, 2))), marginals(20, 25, rng)
    plan = entropic_plan(cost, mass, epsilon=0.1, n_iterations=2000)
    np.testing.assert_allclose(entropic_plan(100 * cost, mass, epsilon=0.1, n_iterations=2000), plan, atol=1e-5)


def test_an_epsilon_at_which_exponentials_underflow_still_gives_a_plan():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(15, 2))
    cost = squared_distances(x, x[::-1])
    cost[0, :] += 50  # one cell far from all others
    mass = (np.full(15, 1 / 15),) * 2
    plan = entropic_plan(cost, mass, epsilon=1e-4, n_iterations=500)
    assert np.isfinite(plan).all()
    assert plan.sum() == pytest.approx(1, abs=0.05)
    assert (plan[1:].argmax(1) == 14 - np.arange(1, 15)).mean() > 0.8


def test_unbalanced_plans_leave_out_what_has_no_counterpart():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    x[40:] += 8
    mass = (np.full(60, 1 / 60), np.full(40, 1 / 40))
    plan = entropic_plan(squared_distances(x, y), mass, epsilon=0.05, relax=0.1)
    assert plan[40:].sum() < 0.05 * plan[:40].sum()


def test_potentials_are_those_of_the_unbalanced_plan():
    rng = np.random.default_rng(5)
    cost = squared_distances(rng.normal(size=(12, 2)), rng.normal(size=(9, 2)))
    mass = marginals(12, 9, rng)
    f, g = dual_potentials(cost, mass, epsilon=0.1, relax=0.3)
    plan = entropic_plan(cost, mass, epsilon=0.1, relax=0.3)
    logs = f[:, None] + g[None] - cost / cost.mean() / 0.1 + np.log(np.outer(*mass))
    np.testing.assert_allclose(logs - logs.max(), np.log(plan) - np.log(plan.max()), atol=1e-6)


def test_distances_along_a_graph_are_symmetric_and_between_zero_and_one():
    d = geometry(planted(80).components[0], 10)
    np.testing.assert_array_equal(d, d.T)
    assert d.max() == 1
    assert not d.diagonal().any()


def test_structure_alone_finds_a_rotated_copy_of_an_asymmetric_shape():
    t = np.linspace(0, 1, 60) ** 2
    x = np.column_stack([t, t**3, np.sin(3 * t)])
    rotation = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
    y = (x @ rotation)[::-1]
    shapes = [np.sqrt(squared_distances(z, z)) for z in (x, y)]
    mass = (np.full(60, 1 / 60),) * 2
    plan = gromov_plan((shapes[0] / shapes[0].max(), shapes[1] / shapes[1].max()), mass)
    assert np.abs(plan.argmax(1) - (59 - np.arange(60))).mean() < 3
