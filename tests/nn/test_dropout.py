from __future__ import annotations

import pytest
import torch

from smalti.nn import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.7])
def test_units_are_dropped_at_the_rate_and_the_mean_is_kept(rate):
    x = torch.ones(1000, 1001)
    out = Dropout(rate)(x)
    assert float((out == 0).float().mean()) == pytest.approx(rate, abs=0.004)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    kept = out[out != 0]
    assert torch.equal(kept, kept[:1].expand_as(kept))


def test_every_unit_has_a_draw_of_its_own():
    out = (Dropout(0.5)(torch.ones(4000, 16)) != 0).float()
    correlation = torch.corrcoef(out.T) - torch.eye(16)
    assert float(correlation.abs().max()) < 0.08


def test_the_gradient_is_that_of_the_units_kept():
    x = torch.randn(50, 20, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out / x).detach())


def test_the_seed_decides_and_evaluation_drops_nothing():
    layer, x = Dropout(0.4), torch.randn(30, 7)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(layer(x))
    assert torch.equal(*drawn)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("rate", [0.0, 1.0, 0.001])
def test_rates_too_small_or_too_large_for_bytes_are_those_of_torch(rate):
    torch.manual_seed(0)
    found = Dropout(rate)(torch.ones(40, 5))
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.Dropout(rate)(torch.ones(40, 5)))


def test_nothing_is_dropped_of_nothing():
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)
