from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from smalti.pp import _svd
from smalti.pp._centred import CentredMatrix
from smalti.pp._svd import block_lanczos, right_vectors


class Given:
    """A matrix in two blocks."""

    def __init__(self, x):
        self.x, self.shape = x, x.shape

    def blocks(self):
        half = self.shape[0] // 2
        for at in (slice(0, half), np.arange(half, self.shape[0])):
            yield at, self.x[at]

    packed = blocks


def make(n, g, rng, *, sparse=True):
    y = rng.poisson(0.5, (n, g)) * rng.normal(1.0, 0.3, (n, g))
    batch = rng.integers(0, 3, n)
    mask = (rng.random((3, g)) < 0.8).astype(float)
    y = (y * mask[batch]).astype(np.float32)
    mean, weight = rng.normal(size=g), rng.uniform(0.5, 2, g)
    dense = (y - mean * mask[batch]) * weight
    return CentredMatrix(Given(sp.csr_matrix(y) if sparse else y), batch, mask, mean, weight), dense


def plain(x):
    n, g = x.shape
    return CentredMatrix(Given(x), np.zeros(n, np.int64), np.ones((1, g)), np.zeros(g), np.ones(g))


@pytest.mark.parametrize("sparse", [True, False])
def test_products_are_those_of_the_dense_matrix(sparse, rng):
    matrix, dense = make(30, 20, rng, sparse=sparse)
    np.testing.assert_allclose(matrix.dense(), dense, atol=1e-12)
    np.testing.assert_allclose(matrix.times(np.eye(20), exact=True), dense, atol=1e-12)
    np.testing.assert_allclose(matrix.times(np.eye(20)), dense, atol=1e-5)
    np.testing.assert_allclose(matrix.transposed_times(np.eye(30)), dense.T, atol=1e-5)
    np.testing.assert_allclose(matrix.normal_times(np.eye(20)), dense.T @ dense, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(matrix.gram(), dense.T @ dense, atol=1e-10)


@pytest.mark.parametrize(
    ("dense_entries", "gram_side", "tolerance"),
    [(10**9, 50, 1e-10), (0, 50, 1e-5), (0, 0, 1e-4)],
    ids=["dense", "gram", "lanczos"],
)
@pytest.mark.parametrize("shape", [(600, 48), (48, 600)])
def test_every_route_finds_the_singular_vectors_of_numpy(shape, dense_entries, gram_side, tolerance, monkeypatch, rng):
    monkeypatch.setattr(_svd, "DENSE_ENTRIES", dense_entries)
    monkeypatch.setattr(_svd, "GRAM_SIDE", gram_side)
    matrix, dense = make(*shape, rng)
    v, s = right_vectors(matrix, 8, 0)
    _, expected_s, expected_vt = np.linalg.svd(dense)
    np.testing.assert_allclose(s, expected_s[:8], rtol=tolerance)
    np.testing.assert_allclose(np.abs(np.sum(v * expected_vt[:8].T, axis=0)), 1.0, atol=tolerance)
    assert (v[np.abs(v).argmax(axis=0), np.arange(8)] > 0).all()


@pytest.mark.parametrize("cells_first", [True, False])
def test_signal_in_noise_is_found_to_the_angle_and_noise_nearly_so(cells_first, rng):
    # 600 by 3,000, none of the short cuts: ten directions stand out, the others lie in the noise, hardly apart
    low = (rng.normal(size=(600, 10)) * np.linspace(9, 4, 10)) @ rng.normal(size=(10, 3000)) * 0.05
    x = (low + rng.normal(size=(600, 3000))).astype(np.float32)
    x = x if cells_first else np.ascontiguousarray(x.T)
    v, s = right_vectors(plain(sp.csr_matrix(x)), 30, 0)
    _, expected_s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(s, expected_s[:30], rtol=1e-4)
    signal = np.linalg.svd(vt[:10] @ v[:, :10], compute_uv=False)  # cosines of angles between subspaces
    assert signal.min() > 1 - 1e-8
    assert np.linalg.svd(vt[:30] @ v, compute_uv=False).min() > 0.99
    np.testing.assert_allclose(v.T @ v, np.eye(v.shape[1]), atol=1e-10)


def test_the_number_of_products_is_bounded(monkeypatch):
    monkeypatch.setattr(_svd, "TOLERANCE", 0.0)
    calls = []

    def product(block):
        calls.append(block.shape)
        return block * np.linspace(1.0, 1.001, 2000)[:, None]  # values that no iteration tells apart

    block_lanczos(product, 2000, 30, 0)
    assert len(calls) == _svd.MAX_BLOCKS
    assert set(calls) == {(2000, 16)}


@pytest.mark.parametrize("shape", [(50, 20), (700, 900)])
def test_directions_without_variance_are_left_out(shape, rng):
    low = rng.normal(size=(shape[0], 3)) @ rng.normal(size=(3, shape[1]))
    v, s = right_vectors(plain(sp.csr_matrix(low)), 10, 0)
    assert v.shape == (shape[1], 3)
    assert s.shape == (3,)


def test_the_seed_decides_nothing_but_rounding(rng, monkeypatch):
    monkeypatch.setattr(_svd, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(_svd, "GRAM_SIDE", 0)
    matrix, _ = make(600, 48, rng)
    np.testing.assert_allclose(right_vectors(matrix, 5, 0)[0], right_vectors(matrix, 5, 1)[0], atol=1e-4)
