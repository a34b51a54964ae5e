from __future__ import annotations

import copy

import pytest
import torch

from smalti.nn import MLP, Block

NORMS = ("layer", "batch", "none")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_rows_passes_forward_and_back(n, norm, norm_first, training):
    mlp = MLP(4, 6, 2, n_cov=3, norm=norm, norm_first=norm_first, dropout_rate=0.2).train(training)
    x = torch.randn(n, 4, requires_grad=True)
    out = mlp(x, torch.ones(n, 3))
    assert out.shape == (n, 6)
    out.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mlp.parameters())


@pytest.mark.parametrize("norm_first", [True, False])
def test_one_row_with_batch_norm_uses_running_statistics_and_leaves_them(norm_first):
    block = Block(4, 6, norm="batch", norm_first=norm_first)
    for _ in range(3):
        block(5 + 2 * torch.randn(20, 4))
    x, before = torch.randn(1, 4), copy.deepcopy(block.norm.state_dict())
    training = block.train()(x)
    torch.testing.assert_close(block.norm.state_dict(), before)
    torch.testing.assert_close(training, block.eval()(x))


def test_two_rows_with_batch_norm_use_their_own_statistics():
    block = Block(4, 6, norm="batch", activation="leaky_relu", norm_first=False)
    before = block.norm.running_mean.clone()
    out = block(torch.randn(2, 4))
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    assert not torch.equal(block.norm.running_mean, before)


def test_norm_and_activation_come_in_the_order_asked_for():
    x = torch.randn(8, 4)
    for norm_first in (True, False):
        block = Block(4, 6, norm="layer", activation="leaky_relu", norm_first=norm_first)
        hidden = block.linear(x)
        norm, activation = block.norm, torch.nn.LeakyReLU(0.2)
        expected = activation(norm(hidden)) if norm_first else norm(activation(hidden))
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("activation", "negative"), [("leaky_relu", -0.2), ("gelu", -0.15865526)])
def test_activations_are_those_named(activation, negative):
    block = Block(1, 1, norm="none", activation=activation)
    with torch.no_grad():
        block.linear.weight.fill_(1)
        block.linear.bias.zero_()
    torch.testing.assert_close(block(torch.tensor([[-1.0]])), torch.tensor([[negative]]))


def test_dropout_acts_in_training_only():
    block = Block(3, 2000, norm="none", dropout_rate=0.3)
    x = torch.randn(1, 3)
    assert abs(float((block.train()(x) == 0).float().mean()) - 0.3) < 0.05
    assert (block.eval()(x) != 0).all()


def test_covariates_reach_every_layer():
    mlp = MLP(4, 6, 3, n_cov=2)
    seen = []
    for block in mlp.blocks:
        block.linear.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    cov = torch.randn(5, 2)
    mlp(torch.randn(5, 4), cov).square().sum().backward()
    assert len(seen) == 3
    for layer_input, block in zip(seen, mlp.blocks, strict=True):
        torch.testing.assert_close(layer_input[:, -2:], cov)
        assert (block.linear.weight.grad[:, -2:].abs().sum(dim=0) > 0).all()


def test_each_layer_alone_passes_covariates_on():
    for layer in range(3):
        mlp = MLP(4, 6, 3, n_cov=2)
        with torch.no_grad():
            for other, block in enumerate(mlp.blocks):
                if other != layer:
                    block.linear.weight[:, -2:] = 0
        x = torch.randn(5, 4)
        assert not torch.allclose(mlp(x, torch.zeros(5, 2)), mlp(x, torch.ones(5, 2)))


def test_rows_do_not_see_each_other_without_batch_norm():
    mlp = MLP(4, 6, 2, norm="layer")
    x = torch.randn(5, 4)
    torch.testing.assert_close(mlp(x)[[2]], mlp(x[[2]]))


def test_widths_may_be_listed_and_the_last_is_that_of_the_output():
    mlp = MLP(4, [7, 5, 3], n_cov=2)
    assert [(b.linear.in_features, b.linear.out_features) for b in mlp.blocks] == [(6, 7), (9, 5), (7, 3)]
    assert mlp.n_out == 3
    assert mlp(torch.randn(6, 4), torch.randn(6, 2)).shape == (6, 3)
    assert MLP(4, 8, 2).n_out == 8


def test_no_hidden_layer_is_the_identity():
    mlp = MLP(4, [])
    x = torch.randn(3, 4)
    assert mlp.n_out == 4
    torch.testing.assert_close(mlp(x), x)


def test_the_leaky_activation_has_a_slope_of_a_fifth_below_zero():
    mlp = MLP(1, [1], norm="none", activation="leaky_relu")
    with torch.no_grad():
        mlp.blocks[0].linear.weight.fill_(1)
        mlp.blocks[0].linear.bias.zero_()
    torch.testing.assert_close(mlp(torch.tensor([[-2.0], [3.0]])), torch.tensor([[-0.4], [3.0]]))
