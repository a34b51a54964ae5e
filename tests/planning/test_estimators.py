from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from smalti.planning._estimators import (
    correlation,
    deflate,
    leading,
    refit,
    ridge_cca,
    soft_threshold_cca,
    truncated_cca,
    warm_start,
)
from smalti.simulate import sparse_cca


def draw(n=400, p=60, k=3, rho=0.9, seed=0):
    mdata = sparse_cca(n, n_features=(p, p), n_active=k, correlations=rho, random_state=seed)
    x, y = (np.asarray(mdata[name].X, dtype=float) for name in mdata.mod)
    x, y = ((z - z.mean(0)) / z.std(0) for z in (x, y))
    return x, y, [mdata[name].varm["canonical"][:, 0] for name in mdata.mod]


def cosine(a, b):
    return abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)


def test_cca_without_a_ridge_is_that_of_scikit_learn():
    x, y, _ = draw(n=500, p=12)
    ours = ridge_cca(x, y, ridge=0)
    theirs = CCA(n_components=1, scale=False, max_iter=5000, tol=1e-10).fit(x, y)
    assert cosine(ours.x, theirs.x_rotations_[:, 0]) > 1 - 1e-6
    assert cosine(ours.y, theirs.y_rotations_[:, 0]) > 1 - 1e-6


@pytest.mark.parametrize("method", [ridge_cca, soft_threshold_cca, truncated_cca])
def test_every_estimator_finds_the_planted_pair_when_cells_are_many(method):
    x, y, truth = draw(n=4000, p=40)
    pair = method(x, y)
    assert cosine(pair.x, truth[0]) > 0.97
    assert cosine(pair.y, truth[1]) > 0.97


def test_the_sparse_estimators_do_with_fewer_cells_than_ridge():
    x, y, truth = draw(n=250, p=150, k=3)
    assert cosine(truncated_cca(x, y, n_active=(3, 3)).x, truth[0]) > 0.99
    assert cosine(ridge_cca(x, y).x, truth[0]) < 0.9


def test_truncated_cca_keeps_exactly_the_features_it_was_allowed():
    x, y, _ = draw()
    pair = truncated_cca(x, y, n_active=(3, 5))
    assert ((pair.x != 0).sum(), (pair.y != 0).sum()) == (3, 5)


def test_the_number_of_features_is_found_on_held_out_cells():
    x, y, truth = draw(n=1500, p=80, k=8)
    found = (truncated_cca(x, y).x != 0).sum()
    assert 4 <= found <= 16
    assert cosine(truncated_cca(x, y).x, truth[0]) > 0.9


def test_scaling_and_order_of_features_do_not_matter_to_truncated_cca():
    x, y, _ = draw()
    order = np.random.default_rng(1).permutation(x.shape[1])
    plain, other = truncated_cca(x, y, n_active=(3, 3)), truncated_cca(x[:, order], -y, n_active=(3, 3))
    assert cosine(plain.x[order], other.x) > 1 - 1e-9


def test_the_leading_pair_is_that_of_a_singular_value_decomposition():
    matrix = np.random.default_rng(0).normal(size=(90, 120)) + 3 * np.outer(np.ones(90), np.ones(120)) / 10
    u, s, vt = np.linalg.svd(matrix)
    a, b = leading(matrix)
    assert cosine(a, u[:, 0]) > 1 - 1e-8
    assert a @ matrix @ b == pytest.approx(s[0])


def test_the_warm_start_does_not_fail_without_any_signal():
    x = np.random.default_rng(0).normal(size=(2, 50, 30))
    pair = warm_start(x[0].T @ x[1] / 50, 50)
    assert np.isfinite(pair.x).all()


def test_a_refit_of_nothing_is_zero_and_correlates_with_nothing():
    x, y, _ = draw(n=50)
    pair = refit(x, y, (np.zeros(60, dtype=bool), np.ones(60, dtype=bool)))
    assert correlation(x, y, pair) == 0.0


def test_deflated_values_are_uncorrelated_with_the_score():
    x, _, truth = draw()
    np.testing.assert_allclose(deflate(x, truth[0]).T @ (x @ truth[0]), 0, atol=1e-9)
