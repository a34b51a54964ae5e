from __future__ import annotations

import pytest
import torch
from torch import nn

from smalti.nn import Decoder, take_features
from smalti.train import RowAdamW
from smalti.train._row_adamw import clip_gradients

FEATURES = torch.tensor([1, 4, 5])


def problem(*, rows: bool, features=FEATURES, heads: int = 2):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(heads, 9, 4))
    part = take_features(weight, features, axis=1, row_gradients=rows)
    (part * torch.arange(part.numel()).view_as(part)).square().sum().backward()
    return weight


@pytest.mark.parametrize("heads", [1, 2])
def test_a_gradient_of_rows_is_the_dense_one(heads):
    sparse, dense = problem(rows=True, heads=heads), problem(rows=False, heads=heads)
    assert sparse.grad.is_sparse
    assert not dense.grad.is_sparse
    torch.testing.assert_close(sparse.grad.to_dense(), dense.grad)


def test_rows_along_the_first_axis_have_such_gradients_too():
    weight = nn.Parameter(torch.randn(9, 4))
    take_features(weight, FEATURES, axis=0, row_gradients=True).sum().backward()
    assert weight.grad.is_sparse
    expected = torch.zeros(9, 4)
    expected[FEATURES] = 1
    assert torch.equal(weight.grad.to_dense(), expected)


def test_all_rows_in_the_gradient_is_adamw():
    weights = [problem(rows=rows, features=torch.arange(9)) for rows in (True, False)]
    optimizers = [
        RowAdamW([weights[0]], lr=0.1, weight_decay=0.3),
        torch.optim.AdamW([weights[1]], lr=0.1, weight_decay=0.3),
    ]
    for step in range(4):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            torch.manual_seed(step)
            weight.grad = None
            part = take_features(weight, torch.arange(9), axis=1, row_gradients=isinstance(optimizer, RowAdamW))
            (part * torch.randn_like(part)).sum().backward()
            optimizer.step()
    torch.testing.assert_close(weights[0], weights[1])


def test_rows_that_were_not_drawn_stand_still_and_keep_their_moments():
    weight = problem(rows=True)
    before = weight.detach().clone()
    optimizer = RowAdamW([weight], lr=0.1)
    optimizer.step()
    moved = (weight != before).any(dim=2).any(dim=0)
    assert torch.equal(torch.nonzero(moved).ravel(), FEATURES)
    state = optimizer.state[weight]
    assert torch.equal(torch.nonzero(state["step"].view(2, 9)[0]).ravel(), FEATURES)
    assert torch.equal(torch.nonzero(state["exp_avg"].abs().sum(dim=(0, 2))).ravel(), FEATURES)


def test_weights_decay_in_the_long_run_as_if_all_decayed_at_every_step():
    rows, dense = (nn.Parameter(torch.ones(1, 40, 3)) for _ in range(2))
    sparse, usual = RowAdamW([rows], lr=0.01, weight_decay=0.5), torch.optim.AdamW([dense], lr=0.01, weight_decay=0.5)
    for _ in range(400):
        part = take_features(rows, torch.randperm(40)[:8].sort().values, axis=1, row_gradients=True)
        rows.grad, dense.grad = None, torch.zeros_like(dense)
        (0.0 * part.sum()).backward()
        sparse.step()
        usual.step()
    assert float(rows.log().mean()) == pytest.approx(float(dense.log().mean()), rel=0.02)


def test_a_row_travels_as_far_as_with_a_dense_gradient_that_is_zero_elsewhere():
    torch.manual_seed(1)
    rows, dense = (nn.Parameter(torch.zeros(1, 30, 2)) for _ in range(2))
    optimizers = {
        True: RowAdamW([rows], lr=0.01, weight_decay=0.0),
        False: RowAdamW([dense], lr=0.01, weight_decay=0.0),
    }
    for _ in range(2000):
        drawn = torch.randperm(30)[:3].sort().values
        for as_rows, optimizer in optimizers.items():
            weight = optimizer.param_groups[0]["params"][0]
            weight.grad = None
            take_features(weight, drawn, axis=1, row_gradients=as_rows).sum().backward()
            optimizer.step()
    assert float(rows.mean()) == pytest.approx(float(dense.mean()), rel=0.15)


def test_dense_and_sparse_gradients_share_a_norm():
    weight, bias = problem(rows=True), nn.Parameter(torch.zeros(3))
    bias.grad = torch.tensor([3.0, 4.0, 0.0])
    total = (weight.grad.to_dense().square().sum() + 25).sqrt()
    clip_gradients([weight, bias], 1.0)
    assert float((weight.grad.to_dense().square().sum() + bias.grad.square().sum()).sqrt()) == pytest.approx(
        1.0, rel=1e-4
    )
    torch.testing.assert_close(bias.grad, torch.tensor([3.0, 4.0, 0.0]) / total)


def test_a_state_is_taken_up_again():
    results = []
    for stop in (False, True):
        weight = problem(rows=True)
        optimizer = RowAdamW([weight], lr=0.1, fused=True)
        for step in range(4):
            if stop and step == 2:
                stored = optimizer.state_dict()
                optimizer = RowAdamW([weight], lr=0.1, fused=True)
                optimizer.load_state_dict(stored)
            torch.manual_seed(step)
            weight.grad = None
            take_features(
                weight, torch.randperm(9)[:3].sort().values, axis=1, row_gradients=True
            ).square().sum().backward()
            optimizer.step()
        results.append(weight.detach())
    assert torch.equal(*results)


def test_a_decoder_learns_the_features_it_drew():
    net = Decoder(3, 30, n_hidden=6, skip=True)
    layer = net.output(FEATURES, row_gradients=True)
    net(torch.randn(5, 3), output=layer).square().sum().backward()
    assert net.weight.grad.is_sparse
    assert net.skip_weight.grad.is_sparse
    assert torch.equal(net.weight.grad.coalesce().indices()[1], FEATURES)


def test_hooks_run_once_per_step_even_where_a_plain_adamw_exists():
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    weight, calls = problem(rows=True), []
    optimizer = RowAdamW([weight], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    assert calls == ["before", "after"]
