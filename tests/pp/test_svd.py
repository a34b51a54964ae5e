from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from smalti.pp import _svd
from smalti.pp._svd import CentredMatrix, right_vectors


def make(n, g, rng, *, sparse=True):
    y = rng.poisson(0.5, (n, g)) * rng.normal(1.0, 0.3, (n, g))
    batch = rng.integers(0, 3, n)
    mask = (rng.random((3, g)) < 0.8).astype(float)
    y = y * mask[batch]
    mean, weight = rng.normal(size=g), rng.uniform(0.5, 2, g)
    dense = (y - mean * mask[batch]) * weight
    return CentredMatrix(sp.csr_matrix(y) if sparse else y, batch, mask, mean, weight), dense


@pytest.mark.parametrize("sparse", [True, False])
def test_the_operator_is_the_dense_matrix(sparse, rng):
    matrix, dense = make(30, 20, rng, sparse=sparse)
    np.testing.assert_allclose(matrix.rows(0, 30), dense, atol=1e-12)
    operator = matrix.operator()
    np.testing.assert_allclose(operator.matmat(np.eye(20)), dense, atol=1e-12)
    np.testing.assert_allclose(operator.rmatmat(np.eye(30)), dense.T, atol=1e-12)
    np.testing.assert_allclose(matrix.gram(), dense.T @ dense, atol=1e-10)


@pytest.mark.parametrize(
    ("dense_entries", "gram_side"),
    [(10**9, 512), (0, 512), (0, 0)],
    ids=["dense", "gram", "arpack"],
)
def test_every_route_finds_the_singular_vectors_of_numpy(dense_entries, gram_side, monkeypatch, rng):
    monkeypatch.setattr(_svd, "DENSE_ENTRIES", dense_entries)
    monkeypatch.setattr(_svd, "GRAM_SIDE", gram_side)
    matrix, dense = make(60, 40, rng)
    v, s = right_vectors(matrix, 8, 0)
    _, expected_s, expected_vt = np.linalg.svd(dense)
    np.testing.assert_allclose(s, expected_s[:8], rtol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(v * expected_vt[:8].T, axis=0)), 1.0, atol=1e-6)
    assert (v[np.abs(v).argmax(axis=0), np.arange(8)] > 0).all()


def test_directions_without_variance_are_left_out(rng):
    low = sp.csr_matrix(rng.normal(size=(50, 3)) @ rng.normal(size=(3, 20)))
    matrix = CentredMatrix(low, np.zeros(50, np.int64), np.ones((1, 20)), np.zeros(20), np.ones(20))
    v, s = right_vectors(matrix, 10, 0)
    assert v.shape == (20, 3)
    assert s.shape == (3,)


def test_the_seed_decides_nothing_but_rounding(rng, monkeypatch):
    monkeypatch.setattr(_svd, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(_svd, "GRAM_SIDE", 0)
    matrix, _ = make(60, 40, rng)
    np.testing.assert_allclose(right_vectors(matrix, 5, 0)[0], right_vectors(matrix, 5, 1)[0], atol=1e-8)
