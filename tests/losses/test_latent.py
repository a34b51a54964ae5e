from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from smalti.losses import agreement, kl_standard_normal, masked_average, modality_confusion, modality_cross_entropy

N, D = 12, 5


def test_divergence_is_that_of_torch_and_zero_at_the_prior():
    mean, scale = torch.randn(N, D), 0.1 + torch.rand(N, D)
    expected = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_standard_normal(mean, scale), expected)
    assert (kl_standard_normal(torch.zeros(2, D), torch.ones(2, D)) == 0).all()
    assert torch.isfinite(kl_standard_normal(torch.full((1, D), 1e3), torch.full((1, D), 1e-4))).all()


def test_an_average_looks_only_where_it_is_told_to():
    values = torch.arange(4.0, requires_grad=True)
    mask = torch.tensor([True, False, False, True])
    out = masked_average(values, mask)
    assert out.item() == 1.5
    out.backward()
    assert values.grad.tolist() == [0.5, 0, 0, 0.5]
    poisoned = torch.tensor([0.0, math.nan, math.inf, 3.0])
    assert float(masked_average(poisoned, mask)) == 1.5


def test_an_average_over_nothing_is_zero_with_a_zero_gradient():
    values = torch.tensor([math.nan, 2.0], requires_grad=True)
    out = masked_average(values, torch.zeros(2, dtype=torch.bool))
    out.backward()
    assert out.item() == 0
    assert values.grad.tolist() == [0, 0]


@pytest.mark.parametrize("cosine", [True, False])
def test_agreement_is_the_mean_distance_over_the_rows(cosine):
    e, centre, rows = torch.randn(N, D), torch.randn(N, D), torch.arange(N) % 3 != 0
    found = agreement(e, centre, rows, cosine=cosine)
    distances = []
    for i in range(N):
        if rows[i]:
            cos = e[i] @ centre[i] / (e[i].norm() * centre[i].norm())
            distances.append(1 - cos if cosine else ((e[i] - centre[i]) ** 2).mean())
    torch.testing.assert_close(found, torch.stack(distances).mean())
    assert float(agreement(e, e, rows, cosine=cosine)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30, 0.0])
@pytest.mark.parametrize("cosine", [True, False])
def test_agreement_ignores_cells_of_one_modality_whatever_they_hold(cosine, poison):
    rows = torch.arange(N) % 2 == 0
    results = []
    for fill in (1.0, poison):
        torch.manual_seed(0)
        e, centre = torch.randn(N, D), torch.randn(N, D)
        e[~rows], centre[~rows] = fill, fill
        e.requires_grad_()
        centre.requires_grad_()
        loss = agreement(e, centre, rows, cosine=cosine)
        loss.backward()
        results.append((loss.detach(), e.grad, centre.grad))
    torch.testing.assert_close(results[1], results[0])
    assert (results[1][1][~rows] == 0).all()


@pytest.mark.parametrize("cosine", [True, False])
def test_agreement_of_no_cell_is_zero_with_a_zero_gradient(cosine):
    e = torch.randn(N, D, requires_grad=True)
    loss = agreement(e, torch.randn(N, D), torch.zeros(N, dtype=torch.bool), cosine=cosine)
    loss.backward()
    assert float(loss) == 0
    assert (e.grad == 0).all()


def test_squared_agreement_does_not_depend_on_the_width():
    e, rows = torch.randn(N, D), torch.ones(N, dtype=torch.bool)
    narrow = agreement(e, torch.zeros(N, D), rows, cosine=False)
    wide = agreement(e.repeat(1, 7), torch.zeros(N, 7 * D), rows, cosine=False)
    torch.testing.assert_close(narrow, wide)


def test_the_discriminator_loss_is_a_weighted_cross_entropy():
    logits, codes, weight = torch.randn(N, 3), torch.arange(N) % 3, torch.rand(N)
    torch.testing.assert_close(modality_cross_entropy(logits, codes), F.cross_entropy(logits, codes))
    expected = sum(
        w * F.cross_entropy(row[None], code[None]) for w, row, code in zip(weight, logits, codes, strict=True)
    )
    torch.testing.assert_close(modality_cross_entropy(logits, codes, weight), expected / N)
    torch.testing.assert_close(modality_cross_entropy(logits, codes, torch.ones(N)), F.cross_entropy(logits, codes))


@pytest.mark.parametrize(
    "loss", [lambda z, w: modality_cross_entropy(z, torch.zeros(len(z), dtype=torch.int64), w), modality_confusion]
)
def test_rows_of_weight_zero_teach_nothing_and_no_row_costs_nothing(loss):
    logits = torch.randn(4, 3, requires_grad=True)
    loss(logits, torch.tensor([1.0, 0, 2, 0])).backward()
    assert (logits.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True, False]
    assert float(loss(torch.zeros(0, 3), None)) == 0


def test_the_gradient_of_the_discriminator_pulls_towards_the_modality_it_came_from():
    for code in (0, 1):
        logits = torch.zeros(1, 2, requires_grad=True)
        modality_cross_entropy(logits, torch.tensor([code])).backward()
        assert logits.grad[0, code] < 0 < logits.grad[0, 1 - code]  # flips with the modality
        assert float(logits.grad.sum()) == pytest.approx(0, abs=1e-7)


def test_confusion_is_bounded_below_by_the_log_of_the_number_of_modalities():
    for m in (2, 3, 5):
        assert float(modality_confusion(torch.zeros(N, m))) == pytest.approx(math.log(m), abs=1e-6)
        for scale in (0.1, 1, 10, 100):
            assert modality_confusion(scale * torch.randn(N, m)) >= math.log(m) - 1e-6
    unbounded = -modality_cross_entropy(torch.tensor([[-1e4, 1e4]]), torch.tensor([0]))
    assert unbounded < -1e4  # what the encoder of the release minimises


def test_confusion_is_a_weighted_cross_entropy_against_equal_shares():
    logits, weight = torch.randn(N, 3), torch.rand(N) + 0.5
    each = torch.stack([-torch.log_softmax(row, dim=0).mean() for row in logits])
    torch.testing.assert_close(modality_confusion(logits), each.mean())
    torch.testing.assert_close(modality_confusion(logits, weight), (each * weight).mean())


def test_confusion_pulls_logits_together_whatever_the_modality():
    logits = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
    modality_confusion(logits).backward()
    torch.testing.assert_close(logits.grad, torch.softmax(logits, dim=1).detach() - 1 / 3)
