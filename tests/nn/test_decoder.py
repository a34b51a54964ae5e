from __future__ import annotations

import pytest
import torch

from smalti.nn import Decoder

D, G, B, C = 4, 11, 6, 3
SUBSET = torch.tensor([7, 2, 10, 0])


def decoder(**options):
    options = {"n_heads": 2, "n_cov": C, "n_scales": 3, "n_hidden": 8, **options}
    out = Decoder(D, G, **options)
    with torch.no_grad():  # parameters that start at zero hide mistakes
        for parameter in out.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return out


@pytest.fixture
def z():
    return torch.randn(B, D)


@pytest.fixture
def cov():
    return torch.nn.functional.one_hot(torch.arange(B) % C, C).float()


def test_heads_follow_the_formula(z, cov):
    net = decoder()
    hidden = net.body(z, cov)
    out = net(z, cov)
    for q in range(2):
        for g in range(G):
            expected = hidden @ net.weight[q, g] + cov @ net.cov_weight[q, g] + net.bias[q, g]
            torch.testing.assert_close(out[q, :, g], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_cov", [0, C])
def test_a_subset_is_the_same_columns_of_all(z, cov, n_cov):
    net = decoder(n_cov=n_cov)
    cov = cov if n_cov else None
    torch.testing.assert_close(net(z, cov, SUBSET), net(z, cov)[:, :, SUBSET])
    torch.testing.assert_close(net.scales(torch.arange(B) % 3, SUBSET), net.scales(torch.arange(B) % 3)[:, SUBSET])


def test_a_subset_trains_its_own_features_only(z, cov):
    net = decoder()
    heads = net(z, cov, SUBSET)
    (heads.square().sum() + net.scales(torch.arange(B) % 3, SUBSET).square().sum()).backward()
    inside = torch.zeros(G, dtype=torch.bool)
    inside[SUBSET] = True
    for parameter in (net.weight, net.bias, net.cov_weight):
        touched = parameter.grad.abs().reshape(2, G, -1).sum(dim=(0, 2)) > 0
        assert torch.equal(touched, inside)
    assert torch.equal(net.log_scale.grad.abs().sum(dim=0) > 0, inside)


def test_gradients_of_a_subset_are_those_of_the_full_output(z, cov):
    net = decoder()
    net(z, cov, SUBSET).square().sum().backward()
    subset = [p.grad.clone() for p in (net.weight, net.bias, net.cov_weight, net.body.blocks[0].linear.weight)]
    net.zero_grad()
    net(z, cov)[:, :, SUBSET].square().sum().backward()
    full = [p.grad for p in (net.weight, net.bias, net.cov_weight, net.body.blocks[0].linear.weight)]
    torch.testing.assert_close(subset, full)


def test_covariates_reach_the_output_layer_directly(z, cov):
    net = decoder()
    with torch.no_grad():
        for block in net.body.blocks:
            block.linear.weight[:, -C:] = 0
    assert not torch.allclose(net(z, cov), net(z, cov.roll(1, dims=1)))
    with torch.no_grad():
        net.cov_weight.zero_()
    torch.testing.assert_close(net(z, cov), net(z, cov.roll(1, dims=1)))


def test_softmax_shares_one_total_among_all_features(z, cov):
    net = decoder(mean_link="softmax")
    out = net(z, cov)
    torch.testing.assert_close(out[0].exp().sum(dim=1), torch.ones(B))
    log = decoder(mean_link="log")
    log.load_state_dict(net.state_dict())
    torch.testing.assert_close(out[1], log(z, cov)[1])
    torch.testing.assert_close(out[0], torch.log_softmax(log(z, cov)[0], dim=1))


def test_softmax_shares_the_total_among_measured_features_only(z, cov):
    net = decoder(mean_link="softmax")
    mask = torch.rand(B, G) < 0.6
    mask[:, 0] = True
    out = net(z, cov, mask=mask)[0]
    torch.testing.assert_close((out.exp() * mask).sum(dim=1), torch.ones(B))
    assert (out[~mask].exp() == 0).all()
    full = net(z, cov)[0]
    expected = (full - torch.logsumexp(full.masked_fill(~mask, -torch.inf), dim=1, keepdim=True))[mask]
    torch.testing.assert_close(out[mask], expected)


def test_unmeasured_features_get_no_gradient_under_softmax(z, cov):
    net = decoder(mean_link="softmax", n_heads=1)
    mask = torch.ones(B, G, dtype=torch.bool)
    mask[:, 3] = False
    net(z, cov, mask=mask)[0][mask].square().sum().backward()
    assert (net.weight.grad[:, 3] == 0).all()
    assert (net.weight.grad[:, 2] != 0).any()


def test_a_cell_without_a_measured_feature_stays_finite_under_softmax(z, cov):
    net = decoder(mean_link="softmax", n_heads=1)
    out = net(z, cov, mask=torch.zeros(B, G, dtype=torch.bool))
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_a_mask_does_not_touch_the_log_link(z, cov):
    net = decoder()
    torch.testing.assert_close(net(z, cov, mask=torch.rand(B, G) < 0.5), net(z, cov))


def test_scales_are_those_of_the_batch_and_their_mean_for_an_average_one():
    net = decoder()
    out = net.scales(torch.tensor([2, -1, 0]))
    torch.testing.assert_close(out, torch.stack([net.log_scale[2], net.log_scale.mean(dim=0), net.log_scale[0]]))
    assert decoder(n_scales=1).scales(torch.tensor([2, -1, 0])).shape == (1, G)


@pytest.mark.parametrize("n", [0, 1])
def test_no_cell_and_one_cell_are_decoded(n, cov):
    for link in ("log", "softmax"):
        out = decoder(mean_link=link, norm="batch")(torch.randn(n, D), cov[:n])
        assert out.shape == (2, n, G)
        out.sum().backward()


# ---------------------------------------------------------------------- with a linear map


@pytest.mark.parametrize("features", [None, SUBSET])
def test_the_linear_map_adds_exactly_that_to_the_first_head(z, features):
    net = decoder(skip=True)
    cov = torch.eye(C)[torch.arange(B) % C]
    whole = net(z, cov, features)
    linear, net.skip_weight = net.skip_weight, None
    rest = net(z, cov, features)
    at = slice(None) if features is None else features
    torch.testing.assert_close(whole[0] - rest[0], z @ linear[at].T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole[1], rest[1])


def test_the_linear_map_is_part_of_what_the_softmax_shares_out(z):
    net = decoder(skip=True, mean_link="softmax", n_cov=0)
    logits = decoder(skip=True, n_cov=0)
    logits.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(z)[0], torch.log_softmax(logits(z)[0], dim=1))


def test_without_it_there_is_no_such_parameter():
    names = {skip: set(dict(decoder(skip=skip).named_parameters())) for skip in (False, True)}
    assert names[True] - names[False] == {"skip_weight"}
    assert names[False] < names[True]


def test_hidden_layers_of_any_widths(z):
    net = decoder(n_hidden=[8, 3], n_cov=0)
    assert [block.linear.out_features for block in net.body.blocks] == [8, 3]
    assert net.weight.shape == (2, G, 3)
    assert net(z).shape == (2, B, G)
