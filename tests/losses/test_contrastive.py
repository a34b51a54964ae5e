from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from smalti.losses import info_nce

B, D = 10, 4
HERE_X = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], dtype=torch.bool)
HERE_Y = torch.tensor([1, 1, 1, 0, 0, 1, 1, 1, 0, 0], dtype=torch.bool)
PAIRED = [0, 1, 2, 5]


def unit(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def brute_force(x, y, here_x, here_y, scale, smoothing=0.0):
    """Cross-entropy of every pair against every candidate, in loops."""
    total, n = 0.0, 0
    for i in range(len(x)):
        if not (here_x[i] and here_y[i]):
            continue
        n += 1
        for anchor, others, present in ((x[i], y, here_y), (y[i], x, here_x)):
            candidates = [j for j in range(len(x)) if present[j]]
            logits = torch.stack([scale * anchor @ others[j] for j in candidates])
            log_p = logits - torch.logsumexp(logits, dim=0)
            target = torch.full((len(candidates),), smoothing / len(candidates))
            target[candidates.index(i)] += 1 - smoothing
            total = total - (target * log_p).sum()
    return total / (2 * n)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("log_scale", [0.0, 2.3, 4.0])
def test_it_is_the_cross_entropy_of_every_pair_against_every_candidate(log_scale, smoothing):
    x, y, s = unit(B, D), unit(B, D), torch.tensor(log_scale)
    found = info_nce(x, y, HERE_X, HERE_Y, s, smoothing)
    torch.testing.assert_close(found, brute_force(x, y, HERE_X, HERE_Y, s.exp(), smoothing))


def gradients(x, y, here_x=HERE_X, here_y=HERE_Y, log_scale=2.0):
    x, y, s = x.clone().requires_grad_(), y.clone().requires_grad_(), torch.tensor(log_scale, requires_grad=True)
    loss = info_nce(x, y, here_x, here_y, s)
    loss.backward()
    return loss.detach(), x.grad, y.grad, s.grad


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30, 0.0])
def test_absent_rows_change_neither_loss_nor_gradient_whatever_they_hold(poison):
    x, y = unit(B, D), unit(B, D)
    clean = gradients(x, y)
    x[~HERE_X], y[~HERE_Y] = poison, poison
    dirty = gradients(x, y)
    torch.testing.assert_close(dirty, clean)
    assert (dirty[1][~HERE_X] == 0).all()
    assert (dirty[2][~HERE_Y] == 0).all()


def test_unpaired_cells_are_negatives_and_learn_from_it():
    x, y = unit(B, D), unit(B, D)
    loss, x_grad, y_grad, _ = gradients(x, y)
    only_x, only_y = HERE_X & ~HERE_Y, HERE_Y & ~HERE_X
    assert (x_grad[only_x].abs().sum(dim=1) > 0).all()
    assert (y_grad[only_y].abs().sum(dim=1) > 0).all()
    pairs_only = info_nce(x[PAIRED], y[PAIRED], torch.ones(4, dtype=bool), torch.ones(4, dtype=bool), torch.tensor(2.0))
    assert loss > pairs_only
    x[4] = y[0]  # an unpaired cell that looks like the partner of a pair costs more
    assert gradients(x, y)[0] > loss


@pytest.mark.parametrize("n", [0, 1, B])
@pytest.mark.parametrize("poison", [1.0, float("nan")])
def test_without_a_pair_the_loss_and_all_gradients_are_exactly_zero(n, poison):
    here_x = torch.arange(n) % 2 == 1
    x, y = unit(n, D), unit(n, D)
    x[~here_x], y[here_x] = poison, poison
    for log_scale in (2.0, 0.0):
        assert all((out == 0).all() for out in gradients(x, y, here_x, ~here_x, log_scale))


def test_swapping_modalities_and_shuffling_cells_changes_nothing():
    x, y, s = unit(B, D), unit(B, D), torch.tensor(1.5)
    loss = info_nce(x, y, HERE_X, HERE_Y, s)
    torch.testing.assert_close(info_nce(y, x, HERE_Y, HERE_X, s), loss)
    order = torch.randperm(B)
    torch.testing.assert_close(info_nce(x[order], y[order], HERE_X[order], HERE_Y[order], s), loss)


def test_perfect_matches_cost_nothing_and_no_information_costs_the_log_of_the_candidates():
    x, everyone = torch.eye(B), torch.ones(B, dtype=torch.bool)
    assert info_nce(x, x, everyone, everyone, torch.tensor(4.6)) < 1e-6
    same = torch.ones(B, D) / D**0.5
    torch.testing.assert_close(info_nce(same, same, everyone, everyone, torch.tensor(2.0)), torch.tensor(math.log(B)))


def test_the_inverse_temperature_stops_at_one_hundred():
    x, y = unit(B, D), unit(B, D)
    at_limit = info_nce(x, y, HERE_X, HERE_Y, torch.tensor(math.log(100)))
    beyond = torch.tensor(50.0, requires_grad=True)
    loss = info_nce(x, y, HERE_X, HERE_Y, beyond)
    torch.testing.assert_close(loss, at_limit, rtol=1e-4, atol=1e-4)
    loss.backward()
    assert beyond.grad == 0


def test_a_single_pair_among_unpaired_cells_is_learned_from():
    here_x, here_y = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    x, y = unit(3, D), unit(3, D)
    loss, x_grad, y_grad, _ = gradients(x, y, here_x, here_y)
    torch.testing.assert_close(loss, brute_force(x, y, here_x, here_y, math.exp(2)))
    assert x_grad[0].abs().sum() > 0
    assert y_grad[2].abs().sum() > 0
