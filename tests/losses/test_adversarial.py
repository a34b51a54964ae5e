from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from smalti.losses import gradient_penalty, modality_game, published_relativistic
from smalti.losses._adversarial import GAMES

CODE = torch.tensor([0, 0, 0, 1, 1])
PLAYERS = ("discriminator", "encoder")


def encoder_gradient(game, logits, modality, group=None):
    logits = logits.clone().requires_grad_()
    loss = modality_game(game, "encoder", logits, modality, group)
    loss.backward()
    return loss.detach(), logits.grad


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("n_modalities", [2, 3, 4])
def test_one_against_the_rest_is_the_mean_over_ordered_pairs_of_modalities(player, n_modalities):
    modality = torch.arange(11) % n_modalities
    logits, sign = torch.randn(11, n_modalities), -1 if player == "discriminator" else 1
    terms = []
    for i in range(n_modalities):
        for j in range(n_modalities):
            pairs = [(a, b) for a in range(11) for b in range(11) if (modality[a], modality[b]) == (i, j)]
            if i != j:
                terms.append(sum(softplus(sign * float(logits[a, i] - logits[b, i])) for a, b in pairs) / len(pairs))
    found = modality_game("ovr", player, logits, modality)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("player", PLAYERS)
def test_pairwise_with_two_modalities_is_the_relativistic_pairing_gan(player):
    logits = torch.randn(5, 2)
    critic = (logits[:, 0] - logits[:, 1]).tolist()
    real, fake = critic[:3], critic[3:]
    sign = -1 if player == "discriminator" else 1
    expected = sum(softplus(sign * (r - f)) for r in real for f in fake) / 6
    assert float(modality_game("pairwise", player, logits, CODE)) == pytest.approx(expected, rel=1e-5)


def test_pairwise_with_three_modalities_is_the_mean_over_pairs():
    logits, modality = torch.randn(9, 3), torch.arange(9) % 3
    pairs = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        rows = (modality == i) | (modality == j)
        pairs.append(modality_game("pairwise", "encoder", logits[rows][:, [i, j]], (modality[rows] == j).long()))
    torch.testing.assert_close(modality_game("pairwise", "encoder", logits, modality), torch.stack(pairs).mean())


@pytest.mark.parametrize("n_modalities", [2, 3])
def test_cross_entropy_games_are_those_of_torch(n_modalities):
    logits, modality = torch.randn(12, n_modalities), torch.arange(12) % n_modalities
    for game in ("ce", "uniform"):
        found = modality_game(game, "discriminator", logits, modality)
        torch.testing.assert_close(found, F.cross_entropy(logits, modality))
    wrong = [
        F.cross_entropy(logits[[i]], torch.tensor([j]))
        for i in range(12)
        for j in range(n_modalities)
        if j != modality[i]
    ]
    torch.testing.assert_close(modality_game("ce", "encoder", logits, modality), torch.stack(wrong).mean())
    uniform = torch.full((12, n_modalities), 1 / n_modalities)
    torch.testing.assert_close(modality_game("uniform", "encoder", logits, modality), F.cross_entropy(logits, uniform))


@pytest.mark.parametrize("game", ["ovr", "pairwise", "ce"])
def test_the_encoders_gradient_is_not_zero_and_flips_with_the_modality(game):
    logits = torch.randn(1, 2).expand(6, 2)  # rows differ in nothing but where they came from
    modality = torch.arange(6) % 2
    loss, gradient = encoder_gradient(game, logits, modality)
    swapped, other = encoder_gradient(game, logits.flip(1), 1 - modality)
    own, rest = gradient[range(6), modality], gradient[range(6), 1 - modality]
    assert (own > 1e-3).all()  # the logit of the modality it came from is to fall
    assert (rest < -1e-3).all()
    torch.testing.assert_close(swapped, loss)
    torch.testing.assert_close(other, gradient.flip(1))
    _, wrong = encoder_gradient(game, logits, 1 - modality)
    assert (wrong * gradient < 0).all()


def test_the_encoders_gradient_of_the_uniform_game_flips_with_what_the_discriminator_says():
    logits = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
    _, gradient = encoder_gradient("uniform", logits, torch.tensor([0, 1]))
    assert gradient[0, 0] > 0.1
    torch.testing.assert_close(gradient[1], gradient[0].flip(0))
    torch.testing.assert_close(gradient[0, 1], -gradient[0, 0])


@pytest.mark.parametrize("game", GAMES)
def test_following_the_gradient_brings_modalities_together_whatever_they_are_called(game):
    latent = torch.randn(80, 2)
    for names in (torch.arange(80) % 2, 1 - torch.arange(80) % 2):
        z = latent + 2 * (torch.arange(80) % 2)[:, None]
        net = torch.nn.Linear(2, 2)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            modality_game(game, "discriminator", net(z), names).backward()
            optimizer.step()
        z = z.requires_grad_()
        modality_game(game, "encoder", net(z), names).backward()
        step = (-z.grad[::2].mean(0) + z.grad[1::2].mean(0)).sum()  # of even rows towards odd ones
        assert float(step) > 1e-4


def test_the_uniform_game_does_not_reward_swapping_modalities_as_cross_entropy_does():
    modality = torch.arange(8) % 2
    right = 4 * F.one_hot(modality, 2).float()

    def loss(game, logits):
        return modality_game(game, "encoder", logits, modality).item()

    # a discriminator that is always wrong is as informed as one that is always right
    assert loss("uniform", right) == pytest.approx(loss("uniform", -right), rel=1e-4)
    assert loss("uniform", 0 * right) == pytest.approx(math.log(2))
    assert loss("uniform", -right) > 1
    assert loss("ce", -right) < 0.1 < loss("ce", 0 * right) < loss("ce", right)


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("game", GAMES)
def test_rows_without_a_group_and_groups_of_one_modality_stay_out_of_the_game(game, player):
    modality = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 0])
    group = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1, -1])  # group 0 alone is in both modalities
    logits = torch.randn(9, 2, requires_grad=True)
    loss = modality_game(game, player, logits, modality, group)
    loss.backward()
    assert (logits.grad[:4].abs().sum(1) > 0).all()
    assert (logits.grad[4:] == 0).all()
    torch.testing.assert_close(loss, modality_game(game, player, logits[:4], modality[:4]))


@pytest.mark.parametrize("game", ["ovr", "pairwise"])
def test_only_rows_of_a_group_are_compared(game):
    modality, group = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    logits = torch.randn(4, 2)
    parts = [modality_game(game, "encoder", logits[group == g], modality[group == g]) for g in (0, 1)]
    found = modality_game(game, "encoder", logits, modality, group)
    torch.testing.assert_close(found, torch.stack(parts).mean())
    assert abs(float(found - modality_game(game, "encoder", logits, modality))) > 1e-4


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("game", GAMES)
def test_where_nothing_can_be_compared_loss_and_gradient_are_zero(game, player):
    for modality, group in (
        (torch.zeros(4, dtype=torch.int64), None),
        (torch.arange(4) % 2, torch.full((4,), -1)),
        (torch.arange(4) % 2, torch.arange(4) % 2),
        (torch.zeros(0, dtype=torch.int64), None),
    ):
        logits = torch.randn(len(modality), 2, requires_grad=True)
        loss = modality_game(game, player, logits, modality, group)
        loss.backward()
        assert loss.item() == 0
        assert (logits.grad == 0).all()


@pytest.mark.parametrize("n_modalities", [2, 3, 4, 7])
def test_the_published_loss_of_the_encoders_is_constant(n_modalities):
    logits = (5 * torch.randn(n_modalities, 6)).double().requires_grad_()
    loss = published_relativistic(logits, "encoder")
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_modalities", [2, 3, 5])
def test_the_published_loss_of_the_discriminator_does_not_know_who_is_who(n_modalities):
    logits = torch.randn(n_modalities, 6)
    loss = published_relativistic(logits, "discriminator")
    for shift in range(1, n_modalities):
        torch.testing.assert_close(published_relativistic(logits.roll(shift, 0), "discriminator"), loss)
    # written out as published
    written = []
    for row in logits.T.tolist():
        written.append(softplus(-sum(a - sum(b for j, b in enumerate(row) if j != i) for i, a in enumerate(row))))
    assert loss.item() == pytest.approx(sum(written) / 6, rel=1e-5)
    torch.testing.assert_close(loss, F.softplus((n_modalities - 2) * logits.sum(0)).mean())


def test_the_penalty_is_half_the_squared_norm_of_the_jacobian_on_average():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    z = torch.randn(3, 4)
    exact = torch.stack([torch.autograd.functional.jacobian(net, row).square().sum() for row in z]).mean() / 2
    many = z.repeat(20_000, 1).requires_grad_()  # each row has signs of its own
    found = gradient_penalty(net(many), many)
    assert found.item() == pytest.approx(exact.item(), rel=0.02)
    few = [gradient_penalty(net(x), x).item() for x in [z.clone().requires_grad_() for _ in range(20)]]
    assert max(few) - min(few) > 1e-4  # one draw is an estimate


def test_the_penalty_reaches_the_discriminator_and_vanishes_where_it_is_flat():
    net = torch.nn.Linear(4, 2)
    z = torch.randn(5, 4, requires_grad=True)
    gradient_penalty(net(z), z).backward()
    assert net.weight.grad.abs().min() > 0
    assert z.grad is None or (z.grad == 0).all()
    with torch.no_grad():
        net.weight.zero_()
    assert gradient_penalty(net(z), z).item() == 0
