from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.spatial.distance import cdist

from smalti.metrics import clisi, ilisi, lisi, nearest_neighbors


def brute_lisi(x, groups, perplexity, k):
    """One cell at a time: solve for the bandwidth, add the weights of each group."""
    distance, out = cdist(x, x), []
    np.fill_diagonal(distance, np.inf)
    for row in distance:
        near = np.argsort(row)[:k]
        d = row[near] / row[near].mean()

        def surplus(beta, d=d):
            p = np.exp(-beta * d)
            p /= p.sum()
            return -(p * np.log(p)).sum() - np.log(perplexity)

        p = np.exp(-brentq(surplus, 1e-6, 100) * d)
        p /= p.sum()
        out.append(1 / sum(p[groups[near] == g].sum() ** 2 for g in np.unique(groups)))
    return np.array(out)


def test_lisi_equals_its_definition(rng):
    groups = rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=150)
    x = rng.normal(size=(150, 3)) + (groups == "a")[:, None]
    np.testing.assert_allclose(lisi(x, groups, perplexity=10), brute_lisi(x, groups, 10, 30), atol=1e-6)


def test_lisi_is_that_of_harmonypy(rng):
    reference = pytest.importorskip("harmonypy.lisi", reason="harmonypy is not installed")
    groups = rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=800)
    x = rng.normal(size=(800, 6)) + 0.8 * (groups == "a")[:, None]
    expected = reference.compute_lisi(x, pd.DataFrame({"g": groups}), ["g"], 30)[:, 0]
    np.testing.assert_allclose(lisi(x, groups), expected, atol=1e-4)  # theirs stops the search of the bandwidth early


def test_a_random_mixture_scores_nearly_one_and_islands_zero(rng):
    groups = rng.choice([0, 1], p=[0.7, 0.3], size=1500)
    x = rng.normal(size=(1500, 4))
    assert ilisi(x, groups) > 0.93
    assert ilisi(x + 100 * groups[:, None], groups) == pytest.approx(0, abs=1e-6)
    assert clisi(x + 100 * groups[:, None], groups) == pytest.approx(1, abs=1e-6)
    assert clisi(x, groups) < 0.5


def test_scale_and_names_do_not_matter(rng):
    groups = rng.integers(3, size=200)
    x = rng.normal(size=(200, 4)) + groups[:, None]
    expected = ilisi(x, groups)
    assert ilisi(7 * x, np.array(["x", "q", "b"])[groups]) == pytest.approx(expected, abs=1e-5)


def test_neighbours_given_are_neighbours_found(rng):
    groups, x = rng.integers(2, size=200), rng.normal(size=(200, 4))
    found = nearest_neighbors(x, k=90)
    assert ilisi(x, groups, neighbors=found) == ilisi(x, groups)
    with pytest.raises(ValueError, match="`neighbors` to hold 90 neighbours of each of 150 cells"):
        lisi(x[:150], groups[:150], neighbors=found)


def test_bad_input_gets_one_clear_sentence(rng):
    x = rng.normal(size=(50, 2))
    with pytest.raises(ValueError, match="`groups` to have at least 2 classes"):
        ilisi(x, ["a"] * 50)
    with pytest.raises(ValueError, match="`groups` to have a value for every cell, found 1 missing"):
        lisi(x, [None, *["a"] * 49])
