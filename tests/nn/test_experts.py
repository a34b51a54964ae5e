from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from smalti.nn import Gaussian, fuse, masked_mean, product_of_experts

NAMES = ("a", "b", "c")
GARBAGE = (float("nan"), float("inf"), -float("inf"), 0.0, 1e30)


def experts(n=6, d=3):
    return {name: Gaussian(torch.randn(n, d), 0.3 + torch.rand(n, d)) for name in NAMES}


def everywhere(n=6):
    return dict.fromkeys(NAMES, torch.ones(n, dtype=torch.bool))


def test_product_of_two_gaussians_is_the_normalised_product_of_densities():
    one, two = Normal(torch.tensor(-0.5), torch.tensor(0.7)), Normal(torch.tensor(1.5), torch.tensor(0.4))
    names = {"a": one, "b": two}
    for prior in (False, True):
        out = product_of_experts(
            {k: Gaussian(q.mean.reshape(1, 1), q.stddev.reshape(1, 1)) for k, q in names.items()},
            {k: torch.tensor([True]) for k in names},
            prior=prior,
        )
        z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
        density = (one.log_prob(z) + two.log_prob(z) + (Normal(0, 1).log_prob(z) if prior else 0)).exp()
        density = density / density.sum()
        mean = (density * z).sum()
        assert float(out.mean) == pytest.approx(float(mean), abs=1e-5)
        assert float(out.scale) == pytest.approx(float((density * (z - mean) ** 2).sum().sqrt()), abs=1e-5)


def test_two_equal_experts_halve_the_variance_and_a_sure_one_wins():
    same = Gaussian(torch.full((1, 2), 3.0), torch.full((1, 2), 0.8))
    both = dict.fromkeys("ab", torch.tensor([True]))
    out = product_of_experts({"a": same, "b": same}, both, prior=False)
    torch.testing.assert_close(out.mean, same.mean)
    torch.testing.assert_close(out.scale, same.scale / 2**0.5)
    sure = Gaussian(torch.full((1, 2), -1.0), torch.full((1, 2), 1e-4))
    torch.testing.assert_close(
        product_of_experts({"a": same, "b": sure}, both, prior=True).mean, sure.mean, rtol=1e-5, atol=1e-5
    )


def test_one_expert_alone_is_returned_as_it_is():
    q, here = experts(), everywhere()
    here |= {"b": torch.zeros(6, dtype=torch.bool), "c": torch.zeros(6, dtype=torch.bool)}
    for fusion in ("mean", "poe"):
        out = fuse(q, here, fusion)
        torch.testing.assert_close(out.mean, q["a"].mean)
        torch.testing.assert_close(out.scale, q["a"].scale)


def test_the_prior_as_expert_shrinks():
    q = experts()
    with_prior, without = fuse(q, everywhere(), "poe_prior"), fuse(q, everywhere(), "poe")
    assert (with_prior.mean.abs() < without.mean.abs()).all()
    assert (with_prior.scale < without.scale).all()


@pytest.mark.parametrize("fusion", ["poe", "poe_prior"])
def test_where_nobody_was_measured_the_prior_remains(fusion):
    nobody = dict.fromkeys(NAMES, torch.zeros(6, dtype=torch.bool))
    out = fuse(experts(), nobody, fusion)
    torch.testing.assert_close(out.mean, torch.zeros(6, 3))
    torch.testing.assert_close(out.scale, torch.ones(6, 3))
    torch.testing.assert_close(fuse(experts(), nobody, "mean").mean, torch.zeros(6, 3))


def test_the_order_of_modalities_does_not_matter():
    q, here = experts(), everywhere()
    here["b"] = torch.tensor([True, False] * 3)
    for fusion in ("mean", "poe", "poe_prior"):
        one = fuse(q, here, fusion)
        two = fuse(dict(reversed(q.items())), here, fusion)
        torch.testing.assert_close(one.mean, two.mean)
        torch.testing.assert_close(one.scale, two.scale)


def test_mean_of_present_rows_is_that_of_brute_force():
    q = {name: torch.randn(6, 3) for name in NAMES}
    here = {name: torch.rand(6) < 0.6 for name in NAMES}
    here["a"][0] = here["b"][0] = here["c"][0] = False
    out = masked_mean(q, here)
    for row in range(6):
        rows = [q[name][row] for name in NAMES if here[name][row]]
        torch.testing.assert_close(out[row], torch.stack(rows).mean(dim=0) if rows else torch.zeros(3))


def test_nothing_to_fuse_is_refused():
    with pytest.raises(ValueError, match="at least one modality"):
        masked_mean({}, {})


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("fusion", ["mean", "poe", "poe_prior"])
def test_absent_rows_change_neither_result_nor_gradient_whatever_they_hold(fusion, garbage):
    def run(fill_mean, fill_scale):
        torch.manual_seed(1)
        leaves = {name: (torch.randn(6, 3), 0.3 + torch.rand(6, 3)) for name in NAMES}
        here = {name: torch.tensor([i != k for k in range(6)]) for i, name in enumerate(NAMES)}
        for name, (mean, scale) in leaves.items():
            mean[~here[name]], scale[~here[name]] = fill_mean, fill_scale
            mean.requires_grad_()
            scale.requires_grad_()
        out = fuse({name: Gaussian(*leaf) for name, leaf in leaves.items()}, here, fusion)
        (out.mean.square().sum() + out.scale.log().sum()).backward()
        return out, leaves, here

    clean, clean_leaves, here = run(0.0, 1.0)
    dirty, dirty_leaves, _ = run(garbage, garbage)
    torch.testing.assert_close(dirty.mean, clean.mean)
    torch.testing.assert_close(dirty.scale, clean.scale)
    for name in NAMES:
        for found, expected in zip(dirty_leaves[name], clean_leaves[name], strict=True):
            torch.testing.assert_close(found.grad, expected.grad)
            assert (found.grad[~here[name]] == 0).all()


def test_gradients_of_the_mean_are_shared_equally_among_those_present():
    q = {name: torch.randn(2, 3, requires_grad=True) for name in NAMES}
    here = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False]), "c": torch.tensor([False, False])}
    masked_mean(q, here).sum().backward()
    torch.testing.assert_close(q["a"].grad, torch.tensor([[0.5] * 3, [1.0] * 3]))
    torch.testing.assert_close(q["b"].grad, torch.tensor([[0.5] * 3, [0.0] * 3]))
    torch.testing.assert_close(q["c"].grad, torch.zeros(2, 3))
