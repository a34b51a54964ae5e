from __future__ import annotations

import pytest
import torch

from smalti.nn import Gaussian, GaussianEncoder, SkipEncoder

D, K = 3, 4


@pytest.mark.parametrize("share_trunk", [True, False])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_blocks_lie_side_by_side_with_positive_scales(share_trunk, n):
    out = GaussianEncoder(5, D, K, share_trunk=share_trunk)(torch.randn(n, 5) * 100)
    assert out.mean.shape == out.scale.shape == (n, K * D)
    assert (out.scale > 0).all()


def test_scales_have_a_floor_where_the_softplus_vanishes():
    encoder = GaussianEncoder(5, D, K)
    with torch.no_grad():
        encoder.scale_heads[0].bias.fill_(-1000)
    out = encoder(torch.randn(2, 5))
    torch.testing.assert_close(out.scale, torch.full((2, K * D), 1e-4))


@pytest.mark.parametrize(("share_trunk", "n_trunks"), [(True, 1), (False, K)])
def test_the_number_of_networks_is_that_of_the_option(share_trunk, n_trunks):
    encoder = GaussianEncoder(5, D, K, share_trunk=share_trunk)
    assert len(encoder.trunks) == len(encoder.mean_heads) == len(encoder.scale_heads) == n_trunks


@pytest.mark.parametrize("part", ["mean", "scale"])
def test_separate_networks_share_nothing(part):
    encoder = GaussianEncoder(5, D, K, share_trunk=False)
    x = torch.randn(6, 5)
    for block in range(K):
        encoder.zero_grad()
        getattr(encoder(x), part)[:, block * D : (block + 1) * D].square().sum().backward()
        for other in range(K):
            grads = [p.grad for p in encoder.trunks[other].parameters()]
            touched = any(g is not None and g.abs().sum() > 0 for g in grads)
            assert touched == (other == block)


def test_a_shared_trunk_learns_from_every_block_and_heads_from_their_own():
    encoder = GaussianEncoder(5, D, K, share_trunk=True)
    for block in range(K):
        encoder.zero_grad()
        encoder(torch.randn(6, 5)).mean[:, block * D : (block + 1) * D].square().sum().backward()
        assert encoder.trunks[0].blocks[0].linear.weight.grad.abs().sum() > 0
        rows = encoder.mean_heads[0].weight.grad.abs().sum(dim=1).reshape(K, D)
        assert (rows[block] > 0).all()
        assert rows.sum() == rows[block].sum()
        assert all(p.grad is None for p in encoder.scale_heads.parameters())


def test_samples_have_the_moments_they_claim_and_pass_gradients():
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    scale = torch.tensor([[0.5, 3.0]], requires_grad=True)
    draws = Gaussian(mean.expand(40_000, 2), scale.expand(40_000, 2)).sample()
    # six standard errors
    torch.testing.assert_close(draws.mean(dim=0), mean[0].detach(), atol=6 * 3 / 200, rtol=0)
    torch.testing.assert_close(draws.std(dim=0), scale[0].detach(), atol=0, rtol=0.03)
    draws.mean(dim=0).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(1, 2))
    assert scale.grad.abs().max() < 0.05  # the mean of a standard normal


# ---------------------------------------------------------------------- with a linear map


def test_the_linear_map_adds_exactly_that_to_the_mean_and_nothing_to_the_scale():
    encoder = SkipEncoder(5, D, (8, 6), dropout_rate=0.5, input_dropout=0.5).eval()
    x = torch.randn(7, 5)
    whole = encoder(x)
    linear, encoder.linear = encoder.linear, None
    rest = encoder(x)
    torch.testing.assert_close(whole.mean - rest.mean, linear(x))
    torch.testing.assert_close(whole.scale, rest.scale)


def test_with_a_silent_network_the_mean_is_linear():
    encoder = SkipEncoder(5, D, (8,)).eval()
    with torch.no_grad():
        encoder.mean_head.weight.zero_()
        encoder.mean_head.bias.zero_()
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    constant = encoder(torch.zeros(4, 5)).mean
    torch.testing.assert_close(encoder(2 * x + y).mean + 2 * constant, 2 * encoder(x).mean + encoder(y).mean)
    torch.testing.assert_close(encoder(x).mean, encoder.linear(x))


def test_the_linear_map_sees_the_same_dropped_inputs_as_the_network():
    encoder = SkipEncoder(200, 1, (4,), input_dropout=0.5).train()
    with torch.no_grad():
        encoder.mean_head.weight.zero_()
        encoder.mean_head.bias.zero_()
        encoder.linear.linear.weight.fill_(1.0)
        encoder.linear.bias.zero_()
    total = encoder(torch.ones(50, 200)).mean
    assert total.std() > 5
    assert float(total.mean()) == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize("bottleneck", [None, 3])
def test_without_it_widths_and_bottleneck_are_those_asked_for(bottleneck):
    encoder = SkipEncoder(5, D, (8, 6), n_bottleneck=bottleneck, skip=False, norm="batch")
    assert encoder.linear is None
    last = bottleneck or 6
    expected = [(5, 8), (8, 6), *([(6, 3)] if bottleneck else []), (last, D), (last, D)]
    layers = [(m.in_features, m.out_features) for m in encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert layers == expected
    for n in (0, 1, 5):
        out = encoder(torch.randn(n, 5))
        assert out.mean.shape == out.scale.shape == (n, D)
        assert (out.scale > 0).all()


def test_the_bottleneck_is_linear():
    encoder = SkipEncoder(5, D, (), n_bottleneck=4, skip=False).eval()
    x, y = torch.randn(3, 5), torch.randn(3, 5)
    bias = encoder(torch.zeros(3, 5)).mean
    torch.testing.assert_close(encoder(x + y).mean + bias, encoder(x).mean + encoder(y).mean)
