from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from smalti.metrics import argmax_match, matching_matrix, matching_score, soft_match


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_matrix(x, y, k):
    """Equation 16 with sets, cell by cell."""
    x, y = unit(x.astype(float)), unit(y.astype(float))

    def nearest(points, queries):
        return [set(row) for row in np.argsort(cdist(queries, points), axis=1)[:, :k]]

    x_in_y, y_in_y, x_in_x, y_in_x = nearest(y, x), nearest(y, y), nearest(x, x), nearest(x, y)
    matrix = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        for j in range(len(y)):
            both = len(x_in_y[i] & y_in_y[j]) + len(x_in_x[i] & y_in_x[j])
            matrix[i, j] = both / (4 * k - both)
    return matrix


@pytest.mark.parametrize("k", [1, 2, 10, 40])
@pytest.mark.parametrize("d", [3, 30])  # tree and brute-force search of scikit-learn
def test_the_matrix_follows_the_equation(k, d, make_pairs):
    x, y, _ = make_pairs(60, d)
    y = y[:45]
    expected = brute_matrix(x, y, k)
    found = matching_matrix(x, y, k=k, normalize=False)
    assert sp.issparse(found)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)
    np.testing.assert_allclose(
        matching_matrix(x, y, k=k).toarray(), expected / expected.sum(axis=1, keepdims=True), atol=1e-12
    )


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_score_is_the_mean_true_weight(k, make_pairs):
    x, y, _ = make_pairs(70)
    expected = brute_matrix(x, y, k)
    assert matching_score(x, y, k=k) == pytest.approx((expected.diagonal() / expected.sum(axis=1)).mean(), abs=1e-12)


@pytest.mark.data
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 10, 20])
def test_the_score_equals_the_protocol(protocol, k, dtype, make_pairs):
    for n, d in ((100, 5), (600, 20)):
        x, y, _ = make_pairs(n, d, dtype=dtype)
        assert matching_score(x, y, k=k) == protocol.matching_score(x, y, k)


def test_with_one_neighbour_mutual_pairs_weigh_one_and_others_a_third():
    # angles; each y is nearest to the x of its number, but x_2 is nearest to y_1
    x, y = (np.column_stack([np.cos(a), np.sin(a)]) for a in (np.array([0.0, 1.0, 1.4]), np.array([0.1, 1.1, 2.0])))
    expected = [[1, 0, 0], [0, 1, 0], [0, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(matching_matrix(x, y, k=1, normalize=False).toarray(), expected)
    assert matching_score(x, y, k=1) == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_perfect_pairs_score_one_and_shuffled_ones_chance(rng):
    x = rng.normal(size=(400, 6))
    assert matching_score(x, 3 * x, k=1) == 1
    assert matching_score(x, rng.permutation(x), k=1) < 0.02


def test_length_of_rows_does_not_matter(rng, make_pairs):
    x, y, _ = make_pairs(dtype=np.float64)
    # powers of two scale without rounding
    factor = 2.0 ** rng.integers(-3, 4, size=(2, len(x), 1))
    assert matching_score(x * factor[0], y * factor[1]) == pytest.approx(matching_score(x, y), abs=1e-12)


def test_groups_score_as_separate_sets(rng, make_pairs):
    x, y, _ = make_pairs(90)
    groups = rng.choice(["a", "b", "c"], size=90)
    parts = [(groups == g).sum() * matching_score(x[groups == g], y[groups == g], k=5) for g in "abc"]
    assert matching_score(x, y, k=5, groups=groups) == pytest.approx(sum(parts) / 90, abs=1e-12)
    assert matching_score(x, y, k=5, groups=["one"] * 90) == matching_score(x, y, k=5)


def test_no_weight_crosses_groups(rng, make_pairs):
    x, y, _ = make_pairs(80)
    y = y[:50]
    groups, y_groups = rng.integers(2, size=80), rng.integers(2, size=50)
    for matrix in (
        matching_matrix(x, y, k=5, groups=groups, y_groups=y_groups),
        soft_match(x, y, k=5, groups=groups, y_groups=y_groups),
    ):
        entries = matrix.tocoo()
        assert (groups[entries.row] == y_groups[entries.col]).all()
        one, other = np.flatnonzero(groups == 1), np.flatnonzero(y_groups == 1)
        assert matrix[one][:, other].nnz > 0
    alone = matching_matrix(x[one], y[other], k=5)
    whole = matching_matrix(x, y, k=5, groups=groups, y_groups=y_groups)
    np.testing.assert_allclose(whole[one][:, other].toarray(), alone.toarray())


def test_cells_of_a_group_absent_from_the_other_side_stay_unmatched(make_pairs):
    x, y, _ = make_pairs(40)
    groups, y_groups = np.repeat(["a", "b"], 20), np.repeat(["a", "c"], 20)
    match = argmax_match(x, y, k=3, groups=groups, y_groups=y_groups)
    assert (match.partner[20:] == -1).all()
    assert (match.confidence[20:] == 0).all()
    assert ((match.partner[:20] >= 0) & (match.partner[:20] < 20)).all()
    assert soft_match(x, y, k=3, groups=groups, y_groups=y_groups).sum(axis=1).A1.tolist() == pytest.approx(
        [1] * 20 + [0] * 20
    )


def test_the_hard_match_takes_the_largest_weight(make_pairs):
    x, y, _ = make_pairs(60)
    weights = brute_matrix(x, y, 7)
    weights /= weights.sum(axis=1, keepdims=True)
    match = argmax_match(x, y, k=7)
    np.testing.assert_allclose(match.confidence, weights.max(axis=1), atol=1e-12)
    np.testing.assert_allclose(weights[np.arange(60), match.partner], weights.max(axis=1), atol=1e-12)


def test_of_equal_weights_the_most_similar_cell_is_matched(make_pairs):
    x, y, _ = make_pairs(60, noise=1.0)
    weights = brute_matrix(x, y, 1)
    tied = np.isclose(weights, weights.max(axis=1, keepdims=True))
    similarity = np.where(tied, unit(x.astype(float)) @ unit(y.astype(float)).T, -2)
    assert (tied.sum(axis=1) > 1).sum() > 5
    assert argmax_match(x, y, k=1).partner.tolist() == similarity.argmax(axis=1).tolist()


def test_the_hard_match_finds_planted_pairs(rng):
    x = rng.normal(size=(200, 10))
    order = rng.permutation(200)
    match = argmax_match(x, (x + 0.01 * rng.normal(size=x.shape))[order], k=5)
    assert (order[match.partner] == np.arange(200)).all()
    assert match.confidence.min() > 1 / 20


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 4, 10, 25])
def test_the_soft_match_is_a_kernel_over_the_nearest(metric, k, make_pairs):
    x, y, _ = make_pairs(50, dtype=np.float64)
    y = y[:30]
    distance = cdist(x, y) if metric == "euclidean" else cdist(unit(x), unit(y))
    expected = np.zeros_like(distance)
    for i, row in enumerate(distance):
        order = np.argsort(row)
        sigma = 0.3 * row[order[:10]].mean()
        expected[i, order[:k]] = np.exp(-(row[order[:k]] ** 2) / (2 * sigma**2))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(soft_match(x, y, k=k, metric=metric, bandwidth=0.3).toarray(), expected, atol=1e-9)


def test_the_soft_match_survives_distant_and_identical_cells(rng):
    x, y = rng.normal(size=(5, 3)), 1e6 + rng.normal(size=(20, 3))
    far = soft_match(x, y, k=5, metric="euclidean", bandwidth=1e-4)
    np.testing.assert_allclose(far.sum(axis=1).A1, 1)
    same = soft_match(np.ones((4, 3)), np.vstack([np.ones((12, 3)), np.zeros((2, 3)) + 5]), k=12, metric="euclidean")
    np.testing.assert_allclose(same.toarray(), np.tile([1 / 12] * 12 + [0] * 2, (4, 1)))


def test_a_small_bandwidth_makes_the_match_hard(make_pairs):
    x, y, _ = make_pairs(50, dtype=np.float64)
    hard = soft_match(x, y, bandwidth=1e-4).toarray()
    assert hard.argmax(axis=1).tolist() == cdist(unit(x), unit(y)).argmin(axis=1).tolist()
    np.testing.assert_allclose(hard.max(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("function", [matching_score, matching_matrix, argmax_match, soft_match])
def test_bad_arguments_are_refused(function, make_pairs):
    x, y, _ = make_pairs(30)
    with pytest.raises(ValueError, match="`k` to be at most 30, the number of cells in .*, found 31"):
        function(x, y, k=31)
    with pytest.raises(ValueError, match="`k` to be at most 10, the number of cells in .* of group 'small'"):
        function(x, y, k=11, groups=["small"] * 10 + ["large"] * 20)
    with pytest.raises(ValueError, match="`groups` to have a value for every cell, found 1 missing, first in row 0"):
        function(x, y, k=2, groups=[None] + ["a"] * 29)
    with pytest.raises(ValueError, match="`groups` to hold one label for each of 30 cells"):
        function(x, y, k=2, groups=["a"] * 29)
    with pytest.raises(ValueError, match="same dimensions"):
        function(x, y[:, 1:])
    y[2, 1] = np.inf
    with pytest.raises(ValueError, match="`y` to be finite"):
        function(x, y)


def test_groups_must_fit_both_sides(make_pairs):
    x, y, _ = make_pairs(30)
    with pytest.raises(ValueError, match=r"`y_groups` where `x` and `y` differ in length \(30 and 20 rows\)"):
        matching_matrix(x, y[:20], k=2, groups=["a"] * 30)
    with pytest.raises(ValueError, match="found `y_groups` alone"):
        matching_matrix(x, y, k=2, y_groups=["a"] * 30)
    with pytest.raises(ValueError, match="groups that x and y share, found none among 'a', 'b'"):
        matching_matrix(x, y, k=2, groups=["a"] * 30, y_groups=["b"] * 30)


def test_a_bandwidth_must_be_positive(make_pairs):
    with pytest.raises(ValueError, match="`bandwidth`"):
        soft_match(*make_pairs(30)[:2], bandwidth=0)
