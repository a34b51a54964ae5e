"""Gates: one convention, closed forms against Monte Carlo, sparse against dense, groups against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smalti.nn import (
    GateSchedule,
    GlobalGate,
    GroupGate,
    LocalGate,
    SparseRows,
    expected_gate,
    from_shifted,
    open_probability,
)

MU = torch.tensor([-0.5, -0.1, 0.0, 0.3, 0.5, 1.0, 1.25])


def sparse(x: torch.Tensor) -> SparseRows:
    rows, columns = torch.nonzero(x, as_tuple=True)
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=len(x)).cumsum(0)])
    return SparseRows(indptr, columns, x[rows, columns])


def table(rng: np.random.Generator, n: int = 9, d: int = 6) -> torch.Tensor:
    x = rng.poisson(0.7, (n, d)).astype(np.float32)
    x[0] = 0
    return torch.from_numpy(x)


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_closed_forms_are_what_draws_average_to(sigma: float) -> None:
    torch.manual_seed(0)
    z = (MU + sigma * torch.randn(400_000, len(MU))).clamp(0, 1)
    # four standard errors of a mean of 400,000 numbers in [0, 1]
    assert torch.allclose((z > 0).float().mean(0), open_probability(MU, sigma), atol=4 * 0.5 / 632)
    assert torch.allclose(z.mean(0), expected_gate(MU, sigma), atol=4 * 0.5 / 632)


def test_parameters_of_published_code_are_shifted_by_one_half() -> None:
    shifted = MU - 0.5
    torch.manual_seed(1)
    theirs = (shifted + 0.5 + 0.5 * torch.randn(100_000, len(MU))).clamp(0, 1)
    assert torch.allclose(theirs.mean(0), expected_gate(from_shifted(shifted)), atol=0.007)


def test_one_draw_serves_all_cells_of_a_batch_and_none_is_made_in_evaluation(rng) -> None:
    gate, x = GlobalGate(6), torch.ones(5, 6)
    z = gate(x)
    assert (z == z[:1]).all()
    assert not torch.equal(z, gate(x))
    gate.eval()
    assert torch.equal(gate(x)[0], gate.mu.clamp(0, 1))


def test_the_price_is_a_sum_so_that_more_features_do_not_cheapen_the_others() -> None:
    gate, wider = GlobalGate(4), GlobalGate(8)
    with torch.no_grad():
        gate.mu.fill_(0.3)
        wider.mu.fill_(0.3)
    (a,) = torch.autograd.grad(gate.expected_open(), gate.mu)
    (b,) = torch.autograd.grad(wider.expected_open(), wider.mu)
    assert torch.allclose(a, b[:4])
    assert torch.isclose(wider.expected_open(), 2 * gate.expected_open())


@pytest.mark.parametrize("kind", ["global", "group", "local"])
def test_sparse_and_dense_rows_are_gated_alike_and_zeros_are_never_touched(kind: str, rng) -> None:
    x = table(rng)
    context = torch.from_numpy(rng.standard_normal((len(x), 3)).astype(np.float32))
    gate = {
        "global": GlobalGate(6),
        "group": GroupGate(torch.tensor([0, 0, 1, 1, -1, -1]), within=True),
        "local": LocalGate(6, 3),
    }[kind].eval()
    if kind == "local":
        torch.nn.init.normal_(gate.weight)
    arguments = (context,) if kind == "local" else ()
    dense, rows = gate(x, *arguments), gate(sparse(x), *arguments)
    assert torch.allclose(rows.to_dense(6), dense, atol=1e-6)
    assert torch.equal(rows.indices, sparse(x).indices)
    assert torch.equal(rows.indptr, sparse(x).indptr)


@pytest.mark.parametrize("kind", ["global", "local"])
def test_gradients_of_sparse_and_dense_rows_agree(kind: str, rng) -> None:
    x = table(rng)
    context = torch.from_numpy(rng.standard_normal((len(x), 3)).astype(np.float32))
    gate = (GlobalGate(6) if kind == "global" else LocalGate(6, 3)).eval()
    parameter = gate.mu if kind == "global" else gate.weight
    arguments = (context,) if kind == "local" else ()
    (a,) = torch.autograd.grad(gate(x, *arguments).square().sum(), parameter)
    (b,) = torch.autograd.grad(gate(sparse(x), *arguments).to_dense(6).square().sum(), parameter)
    assert torch.allclose(a, b, atol=1e-4)
    assert a.abs().sum() > 0


def test_projection_keeps_the_gradient_of_every_gate_alive() -> None:
    gate = GlobalGate(3)
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([5.0, -4.0, 0.4]))
    gate.project()
    assert gate.mu.tolist() == pytest.approx([1.25, -0.5, 0.4])
    torch.manual_seed(0)
    draws = torch.stack([torch.autograd.grad(gate.gates().sum(), gate.mu)[0] for _ in range(200)])
    assert (draws.sum(0) > 0).all()


def test_an_overlapping_feature_is_as_open_as_its_most_open_group() -> None:
    pairs = torch.tensor([[0, 0], [1, 0], [1, 1], [2, 1]])
    gate = GroupGate(pairs, n_features=5).eval()
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([0.2, 0.7, 0.9, -0.3]))
    by_hand = [0.2, max(0.2, 0.7), 0.7, 0.9, 0.0]  # the last two features have no group: groups of their own
    assert gate.gates().tolist() == pytest.approx(by_hand)
    assert gate.size.tolist() == [2, 2, 1, 1]
    p = open_probability(torch.tensor([0.2, 0.7, 0.9, -0.3]))
    price = 2**0.5 * (p[0] + p[1]) + p[2] + p[3]
    assert gate.expected_open().item() == pytest.approx(price.item(), rel=1e-6)


def test_disjoint_codes_and_pairs_mean_the_same() -> None:
    codes = torch.tensor([2, 0, 0, 2, 5])
    pairs = torch.stack([torch.arange(5), codes], dim=1)
    torch.manual_seed(0)
    a = GroupGate(codes).eval()
    torch.manual_seed(0)
    b = GroupGate(pairs, n_features=5).eval()
    assert torch.equal(a.gates(), b.gates())
    assert a.gates()[0] == a.gates()[3]


def test_gates_inside_groups_share_the_price() -> None:
    gate = GroupGate(torch.tensor([0, 0, 1]), within=True).eval()
    outer = (gate.size.float().sqrt() * open_probability(gate.mu)).sum()
    inner = open_probability(gate.within.mu).sum()
    assert torch.isclose(gate.expected_open(), 0.5 * (outer + inner))
    assert torch.allclose(gate.gates(), gate.group_gates()[[0, 0, 1]] * gate.within.gates())


def test_closing_keeps_the_widest_gates_and_holds_whatever_happens_to_parameters() -> None:
    gate = GlobalGate(5)
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([0.9, -0.1, 0.5, 0.7, 0.2]))
    gate.close(keep=2)
    assert gate.closed.tolist() == [False, True, True, False, True]
    with torch.no_grad():
        gate.mu.fill_(1.0)
    assert gate.gates()[[1, 2, 4]].abs().sum() == 0
    assert gate.expected_open().item() == pytest.approx(2 * open_probability(torch.tensor(1.0)).item())


def test_local_gates_start_half_open_and_see_no_gradient_of_the_context() -> None:
    gate = LocalGate(4, 3).eval()
    context = torch.randn(6, 3, requires_grad=True)
    assert torch.allclose(gate.gates(context), torch.full((6, 4), 0.5))
    torch.nn.init.normal_(gate.weight)
    gate.gates(context).sum().backward()
    assert context.grad is None


def test_the_price_of_local_gates_is_that_of_brute_force() -> None:
    torch.manual_seed(0)
    gate, context = LocalGate(4, 3, smooth=0.3).eval(), torch.randn(20, 3)
    torch.nn.init.normal_(gate.weight)
    p, z = gate.open_probability(context), gate.gates(context)
    distance = (context[:, None] - context[None]).square().sum(2).fill_diagonal_(torch.inf)
    apart = [(z[i] - z[j]).square().sum() for i in range(20) for j in torch.argsort(distance[i])[:5].tolist()]
    by_hand = p.sum(1).mean() + 0.3 * torch.stack(apart).mean()
    assert torch.isclose(gate.expected_open(context), by_hand, rtol=1e-4)
    assert gate.expected_open(context[:0]) == 0


def test_the_price_of_many_local_gates_is_estimated_without_bias() -> None:
    torch.manual_seed(0)
    gate, context = LocalGate(5000, 3, smooth=0.0).eval(), torch.randn(8, 3)
    torch.nn.init.normal_(gate.weight)
    exact = gate.open_probability(context).sum(1).mean()
    guess = torch.stack([gate.expected_open(context) for _ in range(50)]).mean()
    assert guess.item() == pytest.approx(exact.item(), rel=0.01)


def test_the_price_rises_from_the_warm_up_to_the_end_of_the_ramp() -> None:
    schedule = GateSchedule()
    assert [schedule.price_share(t) for t in (0.0, 0.19, 0.35, 0.5, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    with pytest.raises(ValueError, match="warmup"):
        GateSchedule(warmup=0.6)
