from __future__ import annotations

import logging
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from smalti.metrics import foscttm, match_ranks, median_rank, recall_at_k


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_foscttm(x, y):
    distance = cdist(x, y)
    true = np.diag(distance)
    return ((distance < true[:, None]).mean() + (distance < true).mean()) / 2


def brute_ranks(x, y):
    distance = cdist(x, y)
    return np.column_stack([np.diag(rankdata(distance, axis=1)), np.diag(rankdata(distance, axis=0))])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_foscttm_equals_the_full_matrix(dtype, make_pairs):
    x, y, _ = make_pairs(dtype=dtype)
    assert foscttm(x, y, chunk_size=50) == brute_foscttm(x, y)
    assert foscttm(x, y, metric="cosine") == brute_foscttm(unit(x), unit(y))


@pytest.mark.data
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(50, 2), (700, 15), (400, 64)])
def test_foscttm_equals_the_protocol(protocol, dtype, n, d, make_pairs):
    x, y, _ = make_pairs(n, d, dtype=dtype)
    assert foscttm(x, y) == protocol.foscttm(x, y)
    assert foscttm(x, y, metric="cosine") == protocol.foscttm(protocol._unit(x), protocol._unit(y))


def test_perfect_pairs_have_foscttm_zero_and_shuffled_ones_a_half(rng):
    x = rng.normal(size=(500, 5))
    assert foscttm(x, x + 1e-6 * rng.normal(size=x.shape)) == 0
    assert foscttm(x, rng.permutation(x)) == pytest.approx(0.5, abs=0.03)


def test_the_worst_match_has_nearly_all_cells_closer():
    x = np.array([[0.0], [1.0]])
    assert foscttm(x, x[::-1]) == 0.5  # the one other cell is closer, out of two


def test_foscttm_does_not_depend_on_order_or_rotation(rng, make_pairs):
    x, y, _ = make_pairs(dtype=np.float64)
    order = rng.permutation(len(x))
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    assert foscttm(x[order], y[order]) == foscttm(x, y)
    assert foscttm(x @ rotation, y @ rotation) == pytest.approx(foscttm(x, y), abs=1e-12)
    assert foscttm(y, x) == foscttm(x, y)


def test_fractions_per_cell_average_to_the_score(make_pairs):
    x, y, _ = make_pairs()
    fractions = foscttm(x, y, per_cell=True)
    distance = cdist(x, y)
    np.testing.assert_array_equal(fractions[:, 0], (distance < np.diag(distance)[:, None]).mean(1))
    np.testing.assert_array_equal(fractions[:, 1], (distance < np.diag(distance)).mean(0))
    assert fractions.mean() == pytest.approx(foscttm(x, y), abs=1e-12)


def test_masked_rows_are_neither_candidates_nor_queries(make_pairs, rng):
    x, y, _ = make_pairs(60)
    has_x, has_y = rng.random((2, 60)) < 0.7
    distance = cdist(x[has_x], y[has_y])
    both = has_x & has_y
    rows, columns = both[has_x], both[has_y]
    true = distance[rows][:, columns].diagonal()
    expected = np.column_stack([(distance[rows] < true[:, None]).mean(1), (distance[:, columns] < true).mean(0)])
    x[~has_x], y[~has_y] = np.nan, np.inf
    found = foscttm(x, y, x_mask=has_x, y_mask=has_y, per_cell=True)
    np.testing.assert_array_equal(found[both], expected)
    assert np.isnan(found[~both]).all()
    score = foscttm(x, y, x_mask=has_x, y_mask=has_y)
    assert score == pytest.approx(expected.mean(), abs=1e-12)


def test_a_full_mask_changes_nothing(make_pairs):
    x, y, _ = make_pairs()
    full = np.ones(len(x), bool)
    assert foscttm(x, y, x_mask=full, y_mask=full) == foscttm(x, y)


def test_masks_without_a_common_cell_are_refused(make_pairs):
    x, y, _ = make_pairs(4)
    mask = np.array([True, True, False, False])
    with pytest.raises(ValueError, match="no cell that `x_mask` and `y_mask` share"):
        foscttm(x, y, x_mask=mask, y_mask=~mask)


def test_copies_are_not_closer_but_are_reported(caplog):
    x = np.full((30, 3), 0.3, np.float32)
    with caplog.at_level(logging.WARNING):
        assert foscttm(x, x + 1) == 0
    assert "97 % of the candidates are exactly as far" in caplog.text


def test_no_warning_without_ties(caplog, make_pairs):
    foscttm(*make_pairs()[:2])
    assert not caplog.records


def test_the_distance_matrix_is_never_held(make_pairs):
    n = 5000
    x, y, _ = make_pairs(n, 10)
    tracemalloc.start()
    foscttm(x, y, chunk_size=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 8 / 20


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_ranks_equal_those_of_the_full_matrix(metric, make_pairs):
    x, y, _ = make_pairs()
    expected = brute_ranks(x, y) if metric == "euclidean" else brute_ranks(unit(x), unit(y))
    np.testing.assert_array_equal(match_ranks(x, y, metric=metric), expected)


def test_ties_get_the_average_rank(rng):
    x, y = rng.integers(0, 2, size=(2, 40, 3)).astype(float)
    ranks = match_ranks(x, y)
    np.testing.assert_array_equal(ranks, brute_ranks(x, y))
    assert (ranks % 1 == 0.5).any()


def test_recall_and_median_follow_from_ranks(make_pairs):
    x, y, _ = make_pairs(noise=1.0)
    ranks = brute_ranks(x, y)
    found = recall_at_k(x, y)
    assert list(found) == [1, 5, 10]
    for k, value in found.items():
        assert value == (ranks <= k).mean()
        assert recall_at_k(x, y, k=k, direction="y_to_x") == {k: (ranks[:, 1] <= k).mean()}
    assert found[1] < found[5] < found[10]
    assert median_rank(x, y) == np.median(ranks, axis=0).mean()
    assert median_rank(x, y, direction="x_to_y") == np.median(ranks[:, 0])


def test_a_collapsed_embedding_ranks_as_chance():
    x = np.zeros((41, 3))
    assert recall_at_k(x, x, k=(1, 10)) == {1: 0, 10: 0}
    assert median_rank(x, x) == 21


def test_recall_counts_only_queries(make_pairs):
    x, y, _ = make_pairs(30, noise=0.01)
    mask = np.arange(30) < 20
    assert recall_at_k(x, y, k=1, y_mask=mask) == {1: 1.0}
    assert median_rank(x, y, y_mask=mask) == 1


def test_a_list_longer_than_the_gallery_is_refused(make_pairs):
    x, y, _ = make_pairs(30)
    with pytest.raises(ValueError, match="at most 30, the number of candidates, found 31"):
        recall_at_k(x, y, k=(1, 31))
    with pytest.raises(ValueError, match="at most 20"):
        recall_at_k(x, y, k=21, y_mask=np.arange(30) < 20, direction="x_to_y")


@pytest.mark.parametrize("score", [foscttm, match_ranks, recall_at_k, median_rank])
def test_bad_arguments_are_refused(score, make_pairs):
    x, y, _ = make_pairs(30)
    with pytest.raises(ValueError, match="`metric` to be one of"):
        score(x, y, metric="manhattan")
    with pytest.raises(ValueError, match="`chunk_size` to be a whole number"):
        score(x, y, chunk_size=0)
    with pytest.raises(ValueError, match="same cell"):
        score(x, y[:-1])
    x[4, 0] = np.nan
    with pytest.raises(ValueError, match="`x` to be finite.*row 4"):
        score(x, y)
