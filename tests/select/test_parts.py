"""Parts of selectors against brute force and known distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _planted import moons
from scipy.stats import chi2

from smalti._gate_report import diagnose
from smalti.losses import canonical_correlations
from smalti.select._graph import (
    affinity,
    differential_smoothness,
    gated_gram,
    inverse_operator,
    shared_smoothness,
    smoothness,
    symmetric,
)
from smalti.select._path import jaccard, longest_stretch
from smalti.select._prune import leave_one_out, prune, prune_groups
from smalti.select._warm_start import dependence, dependence_across, legendre_features


def tensor(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float64))


def test_the_kernel_is_that_of_a_double_loop() -> None:
    x = tensor(12, 4)
    distance = [[float(((a - b) ** 2).sum()) for b in x] for a in x]
    scale = np.sort(distance, axis=1)[:, 1]
    by_hand = np.exp(-np.array(distance) / (2 * torch.from_numpy(scale).median().item()))
    assert np.allclose(affinity(x @ x.T, 2, 2.0).numpy(), by_hand)
    assert torch.isfinite(affinity(torch.zeros(5, 5), 2, 2.0)).all()


def test_scores_are_the_traces_of_their_formulas() -> None:
    x, y = tensor(15, 4), tensor(15, 3, 1)
    gx, gy = x @ x.T, y @ y.T
    k = affinity(gx, 3, 2.0)
    walk = k / k.sum(1, keepdim=True)
    assert torch.isclose(smoothness(gx, 3, 2.0, 2), torch.trace(x.T @ walk @ walk @ x) / 15)
    lx, ly = symmetric(affinity(gx, 3, 2.0)), symmetric(affinity(gy, 3, 2.0))
    both = lx @ ly + ly @ lx
    by_hand = (torch.trace(x.T @ both @ x) + torch.trace(y.T @ both @ y)) / 15
    assert torch.isclose(shared_smoothness(gx, gy, 3, 2.0), by_hand)
    inverse = inverse_operator(gy, 3, 2.0, 0.1)
    q = inverse @ lx @ inverse
    q = q / torch.linalg.matrix_norm(q, 2)
    assert torch.isclose(differential_smoothness(gx, inverse, 3, 2.0), torch.trace(x.T @ q @ x) / 15, rtol=0.02)


def test_leaving_out_closed_features_changes_neither_the_score_nor_its_gradient() -> None:
    x = tensor(30, 40)
    start = tensor(1, 40, 3)[0]  # half of them below zero
    found = []
    for gram in (gated_gram, lambda x, z: (x * z) @ (x * z).T):
        mu = start.clone().requires_grad_()
        score = smoothness(gram(x, mu.clamp(0, 1)), 3, 2.0, 2)
        score.backward()
        found.append((score.detach(), mu.grad))
    assert torch.isclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1])
    assert (found[0][1][start > 0] != 0).any()
    assert (found[0][1][start < 0] == 0).all()


def test_the_symmetric_kernel_has_eigenvalues_in_the_unit_interval() -> None:
    x = tensor(40, 5)
    values = torch.linalg.eigvalsh(symmetric(affinity(x @ x.T, 5, 2.0)))
    assert values.min() > -1e-9
    assert values.max() <= 1 + 1e-9


def test_polynomials_of_ranks_are_orthonormal_even_with_ties() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.standard_normal(500), rng.poisson(0.3, 500), rng.integers(2, size=500)], axis=1)
    phi, rank = legendre_features(x.astype(np.float32))
    assert rank.tolist()[0] == 4
    assert rank.tolist()[2] == 1
    for j in range(3):
        gram = phi[:, j].T @ phi[:, j] / 500
        assert np.allclose(gram, np.diag((np.arange(4) >= 4 - rank[j]).astype(float)), atol=1e-4)


@pytest.mark.parametrize("binary", [False, True])
def test_independent_features_pass_the_test_of_dependence_as_often_as_they_should(binary: bool) -> None:
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(40):
        x = rng.standard_normal((200, 12))
        x = (x > 0).astype(float) if binary else x
        false += dependence(x.astype(np.float32)).max() > 1
    assert false <= chi2.isf(1e-4, 2) / 2 + 40 * 0.05 + 3  # 2 expected


def test_dependence_sees_what_correlation_does_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 20)).astype(np.float32)
    x[:, 1] = x[:, 0] ** 2 + 0.1 * x[:, 1]
    statistic = dependence(x)
    assert (statistic[:2] > 1).all()
    assert (statistic[2:] < 1).all()
    partner = dependence(x[:, :1], x[:, 1:])
    assert partner[0] > 1


def test_pruning_removes_false_features_and_keeps_true_ones() -> None:
    x = torch.from_numpy(moons(300, 6, 0).astype(np.float32))
    keep, z = prune((x - x.mean(0)) / x.std(0), 52)
    assert keep.tolist() == [0, 1]
    assert len(z) == 8
    empty, _ = prune(torch.from_numpy(np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)), 50)
    assert len(empty) == 0


def test_pruning_keeps_groups_that_are_smooth_together_though_no_feature_is_alone() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(12), 6) * 3  # codes need not be consecutive
    x = rng.standard_normal((300, 72))
    x[:, codes < 12] = 0.5 * rng.standard_normal((300, 1)) + x[:, codes < 12]
    x = torch.from_numpy((x / x.std(0)).astype(np.float32))
    assert prune_groups(x, codes, 300).tolist() == [0, 3, 6, 9]
    assert len(prune_groups(x[:, codes >= 12], codes[codes >= 12], 300)) == 0
    permuted = np.random.default_rng(1).permutation(72)
    assert prune_groups(x[:, permuted], codes[permuted], 300).tolist() == [0, 3, 6, 9]


def test_dependence_across_is_that_of_either_side() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((150, 300)).astype(np.float32), rng.standard_normal((150, 40)).astype(np.float32)
    y[:, 3] = x[:, 270] ** 2
    a, b = dependence_across(x, y)
    assert np.allclose(a, dependence(x, y))
    assert np.allclose(b, dependence(y, x), rtol=1e-4)
    assert np.flatnonzero(a > 1).tolist() == [270]
    assert np.flatnonzero(b > 1).tolist() == [3]


def test_leaving_one_feature_out_is_drawing_the_graph_without_it() -> None:
    x = tensor(80, 5).float()
    z = leave_one_out(x, seed=1)
    rest = x[:, [0, 1, 3, 4]]
    distance = torch.cdist(rest, rest).fill_diagonal_(torch.inf)
    near = distance.topk(10, largest=False).indices
    column = x[:, 2] - x[:, 2].mean()
    order = torch.from_numpy(np.argsort(np.random.default_rng(1).random((80, 20_000)), axis=0))
    null = column[order]
    reference = (null * null[near].mean(1)).mean(0)
    statistic = (column * column[near].mean(1)).mean()
    assert z[2] == pytest.approx(float((statistic - reference.mean()) / reference.std()), abs=0.03)
    assert leave_one_out(x + 5.0, seed=1) == pytest.approx(z, abs=1e-2)


def test_the_deep_score_is_the_canonical_correlation() -> None:
    from sklearn.cross_decomposition import CCA

    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 2))
    x, y = z + 0.5 * rng.standard_normal((300, 2)), z[:, ::-1] + rng.standard_normal((300, 2))
    a, b = CCA(2).fit_transform(x, y)
    expected = np.mean([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)])
    found = canonical_correlations(torch.from_numpy(x).float(), torch.from_numpy(y).float(), ridge=1e-6).mean()
    assert float(found) == pytest.approx(expected, abs=0.01)


def test_the_longest_stretch_of_equal_selections_wins_and_empty_ones_never() -> None:
    full, some, few, none = (np.arange(20) < k for k in (20, 10, 3, 0))
    assert longest_stretch([full, full, some, some, some, few, none, none, none, none]) == 2
    assert longest_stretch([some, few]) == 0
    assert jaccard(some, few) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("p", "word"), [([0.1, 0.2], "closed"), ([0.9, 0.99], "open"), ([0.6, 0.3, 0.7, 0.98], "stuck")]
)
def test_all_closed_all_open_and_stuck_gates_are_named_with_a_remedy(p: list[float], word: str) -> None:
    p = np.array(p)
    message = diagnose("a", p, p > 0.5, "lam=1")
    assert word in message
    assert "price" in message
    assert message.count(".") <= 2
    good = np.array([0.99, 0.99, 0.02, 0.3])
    assert diagnose("a", good, good > 0.5, "lam=1") is None
