"""Gates of a modality as input layers apply them: exact where open, mean where closed, cheap where sparse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nn.test_gates import sparse

from smalti.nn import CountsInput, DrawnGate, FeatureGate, FrozenProjection, LocalGate, LogNormalised, ScaledInput


def projection(kind: str, g: int = 8, k: int = 3, row_standardize: bool = False) -> FrozenProjection:
    torch.manual_seed(0)
    layer = FrozenProjection(g, k, 2, kind=kind, row_standardize=row_standardize)
    for name, value in layer.named_buffers():
        if name in ("weight", "offset", "centre"):
            value.normal_()
    layer.target_sum.fill_(100.0)
    return layer


def values(g: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.poisson(1.0, (10, g)).astype(np.float32))
    x[:, 0] += 1
    return x, torch.from_numpy(rng.integers(2, size=10))


def gate(z: torch.Tensor, mean: torch.Tensor | None = None) -> DrawnGate:
    return DrawnGate(z, None, None, mean)


@pytest.mark.parametrize("kind", ["lognorm", "tfidf", "clr", "identity"])
@pytest.mark.parametrize("standardize", [False, True])
def test_open_gates_change_nothing_and_closed_ones_put_the_mean_in_place(kind: str, standardize: bool) -> None:
    layer, (x, batch) = projection(kind, row_standardize=standardize), values()
    mean = torch.rand(3, 8)
    for rows in (x, sparse(x)):
        assert torch.allclose(layer(rows, batch, gate(torch.ones(8), mean)), layer(rows, batch), atol=1e-4)
    z = torch.tensor([1.0, 0, 1, 0.3, 0, 1, 1, 1])
    mapped, _ = layer.map_values(x, batch)
    closed = mean[batch] + (mapped - mean[batch]) * z  # what the layer would see of a table gated by hand
    plain = FrozenProjection(8, 3, 2, kind="identity", row_standardize=standardize)
    plain.load_state_dict(layer.state_dict())
    expected = plain(closed, batch)
    assert torch.allclose(layer(x, batch, gate(z, mean)), expected, atol=1e-4)
    assert torch.allclose(layer(sparse(x), batch, gate(z, mean)), expected, atol=1e-4)


def test_only_gates_get_a_gradient_and_it_is_that_of_finite_differences() -> None:
    layer, (x, batch) = projection("lognorm").double(), values()
    mean = torch.rand(3, 8, dtype=torch.float64)
    z = torch.rand(8, dtype=torch.float64, requires_grad=True)

    def f(z: torch.Tensor) -> torch.Tensor:
        return layer(sparse(x.double()), batch, gate(z, mean))

    assert torch.autograd.gradcheck(f, z)
    assert not layer(x, batch).requires_grad


@pytest.mark.parametrize("make", [lambda: CountsInput(8, 4, log=True), lambda: LogNormalised(counts=True)])
def test_layers_that_read_features_multiply_normalised_values(make) -> None:
    layer, (x, batch) = make(), values()
    z = torch.rand(8)
    normalised = LogNormalised(counts=True)(x)
    expected = layer.linear(normalised * z) if hasattr(layer, "linear") else normalised * z
    assert torch.allclose(layer(x, batch, gate(z)), expected, atol=1e-5)
    rows = layer(sparse(x), batch, gate(z))
    rows = rows if isinstance(rows, torch.Tensor) else rows.to_dense(8)
    assert torch.allclose(rows, expected, atol=1e-5)


def test_standardised_features_are_gated_after_standardisation() -> None:
    layer, (x, batch) = ScaledInput(8, 2, log=False), values()
    layer.centre.uniform_()
    z = torch.rand(8)
    assert torch.allclose(layer(x, batch, gate(z)), layer(x, batch) * z)


def test_local_gates_act_on_stored_values_of_a_projection() -> None:
    layer, (x, batch) = projection("identity"), values()
    local = LocalGate(8, 3).eval()
    torch.nn.init.normal_(local.weight)
    context = torch.randn(10, 3)
    drawn = DrawnGate(None, local, context, None)
    expected = layer(x * local.gates(context), batch)
    assert torch.allclose(layer(sparse(x), batch, drawn), expected, atol=1e-4)


def test_training_ends_with_as_many_features_as_wanted_and_the_right_ones() -> None:
    torch.manual_seed(0)
    gate, useful = FeatureGate(100, keep=10), torch.arange(100) < 10
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.01)
    for step in range(600):
        gate.anneal(step / 600)
        z = gate().shared
        loss = (1 - z[useful]).square().sum() * 0.3 + 0.02 * torch.randn(100) @ z
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gate.project()
    closed = gate.shared.closed
    assert not closed[useful].any()
    assert closed[~useful].all()
    gate.train()
    assert torch.equal(gate().shared, gate().shared), "the last tenth has no noise"


def test_a_given_price_rises_as_the_schedule_says() -> None:
    gate = FeatureGate(5, penalty=0.4)
    lams = []
    for t in (0.1, 0.35, 0.7):
        gate.anneal(t)
        lams.append(float(gate.price))
    assert lams == pytest.approx([0, 0.2, 0.4])


def test_the_state_of_gates_fits_an_empty_module() -> None:
    a = FeatureGate(6, kind="sparse_group", groups=[0, 0, 1, -1, 1, -1], keep=3)
    a.shared.close(2)
    b = FeatureGate(6, kind="sparse_group", groups=[0, 0, 1, -1, 1, -1], keep=3)
    b.load_state_dict(a.state_dict())
    assert torch.equal(a.eval()().shared, b.eval()().shared)


def test_a_warm_start_orders_gates_by_rank_alone_and_groups_by_their_mean() -> None:
    relevance = torch.tensor([5.0, 0.1, 300.0, 2.0, 0.0, 1.0])
    gate = FeatureGate(6, keep=2)
    gate.warm_start(relevance)
    mu = gate.shared.mu.detach().clone()
    assert torch.equal(mu.argsort(), relevance.argsort())
    gate.warm_start(relevance.log1p() * 7)
    assert torch.allclose(gate.shared.mu, mu), "only the order counts"
    assert mu.mean() == pytest.approx(0.5, abs=1e-5)
    grouped = FeatureGate(6, kind="group", groups=[0, 0, 1, 1, -1, -1], keep=2)
    grouped.warm_start(torch.tensor([1.0, 1.0, 9.0, 0.0, 3.0, 0.0]))
    assert grouped.shared.mu.argsort(descending=True).tolist() == [1, 2, 0, 3]
    FeatureGate(6, kind="local", n_context=2).warm_start(relevance)  # nothing that all cells share
