from __future__ import annotations

import logging
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

from smalti.losses import CCAState, canonical_correlations, deep_cca
from smalti.pp import LinearCCA


def planted(n=200, sizes=(4, 3), n_shared=2, seed=0, dtype=torch.float64):
    """Encodings that share factors."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, n_shared))
    views = [shared @ rng.normal(size=(n_shared, k)) + rng.normal(size=(n, k)) for k in sizes]
    return [torch.tensor(view, dtype=dtype) for view in views]


def test_correlations_without_ridge_are_those_of_scikit_learn() -> None:
    u, v = planted()
    found = canonical_correlations(u, v, ridge=0.0)
    x, y = CCA(3, max_iter=5000, tol=1e-12).fit_transform(u.numpy(), v.numpy())
    expected = [np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_correlations_with_ridge_are_those_of_the_linear_baseline() -> None:
    u, v = planted()
    # the baseline divides by n and measures its ridge in mean variances: scaled views make the two the same
    n = len(u)
    u, v = (z / np.sqrt(float((z - z.mean(0)).square().sum()) / n / z.shape[1]) for z in (u, v))
    inputs = {"a": u.numpy(), "b": v.numpy()}
    cca = LinearCCA(ridge=0.1).fit(inputs, {name: np.arange(n) for name in inputs})
    found = canonical_correlations(u, v, ridge=0.1 * n / (n - 1))
    np.testing.assert_allclose(found, cca.fitted_correlations, atol=1e-8)


def test_invertible_linear_maps_and_shifts_change_nothing() -> None:
    u, v = planted()
    rng = np.random.default_rng(1)
    maps = [torch.tensor(rng.normal(size=(z.shape[1], z.shape[1]))) for z in (u, v)]
    moved = [z @ m + 7.0 for z, m in zip((u, v), maps, strict=True)]
    torch.testing.assert_close(canonical_correlations(*moved, ridge=0.0), canonical_correlations(u, v, ridge=0.0))


def test_the_gradient_is_that_of_finite_differences() -> None:
    u, v = (z.requires_grad_() for z in planted(n=12, sizes=(3, 2)))
    assert torch.autograd.gradcheck(lambda a, b: canonical_correlations(a, b, ridge=0.05).sum(), (u, v))


def test_the_gradient_of_the_loss_is_that_of_minus_the_logarithm() -> None:
    u, v = (z.requires_grad_() for z in planted())
    out = deep_cca({"a": u, "b": v}, n_components=2)
    assert out.loss.item() == pytest.approx(-1)
    found = torch.autograd.grad(out.loss, (u, v))
    expected = torch.autograd.grad(-canonical_correlations(u, v)[:2].sum().log(), (u, v))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(out.correlations["a", "b"], canonical_correlations(u, v)[:2].detach())


def test_descent_finds_the_directions_that_a_linear_method_finds() -> None:
    u, v = planted(n=500, sizes=(6, 5))
    torch.manual_seed(0)
    maps = [torch.nn.Parameter(torch.randn(z.shape[1], 2, dtype=torch.float64)) for z in (u, v)]
    optimizer = torch.optim.Adam(maps, lr=0.05)
    for _ in range(300):
        out = deep_cca({"a": u @ maps[0], "b": v @ maps[1]}, ridge=1e-6)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    best = canonical_correlations(u, v, ridge=1e-6)[:2]
    np.testing.assert_allclose(out.correlations["a", "b"], best, atol=1e-3)


def test_three_views_weigh_by_their_common_cells_and_poor_pairs_are_skipped() -> None:
    views = dict(zip("abc", planted(n=60, sizes=(3, 3, 3)), strict=True))
    rng = np.random.default_rng(2)
    present = {name: torch.tensor(rng.random(60) < share) for name, share in zip("abc", (1.0, 0.7, 0.4), strict=True)}
    for z in views.values():
        z.requires_grad_()
    out = deep_cca(views, present, n_components=2)
    cells = {pair: present[pair[0]] & present[pair[1]] for pair in combinations("abc", 2)}
    sizes = {pair: int(both.sum()) for pair, both in cells.items()}
    by_hand = -sum(
        n * canonical_correlations(views[a][cells[a, b]], views[b][cells[a, b]])[:2].sum().log()
        for (a, b), n in sizes.items()
    ) / sum(sizes.values())
    for found, expected in zip(
        torch.autograd.grad(out.loss, list(views.values())),
        torch.autograd.grad(by_hand, list(views.values())),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
    present["c"] = torch.zeros(60, dtype=torch.bool)
    assert deep_cca(views, present).skipped == (("a", "c"), ("b", "c"))


def test_rows_of_absent_cells_are_not_looked_at() -> None:
    u, v = planted(n=40)
    here = torch.arange(40) < 30
    whole = deep_cca({"a": u[:30], "b": v[:30]})
    u = torch.where(here[:, None], u, torch.nan)
    partly = deep_cca({"a": u, "b": v}, {"a": here, "b": torch.ones(40, dtype=torch.bool)})
    torch.testing.assert_close(partly.correlations, whole.correlations)


def test_a_batch_smaller_than_the_dimension_is_finite_with_a_ridge() -> None:
    u, v = (z.requires_grad_() for z in planted(n=6, sizes=(12, 10), dtype=torch.float32))
    out = deep_cca({"a": u, "b": v}, n_components=3)
    out.loss.backward()
    assert out.failed == out.skipped == ()
    assert torch.isfinite(u.grad).all()
    assert (out.correlations["a", "b"] < 1).all()
    assert deep_cca({"a": u, "b": v}, n_components=4).skipped == (("a", "b"),)


def test_a_constant_column_has_correlation_zero_and_a_finite_gradient() -> None:
    u, v = planted()
    u, v = (torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1).requires_grad_() for z in (u, v))
    values = canonical_correlations(u, v)
    assert values[-1].abs() < 1e-10
    deep_cca({"a": u, "b": v}).loss.backward()
    assert torch.isfinite(u.grad).all()
    flat = torch.ones(20, 3, requires_grad=True)
    out = deep_cca({"a": flat, "b": flat})
    out.loss.backward()
    assert torch.isfinite(flat.grad).all()


def test_failures_are_logged_returned_counted_and_raised_when_many(caplog: pytest.LogCaptureFixture) -> None:
    u, v = planted(n=6, sizes=(12, 10))
    state = CCAState(max_failures=2)
    with caplog.at_level(logging.WARNING):
        out = deep_cca({"a": u, "b": v}, ridge=0.0, n_components=3, state=state)
    assert out.failed == (("a", "b"),)
    assert (out.loss.item(), state.failures) == (0.0, 1)
    assert "a and b" in caplog.text
    bad = torch.full_like(u, torch.nan)
    deep_cca({"a": bad, "b": v}, n_components=3, state=state)
    with pytest.raises(FloatingPointError, match="found 3 in one epoch"):
        deep_cca({"a": bad, "b": v}, n_components=3, state=state)
    state.start_epoch()
    assert state.failures == 0


def test_running_covariances_come_closer_to_those_of_all_cells_than_a_batch_does() -> None:
    u, v = planted(n=4000, sizes=(5, 5))
    truth = canonical_correlations(u, v)
    state, errors = CCAState(momentum=0.9), {"running": [], "batch": []}
    for start in range(0, 4000, 40):
        batch = {"a": u[start : start + 40], "b": v[start : start + 40]}
        for kind, chosen in (("running", state), ("batch", None)):
            found = deep_cca(batch, state=chosen).correlations["a", "b"]
            errors[kind].append(float((found - truth).abs().mean()))
    assert np.mean(errors["running"][20:]) < 0.5 * np.mean(errors["batch"][20:])


def test_the_first_running_covariance_is_that_of_the_batch_and_a_bad_batch_leaves_no_trace() -> None:
    u, v = planted()
    state = CCAState(momentum=0.9)
    first = deep_cca({"a": u, "b": v}, state=state).correlations["a", "b"]
    torch.testing.assert_close(first, canonical_correlations(u, v))
    before = state.covariances["a", "b"].clone()
    assert deep_cca({"a": u * torch.nan, "b": v}, state=state).failed
    torch.testing.assert_close(state.covariances["a", "b"], before)
    with pytest.raises(ValueError, match="momentum"):
        CCAState(momentum=1.0)
