"""How many clusters there are, and where they start."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from smalti.model.fusion._clusters import choose_n_clusters, correlated_axes, stability_curve, start_clusters
from smalti.model.fusion._communities import graph_clusters
from smalti.model.parts import CellComponents


def blobs(n: int, k: int, d: int = 8, seed: int = 0, weights=None, spread: float = 0.12):
    rng = np.random.default_rng(seed)
    code = rng.choice(k, n, p=weights)
    centres = np.linalg.qr(rng.normal(size=(max(d, k), max(d, k))))[0][:k, :d]
    return (centres[code] + spread * rng.normal(size=(n, d))).astype(np.float32), code


def test_the_rule_takes_the_smallest_number_as_stable_as_the_best() -> None:
    curve = pd.DataFrame(
        {"information": [0.5, 0.88, 0.9, 0.7], "information_error": [0.1, 0.01, 0.03, 0.0]}, index=[2, 3, 4, 5]
    )
    assert choose_n_clusters(curve) == 3
    curve["information_error"] = 0.01
    assert choose_n_clusters(curve) == 4


@pytest.mark.parametrize("start", ["kmeans", "graph"])
@pytest.mark.parametrize("k", [4, 6, 10])
def test_planted_clusters_are_counted(k, start) -> None:
    z, _ = blobs(600, k, d=10)
    assert choose_n_clusters(stability_curve(z, range(2, 13), n_rounds=4, start=start)) == k


def test_a_few_odd_cells_do_not_make_two_clusters_of_all() -> None:
    z, _ = blobs(600, 4)
    z[:20] = 30 + 0.1 * np.random.default_rng(1).normal(size=(20, 8))
    curve = stability_curve(z, range(2, 9), n_rounds=4, start="graph")
    assert curve.loc[2, "stability"] > 0.99
    assert choose_n_clusters(curve) in (4, 5)


def test_a_small_cluster_far_away_outlives_large_ones_that_touch() -> None:
    z, code = blobs(1200, 4, weights=[0.46, 0.25, 0.26, 0.03], spread=0.3)
    z[code == 3] += 3 * (z[code == 3].mean(axis=0) / np.linalg.norm(z[code == 3].mean(axis=0)))
    found = graph_clusters(z, 2, 0)
    assert (adjusted_rand_score(code == 3, found)) > 0.99


def test_parts_without_an_edge_between_them_join_their_nearest() -> None:
    z, code = blobs(600, 3, spread=0.01)
    z[code == 1] = z[code == 0][0] + (z[code == 1] - z[code == 1].mean(axis=0)) + 0.5
    z[code == 2] += 50
    assert adjusted_rand_score(code == 2, graph_clusters(z, 2, 0)) == 1


def test_the_curve_depends_on_its_seed_alone() -> None:
    z, _ = blobs(100, 3)
    first, second = (stability_curve(z, [2, 3], n_rounds=2, random_state=5) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_axes_beyond_shuffled_pairs_are_those_that_were_planted() -> None:
    rng = np.random.default_rng(0)
    n, shared = 800, 3
    z = rng.normal(size=(n, shared))
    values = {m: (np.hstack([z, rng.normal(size=(n, 5))]) @ rng.normal(size=(8, 8))).astype("f4") for m in ("a", "b")}
    components = CellComponents(values, {m: np.arange(n) for m in values})
    assert correlated_axes(components, 0) in (3, 4)
    alone = {"a": np.where(np.arange(n) < 400, np.arange(n), -1), "b": np.where(np.arange(n) >= 400, np.arange(n), -1)}
    assert correlated_axes(CellComponents(values, alone), 0) is None


@pytest.mark.parametrize("start", ["kmeans", "graph"])
def test_starts_find_planted_clusters_and_order_them_by_size(start) -> None:
    z, code = blobs(600, 3, weights=[0.1, 0.3, 0.6])
    found = start_clusters(z, 3, start, 0)
    assert adjusted_rand_score(code, found) > 0.97
    assert list(np.argsort(-np.bincount(found))) == [0, 1, 2]


@pytest.mark.parametrize("k", [2, 3, 9])
def test_there_are_as_many_communities_as_wanted(k) -> None:
    z, _ = blobs(300, 4)
    found = start_clusters(z, k, "graph", 0)
    assert sorted(np.unique(found)) == list(range(k))
    np.testing.assert_array_equal(found, start_clusters(z, k, "graph", 0))
