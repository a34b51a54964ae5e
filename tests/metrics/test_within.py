from __future__ import annotations

import numpy as np
import pytest

from smalti.metrics import foscttm, matching_score, matching_scores, recall_at_k


def brute_depth(x, y, depth, share=0.1, least=50):
    """Fraction of candidates closer than the partner among those of its depth, one direction, one cell at a time."""
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    n, out = len(x), []
    for i in range(n):
        others = [j for j in np.argsort(np.abs(depth - depth[i]), kind="stable") if j != i]
        others = others[: max(least, round(share * n))]
        out.append(np.mean([1 - x[i] @ y[j] < 1 - x[i] @ y[i] for j in others]))
    return np.mean(out)


def test_without_groups_scores_are_those_of_the_single_functions(make_pairs):
    x, y, _ = make_pairs()
    found = matching_scores(x, y)
    assert found.foscttm == pytest.approx(foscttm(x, y, metric="cosine"))
    assert found.matching == pytest.approx(matching_score(x, y))
    assert found.recall == pytest.approx(recall_at_k(x, y, k=10, metric="cosine")[10])
    assert (found.foscttm_depth, found.n_pairs, found.n_groups) == (None, 120, 1)
    assert (found.chance_matching, found.chance_recall) == pytest.approx((1 / 120, 10 / 120))


def test_groups_are_scored_apart_and_weighed_by_size(make_pairs):
    x, y, _ = make_pairs(n=150)
    groups = np.repeat(["a", "b", "tiny"], [90, 50, 10])
    found = matching_scores(x, y, groups=groups)
    parts = [foscttm(x[groups == g], y[groups == g], metric="cosine") for g in ("a", "b")]
    assert found.foscttm == pytest.approx(np.average(parts, weights=[90, 50]))
    assert (found.n_pairs, found.n_groups) == (140, 2)
    assert matching_scores(x, y, groups=groups, least_group=10).n_groups == 3


def test_depth_takes_candidates_of_the_partners_depth(make_pairs, rng):
    x, y, _ = make_pairs(n=200)
    depths = rng.integers(20, size=200).astype(float), rng.normal(size=200)
    found = matching_scores(x, y, x_totals=depths[0], y_totals=depths[1])
    expected = (brute_depth(x, y, depths[1]) + brute_depth(y, x, depths[0])) / 2
    assert found.foscttm_depth == pytest.approx(expected, abs=1e-3)


def test_an_embedding_of_depth_alone_wins_among_all_and_loses_among_the_equally_deep(rng):
    depth = rng.normal(size=2000)
    angle = 0.3 * depth
    x, y = (
        np.column_stack([np.cos(a), np.sin(a)])
        for a in (angle + 0.05 * rng.normal(size=2000), angle + 0.05 * rng.normal(size=2000))
    )
    found = matching_scores(x, y, x_totals=depth, y_totals=depth)
    assert found.foscttm < 0.15
    assert found.foscttm_depth > 3 * found.foscttm


def test_an_embedding_of_the_batch_alone_is_at_chance_within_batches(rng):
    groups = np.repeat(np.arange(4), 100)
    x, y = (rng.normal(size=(400, 5)) + 20 * np.eye(5)[groups] for _ in range(2))
    assert foscttm(x, y, metric="cosine") < 0.15
    assert matching_scores(x, y, groups=groups).foscttm == pytest.approx(0.5, abs=0.05)


def test_drawn_queries_are_close_to_all_of_them(make_pairs):
    x, y, _ = make_pairs(n=1500, noise=2.0)
    depth = np.linalg.norm(x, axis=1)
    everybody = matching_scores(x, y, x_totals=depth, y_totals=depth)
    some = matching_scores(x, y, x_totals=depth, y_totals=depth, max_queries=400)
    assert (some.n_queries, everybody.n_queries) == (400, 1500)
    assert some.foscttm == pytest.approx(everybody.foscttm, abs=0.03)
    assert some.foscttm_depth == pytest.approx(everybody.foscttm_depth, abs=0.03)
    assert some.recall == pytest.approx(everybody.recall, abs=0.03)
    assert some.matching == everybody.matching


def test_a_collapsed_embedding_is_warned_of_and_matches_by_chance(caplog):
    found = matching_scores(np.ones((30, 2)), np.ones((30, 2)))
    assert found.foscttm == 0
    assert found.recall < 0.7
    assert "collapsed" in caplog.text


def test_bad_input_gets_one_clear_sentence(make_pairs):
    x, y, _ = make_pairs(n=40)
    with pytest.raises(ValueError, match="both `x_totals` and `y_totals` or none"):
        matching_scores(x, y, x_totals=np.ones(40))
    with pytest.raises(ValueError, match="`y_totals` to be finite of shape"):
        matching_scores(x, y, x_totals=np.ones(40), y_totals=np.ones(39))
    with pytest.raises(ValueError, match="a group of at least 20 cells, found 10 at most"):
        matching_scores(x, y, groups=np.repeat(np.arange(4), 10))
