from __future__ import annotations

import math

import pytest
import torch

from smalti.losses import divergence_clustering
from smalti.losses._clustering import cauchy_schwarz_overlap, gaussian_kernel


def brute_force(hidden, logits, frequency):
    """The three terms, written out in loops."""
    n, k = len(hidden), logits.shape[1]
    h, alpha = hidden.tolist(), torch.softmax(logits, dim=1).tolist()
    squares = [[sum((a - b) ** 2 for a, b in zip(h[i], h[j], strict=True)) for j in range(n)] for i in range(n)]
    others = sorted(squares[i][j] for i in range(n) for j in range(n) if i != j)
    width = max(0.15 * others[(len(others) - 1) // 2], 0.01 * sum(others) / len(others))
    kernel = [[math.exp(-squares[i][j] / (2 * width)) for j in range(n)] for i in range(n)]

    def overlap(columns):
        def product(p, q):
            return sum(columns[i][p] * kernel[i][j] * columns[j][q] for i in range(n) for j in range(n))

        pairs = [(p, q) for p in range(k) for q in range(p + 1, k)]
        return sum(product(p, q) / math.sqrt(product(p, p) * product(q, q)) for p, q in pairs) * 2 / (k * (k - 1))

    corner = [[math.exp(-sum((a - (j == c)) ** 2 for j, a in enumerate(row))) for c in range(k)] for row in alpha]
    mean = [sum(row[c] for row in alpha) / n for c in range(k)]
    usage = sum(m * math.log(m / f) for m, f in zip(mean, frequency, strict=True))
    return overlap(alpha), overlap(corner), usage


@pytest.mark.parametrize("frequency", [None, (0.6, 0.3, 0.1)])
def test_the_terms_are_the_formulas_written_out(frequency):
    hidden, logits = torch.randn(9, 4).double(), 2 * torch.randn(9, 3).double()
    given = None if frequency is None else torch.tensor(frequency, dtype=torch.float64)
    found = divergence_clustering(hidden, logits, given)
    expected = brute_force(hidden, logits, frequency or (1 / 3,) * 3)
    for a, b in zip(found, expected, strict=True):
        assert a.item() == pytest.approx(b, rel=1e-6)


def test_frequencies_of_rows_count_by_their_mean():
    hidden, logits = torch.randn(6, 4), torch.randn(6, 2)
    rows = torch.tensor([[0.9, 0.1]] * 3 + [[0.5, 0.5]] * 3)
    found = divergence_clustering(hidden, logits, rows)
    torch.testing.assert_close(found.usage, divergence_clustering(hidden, logits, torch.tensor([0.7, 0.3])).usage)


def test_the_published_usage_is_that_of_uniform_frequencies_less_a_constant():
    logits = torch.randn(10, 4)
    mean = torch.softmax(logits, dim=1).mean(0)
    usage = divergence_clustering(torch.randn(10, 3), logits).usage
    torch.testing.assert_close(usage, (mean * mean.log()).sum() + math.log(4))
    assert usage > 0
    exact = divergence_clustering(torch.randn(10, 3), logits, mean).usage
    assert abs(exact.item()) < 1e-6


def test_clear_clusters_cost_less_than_mixed_ones_and_terms_lie_between_zero_and_one():
    code = torch.arange(30) % 3
    hidden = 10 * torch.nn.functional.one_hot(code, 3).float() + 0.1 * torch.randn(30, 3)
    right = 20 * torch.nn.functional.one_hot(code, 3).float()
    clear = divergence_clustering(hidden, right)
    mixed = divergence_clustering(hidden, right[torch.randperm(30)])
    unsure = divergence_clustering(hidden, torch.zeros(30, 3))
    assert clear.separation < 0.05 < 0.3 < mixed.separation
    assert clear.corners < 0.4 < 0.99 < unsure.corners
    for terms in (clear, mixed, unsure):
        assert 0 <= terms.separation <= 1 + 1e-5
        assert 0 <= terms.corners <= 1 + 1e-5
        assert terms.usage >= -1e-6


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-3])
def test_a_collapsed_hidden_layer_keeps_a_finite_gradient(spread):
    hidden = (torch.ones(8, 3) + spread * torch.randn(8, 3)).requires_grad_()
    logits = torch.randn(8, 2, requires_grad=True)
    sum(divergence_clustering(hidden, logits)).backward()
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


def test_if_all_but_one_row_collapse_the_kernel_still_has_a_width():
    hidden = torch.zeros(20, 2)
    hidden[0] = 1.0
    kernel = gaussian_kernel(hidden)
    assert 0 <= kernel[0, 1] < 1e-6
    assert torch.isfinite(kernel).all()
    hidden = hidden + 0.01 * torch.randn(20, 2)
    assert gaussian_kernel(hidden)[1:, 1:].min() > 0.01  # not the identity


def test_the_kernel_does_not_depend_on_the_unit():
    hidden = torch.randn(12, 5)
    torch.testing.assert_close(gaussian_kernel(100 * hidden), gaussian_kernel(hidden), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1])
def test_batches_of_nothing_and_of_one_row_are_finite(n):
    hidden, logits = torch.randn(n, 3, requires_grad=True), torch.randn(n, 2, requires_grad=True)
    total = sum(divergence_clustering(hidden, logits))
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(logits.grad).all()


def test_a_single_cluster_overlaps_with_none():
    assert cauchy_schwarz_overlap(torch.ones(4, 1), torch.eye(4)).item() == 0
