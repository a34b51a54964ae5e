"""Encoders that start from a closed form."""

from __future__ import annotations

import pytest
import torch

from smalti.nn import PlannedEncoder


@pytest.mark.parametrize("deep", [False, True])
def test_training_starts_from_the_closed_form_and_leaves_it_alone(deep):
    torch.manual_seed(0)
    encoder = PlannedEncoder(5, 4, deep=deep).eval()
    weight, mean, x = torch.randn(5, 3), torch.randn(5), torch.randn(20, 5)
    encoder.set_closed_form(weight, mean, start=True)
    expected = torch.cat([(x - mean) @ weight, torch.zeros(20, 1)], dim=1)
    torch.testing.assert_close(encoder.closed_form(x), expected)
    torch.testing.assert_close(encoder.linear(x), expected)
    with torch.no_grad():
        encoder.linear.weight.add_(1)
    torch.testing.assert_close(encoder.closed_form(x), expected)
    assert (encoder(x) - expected).abs().max() > 0.1


def test_the_closed_form_can_change_without_the_start_of_training():
    encoder = PlannedEncoder(3, 2, deep=False)
    before = encoder.linear.weight.detach().clone()
    encoder.set_closed_form(torch.ones(3, 2), torch.zeros(3), start=False)
    assert torch.equal(encoder.linear.weight, before)
    torch.testing.assert_close(encoder.closed_form(torch.ones(1, 3)), torch.full((1, 2), 3.0))
