from __future__ import annotations

import numpy as np
import pytest
import torch

from smalti.nn import SparseRows, WarmEncoder, run_together
from smalti.pp import LinearCCA


def test_outputs_have_unit_length():
    net = WarmEncoder(6, 4, unit=True)
    for n in (0, 1, 9):
        torch.testing.assert_close(net(torch.randn(n, 6)).norm(dim=1), torch.ones(n))


@pytest.mark.parametrize("k", [2, 4, 7])
def test_a_warm_start_is_the_given_map_when_the_network_is_silent(k):
    net = WarmEncoder(6, 4, unit=True).eval()
    weight, mean, x = torch.randn(6, k), torch.randn(6), torch.randn(9, 6)
    net.warm_start(weight, mean)
    with torch.no_grad():
        net.head.weight.zero_()
    expected = torch.zeros(9, 4)
    expected[:, : min(k, 4)] = ((x - mean) @ weight)[:, :4]
    torch.testing.assert_close(net(x), torch.nn.functional.normalize(expected, dim=1))


def test_a_warm_start_from_linear_cca_matches_cells_as_linear_cca_does(rng):
    n = 200
    shared = rng.normal(size=(n, 3))
    inputs = {m: shared @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6)) + 2 for m in ("a", "b")}
    cca = LinearCCA().fit(inputs, dict.fromkeys(inputs, np.arange(n)))
    embedded = cca.transform(inputs)
    out = {}
    for name, x in inputs.items():
        net = WarmEncoder(6, 10, unit=True).eval()
        net.warm_start(
            torch.from_numpy((cca.axes[name] * cca.correlations).astype(np.float32)),
            torch.from_numpy(cca.means[name].astype(np.float32)),
        )
        with torch.no_grad():
            net.head.weight.zero_()
            out[name] = net(torch.from_numpy(x.astype(np.float32))).numpy()
        unit = embedded[name] / np.linalg.norm(embedded[name], axis=1, keepdims=True)
        np.testing.assert_allclose(out[name][:, : unit.shape[1]], unit, atol=1e-4)
    cosine = (out["a"] * out["b"]).sum(axis=1)
    strangers = (out["a"] * np.roll(out["b"], 1, axis=0)).sum(axis=1)
    assert cosine.mean() > strangers.mean() + 0.3


def test_training_departs_from_the_warm_start_little_at_first():
    net = WarmEncoder(20, 8, unit=True).eval()
    weight, x = torch.randn(20, 8), torch.randn(50, 20)
    net.warm_start(weight, torch.zeros(20))
    linear = torch.nn.functional.normalize(x @ weight, dim=1)
    assert float((net(x).detach() * linear).sum(dim=1).min()) > 0.95


def test_both_paths_see_the_same_dropped_out_input():
    net = WarmEncoder(40, 4, input_dropout=0.5, unit=True).train()
    seen = []
    for part in (net.linear, net.body):
        part.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    net(torch.ones(8, 40))
    assert torch.equal(seen[0], seen[1])
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}


def test_both_paths_learn_after_a_warm_start():
    net = WarmEncoder(6, 4, unit=True)
    net.warm_start(torch.randn(6, 3), torch.randn(6))
    target = torch.nn.functional.normalize(torch.randn(30, 4), dim=1)
    (net(torch.randn(30, 6)) * target).sum().backward()
    for parameter in (net.linear.weight, net.head.weight, net.head.bias, net.body.blocks[0].linear.weight):
        assert float(parameter.grad.abs().sum()) > 0


def test_an_input_that_maps_to_nothing_has_a_finite_gradient():
    net = WarmEncoder(6, 4, unit=True).eval()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
    x = torch.zeros(2, 6, requires_grad=True)
    net(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("n_hidden", [None, 8])
def test_without_unit_length_training_starts_from_the_given_map(n_hidden):
    torch.manual_seed(0)
    encoder = WarmEncoder(5, 4, n_hidden=n_hidden).eval()
    weight, mean, x = torch.randn(5, 3), torch.randn(5), torch.randn(20, 5)
    encoder.warm_start(weight, mean)
    if encoder.head is not None:
        with torch.no_grad():
            encoder.head.weight.zero_()
    torch.testing.assert_close(encoder(x), torch.cat([(x - mean) @ weight, torch.zeros(20, 1)], dim=1))


@pytest.mark.parametrize("n_out", [2, 5])
def test_sparse_rows_and_dense_rows_are_mapped_alike(n_out):
    weight, mean, x = torch.randn(4, 3), torch.randn(4), torch.randn(6, 4)
    encoder = WarmEncoder(4, n_out, n_hidden=None, sparse=True)
    encoder.warm_start(weight, mean)
    expected = torch.zeros(6, n_out)
    k = min(3, n_out)
    expected[:, :k] = ((x - mean) @ weight)[:, :k]
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)
    rows = SparseRows(torch.arange(0, 25, 4), torch.arange(4).repeat(6), x.ravel())
    torch.testing.assert_close(encoder(rows), expected, rtol=1e-4, atol=1e-5)


def test_a_network_refuses_sparse_rows_at_construction():
    with pytest.raises(ValueError, match="linear map alone"):
        WarmEncoder(4, 2, sparse=True)


def test_weights_that_are_not_finite_are_left_for_whoever_checks_losses():
    encoder = WarmEncoder(3, 2, n_hidden=None)
    with torch.no_grad():
        encoder.linear.weight[0, 0] = torch.nan
    encoder.warm_start(torch.ones(3, 2), torch.zeros(3))
    assert bool(encoder.linear.weight.isnan().any())


@pytest.mark.parametrize("unit", [False, True])
def test_encoders_run_together_give_what_each_gives_and_the_same_gradients(unit):
    encoders = [WarmEncoder(7, 3, n_hidden=5, unit=unit) for _ in range(3)]
    for encoder in encoders:
        for parameter in encoder.parameters():  # norms that start at one hide mistakes
            torch.nn.init.normal_(parameter)
    x, weight = torch.randn(6, 7), torch.randn(6, 3, 3)
    gradients = []
    for out in (torch.stack([encoder(x) for encoder in encoders], dim=1), run_together(encoders, x)):
        gradients.append([out.detach(), *torch.autograd.grad((out * weight).sum(), encoders[1].parameters())])
    torch.testing.assert_close(*gradients)


def test_encoders_of_another_kind_run_one_by_one():
    encoders = [WarmEncoder(7, 3, n_hidden=None), WarmEncoder(7, 3, n_hidden=None)]
    x = torch.randn(4, 7)
    assert torch.equal(run_together(encoders, x), torch.stack([encoder(x) for encoder in encoders], dim=1))
