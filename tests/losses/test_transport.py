"""Correlation under plans, plans with gradients, distances between distributions: closed forms and known limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, wasserstein_distance_nd

from smalti.losses import (
    covariance_drift,
    gumbel_sinkhorn,
    max_sliced_wasserstein,
    mmd,
    plan_correlation,
    plan_entropy,
    structural_similarity,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_under_the_identity_it_is_the_mean_correlation_of_uncorrelated_axes():
    u = normal(500, 3)
    u = torch.linalg.qr(u - u.mean(0)).Q
    noise = normal(500, 3, seed=1)
    noise = noise - noise.mean(0) - u @ (u.T @ (noise - noise.mean(0)))
    v = u + torch.linalg.qr(noise).Q * torch.tensor([0.0, 1.0, 3.0])
    found = plan_correlation(u, v, torch.eye(500), ridge=0.0)
    assert float(found) == pytest.approx((1 + 1 / np.sqrt(2) + 1 / np.sqrt(10)) / 3, abs=5e-3)


def test_correlation_does_not_see_shifts_or_scales_of_axes_but_their_order():
    u, v = normal(80, 3), normal(80, 3) + 0.1 * normal(80, 3, seed=2)
    plan = torch.eye(80, dtype=u.dtype)
    one = plan_correlation(u, v, plan, ridge=0.0)
    torch.testing.assert_close(plan_correlation(5 * u + 3, 0.1 * v, plan, ridge=0.0), one, atol=5e-4, rtol=0)
    assert plan_correlation(u, v[:, [1, 2, 0]], plan) < 0.5 * one


def test_an_empty_plan_or_batch_gives_zero_with_a_gradient():
    u = normal(4, 2).requires_grad_()
    for v, plan in ((normal(3, 2), torch.zeros(4, 3)), (normal(0, 2), torch.zeros(4, 0))):
        loss = plan_correlation(u, v, plan)
        (gradient,) = torch.autograd.grad(loss, u)
        assert loss == 0
        assert not gradient.any()


def test_samples_are_doubly_stochastic_and_noise_and_temperature_do_what_they_say():
    torch.manual_seed(0)
    logits = normal(12, 8)
    found = gumbel_sinkhorn(logits, 1.0, n_iterations=200)
    assert found.shape == (5, 12, 8)
    torch.testing.assert_close(found.sum(2), torch.ones(5, 12, dtype=logits.dtype))
    torch.testing.assert_close(found.sum(1), torch.full((5, 8), 1.5, dtype=logits.dtype), atol=1e-3, rtol=0)
    quiet = gumbel_sinkhorn(logits, 1.0, noise=0)
    assert quiet.shape[0] == 1
    assert plan_entropy(gumbel_sinkhorn(logits, 0.1, noise=0)) < plan_entropy(quiet), "it divides without noise, too"
    assert (found[0] - found[1]).abs().max() > 0.05


def test_learning_to_sort_by_gradients_through_the_plan():
    torch.manual_seed(0)
    n = 30
    values = torch.rand(n)
    target = values.sort().values
    weight = torch.nn.Linear(1, n)
    optimizer = torch.optim.Adam(weight.parameters(), lr=0.1)
    for step in range(400):
        tau = 1.5 - step / 400
        plan = gumbel_sinkhorn(weight(values[:, None]), tau, noise=0.2, n_samples=2)
        loss = (plan.transpose(1, 2) @ values - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    place = gumbel_sinkhorn(weight(values[:, None]), 0.2, noise=0)[0].detach() @ torch.arange(float(n))
    assert kendalltau(place, values).statistic >= 0.95


@pytest.mark.parametrize("distance", [mmd, max_sliced_wasserstein])
def test_distances_between_distributions_see_shifts_and_scales_but_not_order(distance):
    u, v = normal(200, 3), normal(200, 3, seed=1)
    near = float(distance(u, v))
    assert float(distance(u, v + 1)) > near + 0.02
    assert float(distance(u, 3 * v)) > near + 0.02
    torch.testing.assert_close(distance(u, v[torch.randperm(200)]), distance(u, v))
    assert float(distance(u[:1], v[:0])) == 0


def test_mmd_is_unbiased():
    values = [float(mmd(normal(20, 2, seed=2 * i), normal(20, 2, seed=2 * i + 1))) for i in range(100)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10


def test_along_one_axis_the_sliced_distance_is_the_wasserstein_distance():
    u = normal(60, 1)
    assert float(max_sliced_wasserstein(u, u + 2)) == pytest.approx(4)
    assert wasserstein_distance_nd(u.numpy(), u.numpy() + 2) == pytest.approx(2)
    assert float(max_sliced_wasserstein(u, torch.cat([u, u]))) < 0.01


def test_the_direction_is_found_that_a_mean_difference_does_not_show():
    torch.manual_seed(0)
    u, v = normal(400, 4), normal(400, 4, seed=1) * torch.tensor([1, 1, 1, 3.0])
    assert float(max_sliced_wasserstein(u, v)) > 2


def test_structure_sees_which_cell_goes_with_which():
    u = normal(60, 3)
    order = torch.from_numpy(np.random.default_rng(3).permutation(60))
    plan = torch.eye(60, dtype=u.dtype)[:, order]  # row i goes with the place of i in `order`
    right = structural_similarity(u, u[order], torch.eye(60, dtype=u.dtype)[order].T)
    wrong = structural_similarity(u, u[order], plan.T.roll(7, 0))
    assert float(right) < 1e-6
    assert float(wrong) > 0.5
    assert structural_similarity(u, u[:0], torch.zeros(60, 0)) == 0


def test_drift_is_zero_for_the_wanted_covariance_alone():
    u = normal(2000, 2)
    u = torch.linalg.qr(u - u.mean(0)).Q * np.sqrt(1999) * torch.tensor([2.0, 1.0])
    assert float(covariance_drift(u, torch.tensor([4.0, 1.0]))) < 1e-6
    assert float(covariance_drift(2 * u, torch.tensor([4.0, 1.0]))) > 1
    assert covariance_drift(u[:1], torch.ones(2)) == 0
