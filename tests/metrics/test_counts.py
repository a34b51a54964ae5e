from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from smalti.metrics import _counts
from smalti.metrics._counts import count_closer


def brute_force(x, y, ix, iy):
    distance = cdist(x, y)
    true = distance[ix, iy]
    closer = [(distance[ix] < true[:, None]).sum(1), (distance[:, iy] < true).sum(0)]
    tied = [(distance[ix] == true[:, None]).sum(1) - 1, (distance[:, iy] == true).sum(0) - 1]
    return np.column_stack(closer), np.column_stack(tied)


def check(x, y, ix=None, iy=None, chunk_size=37):
    ix = np.arange(len(x)) if ix is None else ix
    iy = np.arange(len(y)) if iy is None else iy
    found = count_closer(x, y, ix, iy, chunk_size=chunk_size)
    closer, tied = brute_force(x, y, ix, iy)
    np.testing.assert_array_equal(found.closer, closer)
    np.testing.assert_array_equal(found.tied, tied)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 2, 8, 50, 300])
def test_counts_equal_those_of_the_full_matrix(dtype, d, make_pairs):
    x, y, _ = make_pairs(150, d, noise=1 + d / 50, dtype=dtype)
    assert check(x, y).closer.any()


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 100, 101, 1000])
def test_tiles_of_any_size_give_the_same_counts(chunk_size, make_pairs):
    x, y, _ = make_pairs(101, 5)
    check(x, y, chunk_size=chunk_size)


def test_searches_in_galleries_of_different_size(rng):
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(90, 4))
    ix, iy = rng.permutation(60)[:25], rng.permutation(90)[:25]
    check(x, y, ix, iy)


@pytest.mark.parametrize("shift", [1e3, 1e6, -1e9])
def test_a_far_origin_does_not_cost_precision(shift, rng):
    x = rng.normal(size=(80, 6))
    check(x + shift, x + 0.5 * rng.normal(size=x.shape) + shift)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e-12, 1e12, 1e30, 1e100])
def test_any_scale_is_counted_exactly(scale, rng):
    x = rng.normal(size=(80, 6))
    check(scale * x, scale * (x + rng.normal(size=x.shape)))


def test_outliers_do_not_spoil_the_rest(rng):
    x = rng.normal(size=(80, 6))
    y = x + rng.normal(size=x.shape)
    x[3], y[11] = 1e7, -1e5
    check(x, y)


def test_differences_below_single_precision_are_decided(rng):
    base = rng.normal(size=(1, 6))
    x, y = base + 1e-9 * rng.normal(size=(80, 6)), base + 1e-9 * rng.normal(size=(80, 6))
    x[0] += 5
    counts = check(x, y)
    assert 0.3 < counts.closer[1:].mean() / 80 < 0.7


@pytest.mark.parametrize("copies", [2, 10, 80])
def test_copies_tie_and_are_not_closer(copies, rng):
    x, y = (np.repeat(rng.normal(size=(80 // copies, 6)).astype(np.float32), copies, axis=0) for _ in range(2))
    assert (check(x, y).tied >= copies - 1).all()


def test_distances_on_a_grid_tie_exactly(rng):
    x, y = rng.integers(0, 3, size=(2, 120, 3)).astype(np.float64)
    assert check(x, y).tied.mean() > 5


def test_mirror_images_tie_exactly(rng):
    x = np.zeros((50, 4))
    half = rng.normal(size=(25, 4))
    counts = check(x, np.concatenate([half, -half]))
    assert (counts.tied[:, 0] >= 1).all()


def test_a_collapsed_embedding_has_only_ties():
    x, y = np.full((70, 3), 0.1, np.float32), np.full((70, 3), 0.7, np.float32)
    counts = check(x, y)
    assert (counts.closer == 0).all()
    assert (counts.tied == 69).all()


def test_the_same_embedding_twice_has_nothing_closer(make_pairs):
    x, _, _ = make_pairs()
    assert (check(x, x).closer == 0).all()


def test_one_cell_has_no_competitor():
    counts = check(np.ones((1, 2)), np.zeros((1, 2)))
    assert counts.closer.tolist() == counts.tied.tolist() == [[0, 0]]


def test_many_undecided_pairs_are_computed_in_pieces(monkeypatch, rng):
    monkeypatch.setattr("smalti.metrics._counts._GATHER", 12)
    monkeypatch.setattr("smalti.metrics._counts._DENSE_SHARE", 1.0)
    x, y = rng.integers(0, 3, size=(2, 60, 3)).astype(np.float32)
    check(x, y)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_few_pairs_need_double_precision(shift, rng, monkeypatch):
    undecided = []

    def spy(x, y, near, limit, side):
        undecided.append(np.count_nonzero(near))
        return decide(x, y, near, limit, side)

    decide = _counts._decide
    monkeypatch.setattr(_counts, "_decide", spy)
    x = rng.normal(size=(300, 20))
    check(x + shift, x + rng.normal(size=x.shape) + shift)
    assert sum(undecided) < 0.02 * 2 * 300**2
