"""Encoders that start from a closed form, and plans of the cells of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from smalti.nn import PlannedEncoder, PlanTable


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


def test_a_table_gives_the_plan_of_cells_from_that_of_landmarks():
    rng = np.random.default_rng(0)
    plan = rng.random((3, 2))
    members = {"a": sp.csr_matrix([[1.0, 0, 0], [0.25, 0, 0.75]]), "b": sp.csr_matrix([[0.5, 0.5], [0, 1.0]])}
    maps = {"a": np.array([1, -1, 0]), "b": np.array([-1, 0, 1])}
    table = PlanTable({("a", "b"): plan}, members, maps)
    found = table.plan("a", "b", torch.tensor([2, 0]), torch.tensor([1, 2])).numpy()
    expected = members["a"][[0, 1]].toarray() @ plan @ members["b"][[0, 1]].toarray().T
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        table.plan("b", "a", torch.tensor([1, 2]), torch.tensor([2, 0])).numpy(), expected.T, rtol=1e-5
    )
    assert table.plan("a", "c", torch.tensor([2]), torch.tensor([1])) is None
