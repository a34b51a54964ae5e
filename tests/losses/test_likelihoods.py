from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import torch
from scvi import distributions as scvi_distributions

from smalti.losses import FAMILIES

B, S = 40, 25
COUNT_FAMILIES = ("nb", "zinb", "poisson", "nb_mixture")


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def draw(family, *, spread=1.5, dtype=torch.float32):
    """Random heads, scales and values of a family, counts between 0 and a few hundred."""
    heads = spread * torch.randn(family.n_heads, B, S, dtype=dtype)
    log_scale = torch.randn(1, S, dtype=dtype)
    x = torch.randn(B, S, dtype=dtype) if family.name == "gaussian" else torch.poisson(torch.rand(B, S).pow(4) * 300)
    return x.to(dtype), heads, log_scale


def reference(name, x, heads, log_scale):
    """Log-densities by scipy, elementwise, in double precision."""
    x, heads, log_scale = (t.double().numpy() for t in (x, heads, log_scale))
    mean, scale = np.exp(heads[0]), np.exp(log_scale)

    def nb(mean):
        return st.nbinom.logpmf(x, scale, scale / (scale + mean))

    match name:
        case "nb":
            return nb(mean)
        case "zinb":
            pi = 1 / (1 + np.exp(-heads[1]))
            return np.log(pi * (x == 0) + (1 - pi) * np.exp(nb(mean)))
        case "poisson":
            return st.poisson.logpmf(x, mean)
        case "bernoulli":
            return st.bernoulli.logpmf(x != 0, -np.expm1(-mean))
        case "gaussian":
            return st.norm.logpdf(x, heads[0], scale)
        case "nb_mixture":
            pi = 1 / (1 + np.exp(-heads[2]))
            return np.log(pi * np.exp(nb(mean)) + (1 - pi) * np.exp(nb(mean * (1 + np.logaddexp(0, heads[1])))))


def test_densities_are_those_of_scipy(family):
    x, heads, log_scale = draw(family)
    with np.errstate(divide="ignore"):
        expected = -reference(family.name, x, heads, log_scale)
    here = np.isfinite(expected)  # scipy's own probabilities are rounded to zero or one far out in the tails
    if family.name == "bernoulli":
        here &= expected < 20
    assert here.mean() > 0.95
    np.testing.assert_allclose(family.nll(x, heads, log_scale).numpy()[here], expected[here], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["nb", "zinb", "nb_mixture"])
def test_densities_are_those_of_scvi_tools(name):
    x, heads, log_scale = draw(FAMILIES[name])
    mean, theta = heads[0].exp(), log_scale.exp().expand(B, S)
    if name == "nb":
        other = scvi_distributions.NegativeBinomial(mu=mean, theta=theta)
    elif name == "zinb":
        other = scvi_distributions.ZeroInflatedNegativeBinomial(mu=mean, theta=theta, zi_logits=heads[1])
    else:
        foreground = mean * (1 + torch.nn.functional.softplus(heads[1]))
        other = scvi_distributions.NegativeBinomialMixture(
            mu1=mean, mu2=foreground, theta1=theta, mixture_logits=heads[2]
        )
    # scvi-tools adds 1e-8 inside logarithms
    torch.testing.assert_close(FAMILIES[name].nll(x, heads, log_scale), -other.log_prob(x), rtol=1e-4, atol=1e-3)
    if name != "nb_mixture":  # its mean in scvi-tools is that of the foreground weight
        torch.testing.assert_close(FAMILIES[name].mean(heads, log_scale), other.mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COUNT_FAMILIES)
def test_probabilities_sum_to_one_and_the_mean_is_theirs(name):
    family = FAMILIES[name]
    heads, log_scale = torch.randn(family.n_heads, 1, 8, dtype=torch.float64), torch.ones(1, 8, dtype=torch.float64)
    x = torch.arange(4000, dtype=torch.float64)[:, None]
    p = (-family.nll(x, heads, log_scale)).exp()
    torch.testing.assert_close(p.sum(dim=0), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close((p * x).sum(dim=0), family.mean(heads, log_scale)[0])


def test_bernoulli_probabilities_sum_to_one_and_look_at_zero_or_not_only():
    family, heads, scale = FAMILIES["bernoulli"], torch.randn(1, 3, 8), torch.zeros(1, 8)
    zero, one, many = (family.nll(torch.full((3, 8), v), heads, scale) for v in (0.0, 1.0, 17.0))
    torch.testing.assert_close((-zero).exp() + (-one).exp(), torch.ones(3, 8))
    torch.testing.assert_close(one, many)
    torch.testing.assert_close((-one).exp(), family.mean(heads, scale))


def test_the_foreground_of_proteins_is_its_share_of_the_mean():
    family = FAMILIES["nb_mixture"]
    _, heads, log_scale = draw(family)
    background = torch.sigmoid(heads[2]) * heads[0].exp()
    torch.testing.assert_close(
        family.foreground(heads, log_scale), family.mean(heads, log_scale) - background, rtol=1e-3, atol=1e-4
    )


def test_the_cheap_loss_of_zeros_is_the_loss_at_zero(family):
    _, heads, log_scale = draw(family)
    torch.testing.assert_close(
        family.zero_nll(heads, log_scale), family.nll(torch.zeros(B, S), heads, log_scale), rtol=1e-5, atol=1e-5
    )


def test_gradients_are_those_of_double_precision(family):
    x, heads, log_scale = draw(family)
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.detach().clone().to(dtype).requires_grad_() for t in (heads, log_scale)]
        family.nll(x.to(dtype), *leaves).mean().backward()
        grads.append([torch.zeros(()) if t.grad is None else t.grad.double() for t in leaves])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-6, check_dtype=False)


def test_gradients_are_those_of_finite_differences(family):
    x, heads, log_scale = (t[..., :2, :4] for t in draw(family, dtype=torch.float64))
    assert torch.autograd.gradcheck(
        lambda h, s: family.nll(x, h, s), (heads.clone().requires_grad_(), log_scale[:, :4].clone().requires_grad_())
    )


@pytest.mark.parametrize("log_theta", [-50.0, -5.0, 3.0, 10.0, 50.0, 120.0])
@pytest.mark.parametrize("log_mean", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("count", [0.0, 1.0, 1e5])
def test_losses_and_gradients_are_finite_at_extremes(family, log_mean, log_theta, count):
    heads = torch.full((family.n_heads, 1, 1), log_mean, requires_grad=True)
    log_scale = torch.full((1, 1), log_theta, requires_grad=True)
    x = torch.full((1, 1), count)
    for loss in (family.nll(x, heads, log_scale), family.zero_nll(heads, log_scale), family.mean(heads, log_scale)):
        assert torch.isfinite(loss).all()
        grads = torch.autograd.grad(loss.sum(), (heads, log_scale), retain_graph=True, allow_unused=True)
        assert all(g is None or torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("log_theta", [2.9, 3.0, 3.1, 6.0, 9.0, 12.0, 15.0])
def test_the_negative_binomial_keeps_its_digits_at_large_inverse_dispersion(log_theta):
    x = torch.tensor([[0.0, 1, 2, 5, 20, 100, 1000]])
    heads, scale = torch.full((1, 1, 7), 1.0), torch.full((1, 7), log_theta)
    theta = np.exp(np.float64(np.float32(log_theta)))
    expected = -st.nbinom.logpmf(x.numpy(), theta, theta / (theta + np.e))
    np.testing.assert_allclose(FAMILIES["nb"].nll(x, heads, scale).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_features_of_small_and_of_large_inverse_dispersion_go_together():
    log_theta = torch.tensor([[-2.0, 0.0, 2.9, 3.1, 8.0, 12.0]])
    x = torch.tensor([[0.0], [1.0], [7.0], [300.0]])
    theta = np.exp(log_theta.double().numpy())
    expected = -st.nbinom.logpmf(x.numpy(), theta, theta / (theta + np.e))
    found = FAMILIES["nb"].nll(x, torch.ones(1, 4, 6), log_theta)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_negative_binomial_becomes_a_poisson_in_value_and_gradient():
    x = torch.tensor([[0.0, 1, 2, 5, 20]])
    results = []
    for name in ("nb", "poisson"):
        heads = torch.full((1, 1, 5), 1.0, requires_grad=True)
        loss = FAMILIES[name].nll(x, heads, torch.full((1, 5), 16.0))
        loss.sum().backward()
        results.append((loss.detach(), heads.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_dispersion_moves_towards_that_of_the_data():
    x = torch.from_numpy(st.nbinom.rvs(2.0, 2 / (2 + 5), size=(4000, 1), random_state=0)).float()
    heads = torch.full((1, 4000, 1), float(np.log(5)))
    for log_theta, sign in ((-1.0, -1), (2.0, 1), (6.0, 1), (12.0, 1)):
        scale = torch.full((1, 1), log_theta, requires_grad=True)
        FAMILIES["nb"].nll(x, heads, scale).mean().backward()
        assert np.sign(scale.grad.item()) == sign


def test_initial_heads_predict_the_mean_of_every_feature(family):
    rate = torch.rand(12) * 3 + 0.01
    heads = family.initial_head(rate)[:, None, :]
    assert heads.shape == (family.n_heads, 1, 12)
    expected = 1 - (-rate).exp() if family.name == "bernoulli" else rate
    torch.testing.assert_close(family.mean(heads, torch.zeros(1, 12))[0], expected, rtol=0.06, atol=0)


def test_a_feature_that_is_never_seen_starts_at_a_finite_head(family):
    assert torch.isfinite(family.initial_head(torch.zeros(3))).all()


def test_every_likelihood_that_users_can_name_has_a_family():
    from typing import get_args

    from smalti.data._modality import Likelihood

    assert set(FAMILIES) == set(get_args(Likelihood))
    assert all(family.name == name for name, family in FAMILIES.items())
