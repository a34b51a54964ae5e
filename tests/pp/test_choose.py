from __future__ import annotations

import time

import numpy as np
import pytest

from smalti.pp import LinearCCA, choose_n_components, components_by_pairs
from smalti.pp._choose import _fraction_closer


def views(rng, n, n_shared, n_noise):
    """Leading components share factors, later ones are noise of the same size."""
    factors = rng.normal(size=(n, n_shared))
    return {
        m: np.hstack([factors + 0.6 * rng.normal(size=(n, n_shared)), rng.normal(size=(n, n_noise))]).astype(np.float32)
        for m in ("a", "b")
    }


def maps_of(inputs):
    return {m: np.arange(len(z)) for m, z in inputs.items()}


@pytest.mark.parametrize("n_shared", [4, 12])
def test_the_planted_number_of_components_is_found(n_shared, rng):
    inputs = views(rng, 400, n_shared, 60 - n_shared)
    assert choose_n_components(inputs, maps_of(inputs), candidates=(2, 4, 8, 12, 30, 60)) == n_shared


def test_the_smallest_of_equals_is_chosen(rng):
    inputs = views(rng, 3000, 5, 3)
    assert choose_n_components(inputs, maps_of(inputs), candidates=(5, 6, 7, 8)) == 5


def test_cells_without_a_partner_do_not_matter(rng):
    inputs = views(rng, 300, 4, 30)
    chosen = choose_n_components(inputs, maps_of(inputs), candidates=(2, 4, 16))
    more = {m: np.vstack([z, 100 * rng.normal(size=(50, 34))]) for m, z in inputs.items()}
    maps = {
        "a": np.r_[np.arange(300), np.arange(300, 350), np.full(50, -1)],
        "b": np.r_[np.arange(300), np.full(50, -1), np.arange(300, 350)],
    }
    assert choose_n_components(more, maps, candidates=(2, 4, 16)) == chosen


def test_a_modality_with_fewer_components_gives_all(rng):
    inputs = views(rng, 300, 6, 30)
    inputs["b"] = inputs["b"][:, :3]
    assert choose_n_components(inputs, maps_of(inputs), candidates=(3, 6, 30)) in (3, 6)


def test_candidates_beyond_all_components_are_one(rng):
    inputs = views(rng, 60, 3, 4)
    assert choose_n_components(inputs, maps_of(inputs), candidates=(10, 20, 50)) == 7


def test_three_modalities_with_a_missing_pair(rng):
    factors = rng.normal(size=(900, 4))
    inputs = {
        m: np.hstack([factors + 0.5 * rng.normal(size=(900, 4)), rng.normal(size=(900, 20))]) for m in ("a", "b", "c")
    }
    rows = np.arange(900)
    maps = {"a": np.where(rows < 500, rows, -1), "b": rows, "c": np.where(rows >= 400, rows, -1)}
    assert choose_n_components(inputs, maps, candidates=(2, 4, 12, 24)) == 4


def test_the_fraction_closer_is_foscttm_by_cosine(rng):
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 4))
    u, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    d = np.linalg.norm(u[:, None] - v[None], axis=2)
    expected = [((d[i] < d[i, i]).mean() + (d[:, i] < d[i, i]).mean()) / 2 for i in range(50)]
    np.testing.assert_allclose(_fraction_closer(x, y), expected)


def test_too_few_pairs_are_refused(rng):
    inputs = views(rng, 9, 2, 20)
    with pytest.raises(ValueError, match="at least 10 cells with two modalities .* found 9"):
        choose_n_components(inputs, maps_of(inputs))
    with pytest.raises(ValueError, match="`n_folds` to be at least 3"):
        choose_n_components(inputs, maps_of(inputs), n_folds=2)


@pytest.mark.slow
def test_ten_thousand_pairs_take_two_seconds(rng):
    inputs = views(rng, 10_000, 10, 40)
    start = time.process_time()
    choose_n_components(inputs, maps_of(inputs))
    assert time.process_time() - start < 4  # twice, for busy machines
    assert LinearCCA().fit(inputs, maps_of(inputs)).correlations[9] > 0.5


def test_components_that_tell_batches_apart_are_not_worth_more(rng):
    batch = np.repeat(np.arange(6), 100)
    inputs = views(rng, 600, 4, 30)
    for z in inputs.values():
        z[:, 4:8] += 3 * np.random.default_rng(1).normal(size=(6, 4))[batch]
    pooled = choose_n_components(inputs, maps_of(inputs), candidates=(4, 8, 16))
    within = choose_n_components(inputs, maps_of(inputs), batch=batch, candidates=(4, 8, 16))
    assert (pooled, within) == (8, 4)


def test_few_or_no_pairs_fall_back(rng):
    inputs = views(rng, 400, 4, 30)
    some = np.arange(400)
    apart = {"a": np.where(some < 200, some, -1), "b": np.where(some >= 200, some, -1)}
    assert components_by_pairs(inputs, apart) == 30
    few = {"a": np.where(some < 215, some, -1), "b": np.where(some >= 185, some, -1)}
    assert components_by_pairs(inputs, few) == 20
    assert components_by_pairs(inputs, maps_of(inputs)) == choose_n_components(inputs, maps_of(inputs))
