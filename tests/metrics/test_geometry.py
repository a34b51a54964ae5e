from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from smalti.metrics import alignment, median_rank, recall_at_k, stress, uniformity


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment_is_the_mean_power_of_the_distance_of_unit_vectors(rng, alpha):
    x, y = rng.normal(size=(2, 40, 5))
    expected = np.mean([np.linalg.norm(a - b) ** alpha for a, b in zip(unit(x), unit(y), strict=True)])
    assert alignment(3 * x, y, alpha=alpha) == pytest.approx(expected)
    assert alignment(x, 7 * x) == pytest.approx(0, abs=1e-12)
    assert alignment(x, -x) == pytest.approx(4)


@pytest.mark.parametrize("t", [0.5, 2.0])
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_uniformity_is_the_log_mean_kernel_over_all_pairs(rng, t, chunk_size):
    x = rng.normal(size=(30, 4))
    expected = np.log(np.mean(np.exp(-t * pdist(unit(x)) ** 2)))
    assert uniformity(5 * x, t=t, chunk_size=chunk_size) == pytest.approx(expected)


def test_known_shapes_have_known_uniformity(rng):
    assert uniformity(np.ones((5, 3))) == pytest.approx(0, abs=1e-9)
    assert uniformity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    assert uniformity(rng.normal(size=(400, 300))) == pytest.approx(-4, abs=0.05)
    spread, narrow = rng.normal(size=(100, 6)), rng.normal(size=(100, 6)) * 0.1 + 1
    assert uniformity(spread) < uniformity(narrow)


def test_cells_without_an_embedding_do_not_count(rng):
    x, y = rng.normal(size=(2, 30, 4))
    has_x, has_y = rng.random((2, 30)) < 0.7
    holes_x, holes_y = np.where(has_x[:, None], x, np.nan), np.where(has_y[:, None], y, np.nan)
    both = has_x & has_y
    assert alignment(holes_x, holes_y, x_mask=has_x, y_mask=has_y) == pytest.approx(alignment(x[both], y[both]))
    assert uniformity(holes_x, mask=has_x) == pytest.approx(uniformity(x[has_x]))
    for metric in (recall_at_k, median_rank):
        options = {"direction": "x_to_y", "metric": "cosine"}
        found = metric(holes_x, holes_y, x_mask=both, y_mask=has_y, **options)
        order = np.argsort(~both[has_y], kind="stable")  # queries first: row i of both is the same cell
        gallery = y[has_y][order]
        queries = np.vstack([x[has_y][order][: both.sum()], np.zeros((has_y.sum() - both.sum(), 4))])
        seen = np.arange(has_y.sum()) < both.sum()
        assert found == metric(queries, gallery, x_mask=seen, **options)


def test_bad_input_is_refused(rng):
    x = rng.normal(size=(5, 3))
    nobody = np.zeros(5, dtype=bool)
    with pytest.raises(ValueError, match="no cell that `x_mask` and `y_mask` share"):
        alignment(x, x, x_mask=nobody)
    with pytest.raises(ValueError, match="at least two embeddings, found 0"):
        uniformity(x, mask=nobody)
    with pytest.raises(ValueError, match="`t` to be a finite number > 0, found 0"):
        uniformity(x, t=0)
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 5 rows"):
        uniformity(np.where(np.arange(5)[:, None] == 2, np.nan, x))


def test_stress_is_that_of_all_pairs_and_turning_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    truth, x = rng.normal(size=(30, 2)), rng.normal(size=(30, 3))
    d, t = (np.linalg.norm(z[:, None] - z[None], axis=2) for z in (x, truth))
    assert stress(x, truth, chunk_size=7) == pytest.approx(((d - t) ** 2).sum() / (t**2).sum())
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    assert stress(truth @ turn + 3, truth) == pytest.approx(0, abs=1e-12)
    assert stress(np.zeros((30, 2)), truth) == pytest.approx(1)


def test_stress_refuses_a_truth_of_one_point() -> None:
    with pytest.raises(ValueError, match="one point"):
        stress(np.eye(3), np.ones((3, 2)))
    with pytest.raises(ValueError, match="3 and 4"):
        stress(np.eye(3), np.ones((4, 2)))
