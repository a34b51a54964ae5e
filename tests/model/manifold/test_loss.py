"""The white term measures how far bursts are from balls, without bias where it says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smalti.model.manifold._loss import burst_covariance, white_floor, whiteness


def bursts(n: int, m: int, d: int = 2, s: float = 0.3, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(s * np.random.default_rng(seed).normal(size=(n, m, d)))


def everywhere(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def test_covariances_are_those_of_numpy_over_the_points_that_exist() -> None:
    x = bursts(4, 30)
    exists = everywhere(x)
    exists[1, 20:] = False
    found = burst_covariance(x, exists)
    np.testing.assert_allclose(found[0], np.cov(x[0].T))
    np.testing.assert_allclose(found[1], np.cov(x[1, :20].T))


def test_a_ball_of_the_wanted_size_has_the_floor_and_a_stretched_one_more() -> None:
    x = bursts(4000, 40)
    variance = torch.full((4000,), 0.09, dtype=x.dtype)
    floor = white_floor(40, 2)
    assert floor == pytest.approx(2 * 3 / 39)
    assert float(whiteness(x, everywhere(x), variance).mean()) == pytest.approx(floor, rel=0.05)
    stretched = x * torch.tensor([1.0, 2.0])
    assert float(whiteness(stretched, everywhere(x), variance).mean()) > 9


def test_few_points_are_compared_in_halves_without_bias() -> None:
    x = bursts(20000, 10)
    variance = torch.full((20000,), 0.09, dtype=x.dtype)
    assert white_floor(10, 2) == 0
    assert abs(float(whiteness(x, everywhere(x), variance).mean())) < 0.05
    doubled = float(whiteness(x * 2**0.5, everywhere(x), variance).mean())  # C / s^2 = 2 I: squared norm of I
    assert doubled == pytest.approx(2.0, abs=0.1)
