from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from smalti.losses import FAMILIES, SparseTarget, make_target, reconstruction_nll, take_rows
from smalti.nn import SparseRows

B, G = 9, 14
FEATURES = torch.tensor([12, 3, 0, 7, 8])
SCALE_SHAPES = {"per feature": (1, G), "per cell": (B, G), "vector": (G,)}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture
def x():
    out = torch.poisson(torch.rand(B, G) * 1.2)
    out[4] = 0  # a cell with no count at all
    return out


def rows_of(x) -> SparseRows:
    x = sp.csr_matrix(x.numpy())
    return SparseRows(
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int64)),
        torch.from_numpy(x.data.astype(np.float32)),
    )


def drawn(family, shape=(1, G)):
    return torch.randn(family.n_heads, B, G), torch.randn(*shape)


def loss_and_gradients(family, target, heads, log_scale, mask=None):
    heads, log_scale = heads.clone().requires_grad_(), log_scale.clone().requires_grad_()
    loss = reconstruction_nll(family, target, heads, log_scale, mask)
    (loss * torch.linspace(1, 2, len(loss))).sum().backward()
    zero = torch.zeros(())
    return loss.detach(), heads.grad, zero if log_scale.grad is None else log_scale.grad


def brute_force(family, x, heads, log_scale, mask=None):
    mask = torch.ones(x.shape, dtype=torch.bool) if mask is None else mask
    losses = family.nll(x, heads, log_scale)
    return torch.stack([row[m].mean() if m.any() else row.new_zeros(()) for row, m in zip(losses, mask, strict=True)])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SCALE_SHAPES)
def test_sparse_and_dense_targets_give_the_same_loss_and_gradients(family, x, shape, masked):
    heads, log_scale = drawn(family, SCALE_SHAPES[shape])
    mask = torch.rand(B, G) < 0.7 if masked else None
    sparse = loss_and_gradients(family, make_target(rows_of(x), None, G), heads, log_scale, mask)
    dense = loss_and_gradients(family, make_target(x, None, G), heads, log_scale, mask)
    torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dense[0], brute_force(family, x, heads, log_scale, mask), rtol=1e-4, atol=1e-5)


def test_chosen_rows_and_features_are_those_of_the_whole(family, x):
    heads, log_scale = drawn(family)
    keep = torch.tensor([True, False, True, True, True, False, False, True, True])
    expected = brute_force(family, x[keep][:, FEATURES], heads[:, keep][:, :, FEATURES], log_scale[:, FEATURES])
    for block in (x, rows_of(x)):
        target = take_rows(make_target(block, FEATURES, G), keep).target
        found = reconstruction_nll(family, target, heads[:, keep][:, :, FEATURES], log_scale[:, FEATURES])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sparse", [True, False])
def test_no_row_is_a_loss_of_no_cell(family, x, sparse):
    target = take_rows(make_target(rows_of(x) if sparse else x, None, G), torch.zeros(B, dtype=torch.bool)).target
    heads = torch.randn(family.n_heads, 0, G, requires_grad=True)
    out = reconstruction_nll(family, target, heads, torch.zeros(1, G))
    assert out.shape == (0,)
    out.sum().backward()


@pytest.mark.parametrize("sparse", [True, False])
def test_unmeasured_features_matter_neither_by_value_nor_by_prediction(family, x, sparse):
    heads, log_scale = drawn(family)
    mask = torch.rand(B, G) < 0.6
    other_x = torch.where(mask, x, x + 3)
    other_heads = torch.where(mask, heads, heads + 5)
    results = []
    for values, h in ((x, heads), (other_x, other_heads)):
        target = make_target(rows_of(values) if sparse else values, None, G)
        results.append(loss_and_gradients(family, target, h, log_scale, mask))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    assert (results[0][1][:, ~mask] == 0).all()


@pytest.mark.parametrize("sparse", [True, False])
def test_a_cell_without_a_measured_feature_costs_nothing_and_teaches_nothing(family, x, sparse):
    mask = torch.ones(B, G, dtype=torch.bool)
    mask[2] = False
    target = make_target(rows_of(x) if sparse else x, None, G)
    loss, grad, _ = loss_and_gradients(family, target, *drawn(family), mask)
    assert loss[2] == 0
    assert (grad[:, 2] == 0).all()
    assert (grad[:, 3] != 0).any()


def test_the_loss_is_a_mean_so_panels_of_any_width_weigh_the_same(family, x):
    heads, log_scale = drawn(family)
    once = reconstruction_nll(family, x, heads, log_scale)
    twice = reconstruction_nll(
        family, torch.cat([x, x], dim=1), torch.cat([heads, heads], dim=2), torch.cat([log_scale, log_scale], dim=1)
    )
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("sparse", [True, False])
def test_the_mean_over_all_feature_subsets_is_the_full_loss_and_gradient(family, sparse):
    g = 6
    x = torch.poisson(torch.rand(4, g) * 2)
    heads, log_scale = torch.randn(family.n_heads, 4, g, requires_grad=True), torch.randn(1, g)
    full = reconstruction_nll(family, x, heads, log_scale)
    expected = torch.autograd.grad(full.sum(), heads)[0]
    losses, grads = [], []
    for subset in combinations(range(g), 2):
        features = torch.tensor(subset)
        target = make_target(rows_of(x) if sparse else x, features, g)
        loss = reconstruction_nll(family, target, heads[:, :, features], log_scale[:, features])
        losses.append(loss.detach())
        grads.append(torch.autograd.grad(loss.sum(), heads)[0])
    torch.testing.assert_close(torch.stack(losses).mean(dim=0), full.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(grads).mean(dim=0), expected, rtol=1e-4, atol=1e-5)


def test_random_subsets_estimate_the_full_loss_without_bias(family, x):
    heads, log_scale = drawn(family)
    full = reconstruction_nll(family, x, heads, log_scale)
    draws = []
    for _ in range(600):
        features = torch.randperm(G)[:4]
        target = make_target(rows_of(x), features, G)
        draws.append(reconstruction_nll(family, target, heads[:, :, features], log_scale[:, features]))
    draws = torch.stack(draws)
    error = (draws.mean(dim=0) - full) / (draws.std(dim=0) / 600**0.5)
    assert float(error.abs().max()) < 5  # standard errors


# ------------------------------------------------------------------------ targets


def dense_of(target, n_rows, n_cols):
    if not isinstance(target, SparseTarget):
        return target
    return torch.zeros(n_rows, n_cols).index_put((target.row, target.col), target.value, accumulate=True)


@pytest.mark.parametrize("features", [None, FEATURES, torch.arange(G - 1, -1, -1), torch.tensor([], dtype=torch.int64)])
def test_targets_hold_the_features_in_the_order_asked_for(x, features):
    expected = x if features is None else x[:, features]
    for block in (x, rows_of(x)):
        found = dense_of(make_target(block, features, G), B, expected.shape[1])
        torch.testing.assert_close(found, expected)


def test_explicit_zeros_are_zeros():
    rows = SparseRows(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 0]), torch.tensor([0.0, 2.0, 0.0]))
    target = make_target(rows, None, 3)
    assert (target.row.tolist(), target.col.tolist(), target.value.tolist()) == ([0], [2], [2.0])


@pytest.mark.parametrize("keep", [[0, 8], [4], [], list(range(B)), [1, 2, 5]])
def test_taking_rows_renumbers_cells(x, keep):
    mask = torch.zeros(B, dtype=torch.bool)
    mask[keep] = True
    for block in (x, rows_of(x)):
        found = dense_of(take_rows(make_target(block, None, G), mask).target, len(keep), G)
        torch.testing.assert_close(found, x[mask])
