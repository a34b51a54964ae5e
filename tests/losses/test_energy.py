from __future__ import annotations

import itertools

import pytest
import torch

from smalti.losses import energy_distance


def mean_distance(x, y, *, same=False):
    pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (same and i == j)]
    return sum(float((x[i] - y[j]).norm()) for i, j in pairs) / len(pairs)


def brute_force(z, modality, n_modalities, group):
    total = weight = 0.0
    for g in set(group[group >= 0].tolist()):
        for i, j in itertools.combinations(range(n_modalities), 2):
            x, y = (z[(group == g) & (modality == m)] for m in (i, j))
            if len(x) < 2 or len(y) < 2:
                continue
            n = len(x) + len(y)
            total += n * (2 * mean_distance(x, y) - mean_distance(x, x, same=True) - mean_distance(y, y, same=True))
            weight += n
    return total / weight


@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("grouped", [True, False])
def test_it_is_the_formula_in_loops(n_modalities, grouped):
    z = torch.randn(40, 3).double()
    modality = torch.randint(n_modalities, (40,))
    group = torch.randint(-1, 3, (40,)) if grouped else torch.zeros(40, dtype=torch.int64)
    z = z + modality[:, None]
    found = energy_distance(z, modality, n_modalities, group if grouped else None)
    assert found.item() == pytest.approx(brute_force(z, modality, n_modalities, group), rel=1e-9)


def test_it_is_zero_on_average_for_equal_distributions_and_positive_for_others():
    modality = torch.arange(30) % 2
    equal = torch.stack([energy_distance(torch.randn(30, 4), modality, 2) for _ in range(300)])
    assert abs(equal.mean().item()) < 4 * (equal.std().item() / 300**0.5)
    assert (equal < 0).any()  # unbiased, so not bounded below by zero
    spread = torch.stack(
        [energy_distance(torch.randn(30, 4) * (1 + 2 * modality[:, None]), modality, 2) for _ in range(50)]
    )
    assert spread.mean().item() > 5 * equal.std().item()  # not a matter of means alone


def test_it_scales_with_the_latents_and_its_gradient_does_not():
    z, modality = torch.randn(20, 3) + torch.arange(20)[:, None] % 2, torch.arange(20) % 2
    values, gradients = [], []
    for scale in (1.0, 1e-3):
        x = (scale * z).requires_grad_()
        value = energy_distance(x, modality, 2)
        value.backward()
        values.append(value.item() / scale)
        gradients.append(x.grad)
    assert values[1] == pytest.approx(values[0], rel=1e-3)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


def test_following_the_gradient_brings_modalities_together():
    modality = torch.arange(40) % 2
    z = torch.randn(40, 2) + 3 * modality[:, None]
    before = energy_distance(z, modality, 2)
    for _ in range(60):
        z = z.detach().requires_grad_()
        energy_distance(z, modality, 2).backward()
        z = z - 5 * z.grad
    assert energy_distance(z.detach(), modality, 2) < 0.1 * before


def test_groups_in_one_modality_or_with_a_single_row_teach_nothing():
    modality = torch.tensor([0, 0, 1, 1, 0, 0, 0, 0, 1, 1])
    group = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, -1])
    z = torch.randn(10, 2, requires_grad=True)
    loss = energy_distance(z, modality, 2, group)
    loss.backward()
    assert (z.grad[:4].abs().sum(1) > 0).all()
    assert (z.grad[4:] == 0).all()
    torch.testing.assert_close(loss, energy_distance(z[:4], modality[:4], 2))


@pytest.mark.parametrize("group", [None, torch.full((6,), -1), torch.arange(6)])
def test_where_nothing_can_be_compared_it_is_zero_with_a_zero_gradient(group):
    z = torch.randn(6, 2, requires_grad=True)
    modality = torch.zeros(6, dtype=torch.int64) if group is None else torch.arange(6) % 2
    loss = energy_distance(z, modality, 2, group)
    loss.backward()
    assert loss.item() == 0
    assert (z.grad == 0).all()


def test_equal_rows_have_a_finite_gradient():
    z = torch.ones(8, 2, requires_grad=True)
    energy_distance(z, torch.arange(8) % 2, 2).backward()
    assert torch.isfinite(z.grad).all()
