from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

from smalti.planning._correlation import CorrelationLoss, total_correlation, train_correlation
from smalti.simulate import sparse_cca


def draw(n=2000, rho=(0.9, 0.7), p=20, seed=0):
    mdata = sparse_cca(n, n_features=(p, p), n_active=2, correlations=list(rho), random_state=seed)
    return [np.asarray(mdata[name].X, dtype=float) for name in mdata.mod]


def test_the_loss_is_minus_the_mean_canonical_correlation():
    x, y = draw(p=4)
    loss = CorrelationLoss(ridge=0.0)(torch.from_numpy(x), torch.from_numpy(y))
    u, v = CCA(n_components=4, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(u.T, v.T, strict=True)])
    assert -float(loss) == pytest.approx(expected, abs=1e-5)


def test_the_loss_does_not_change_under_invertible_maps():
    rng = np.random.default_rng(0)
    u, v = (torch.from_numpy(rng.normal(size=(100, 3))) for _ in range(2))
    mix = torch.from_numpy(rng.normal(size=(3, 3)))
    criterion = CorrelationLoss(ridge=0.0)
    assert float(criterion(u, v)) == pytest.approx(float(criterion(u @ mix + 5, v)))


def test_running_covariances_forget_at_the_decay_and_scale_the_gradient_back():
    rng = np.random.default_rng(0)
    batches = [[torch.from_numpy(rng.normal(size=(50, 2))) for _ in range(2)] for _ in range(2)]
    running = CorrelationLoss(0.75)
    running(*batches[0])
    covariances = [0.75 * a + 0.25 * b for a, b in zip(*([_cov(*b) for b in batches]), strict=True)]
    running(*batches[1])
    for found, expected in zip(running._past, covariances, strict=True):
        torch.testing.assert_close(found, expected)


def _cov(u, v):
    u, v = u - u.mean(0), v - v.mean(0)
    return [a.T @ b / (len(u) - 1) for a, b in ((u, u), (v, v), (u, v))]


def test_total_correlation_of_new_cells_counts_what_is_shared_and_not_chance():
    x, y = draw(6000)
    noise = np.random.default_rng(1).normal(size=y.shape)
    train, test = slice(0, 3000), slice(3000, None)
    assert total_correlation((x[train], y[train]), (x[test], y[test])) == pytest.approx(1.6, abs=0.1)
    assert abs(total_correlation((x[train], noise[train]), (x[test], noise[test]))) < 0.4


@pytest.mark.parametrize("decay", [None, 0.9])
def test_linear_encoders_reach_the_closed_form_from_batches(decay):
    x, y = draw(3000)
    trained = train_correlation(x[:2000], y[:2000], n_outputs=2, batch_size=128, n_steps=300, decay=decay)
    reached = total_correlation(trained.encode(x[:2000], y[:2000]), trained.encode(x[2000:], y[2000:]))
    assert reached > 0.95 * 1.6


def test_too_small_batches_are_refused():
    x, y = draw(100)
    with pytest.raises(ValueError, match="at least 8 cells"):
        train_correlation(x, y, n_outputs=4, batch_size=7)


def test_training_leaves_the_global_generator_alone():
    x, y = draw(100)
    before = torch.get_rng_state()
    train_correlation(x, y, n_outputs=1, n_steps=2, gated=True)
    assert torch.equal(before, torch.get_rng_state())
