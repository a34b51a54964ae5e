from __future__ import annotations

import pytest
import torch

from smalti.nn import Gaussian, GaussianEncoder

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
