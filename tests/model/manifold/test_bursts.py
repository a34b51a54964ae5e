"""Bursts hold the profiles they should."""

from __future__ import annotations

import numpy as np
import torch

from smalti.model.manifold._bursts import burst_share, from_arrays, from_neighbours, from_states


def test_bursts_of_neighbours_are_the_cell_and_its_nearest_of_the_modality() -> None:
    rng = np.random.default_rng(0)
    place = rng.normal(size=(60, 3)).astype("f4")
    here = rng.random(60) < 0.7
    rows = np.where(here, np.cumsum(here) - 1, -1)
    values = rng.normal(size=(here.sum(), 4)).astype("f4")
    found = from_neighbours(values, rows, place, 5, local=False)
    assert (found.seen == here).all()
    for cell in np.flatnonzero(here)[:10]:
        candidates = np.flatnonzero(here)
        order = candidates[np.argsort(((place[candidates] - place[cell]) ** 2).sum(1))]
        assert found.members[cell, 0] == rows[cell]
        assert set(found.members[cell].tolist()) == set(rows[order[:5]])
    assert (found.variance == 1).all()


def test_local_scales_grow_with_the_neighbourhood() -> None:
    rng = np.random.default_rng(0)
    place = np.vstack([0.1 * rng.normal(size=(50, 2)), 10 + 3 * rng.normal(size=(50, 2))]).astype("f4")
    found = from_neighbours(place, np.arange(100), place, 10, local=True)
    assert found.variance[50:].min() > found.variance[:50].max()


def test_a_state_has_one_burst_whichever_cell_asks() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([0, 1, -1, 2, 3, -1, 4])
    states = np.array([0, 0, 0, 1, 1, -1, 2])
    values = rng.normal(size=(5, 2)).astype("f4")
    found = from_states(values, rows, states, 3, rng)
    assert {tuple(sorted(found.members[i].tolist())) for i in (0, 1, 2)} == {(-1, 0, 1)}
    assert set(found.members[3].tolist()) == {-1, 2, 3}
    assert found.seen.tolist() == [True, True, True, True, True, False, False]  # one point is no burst
    points, exists, variance = found.of(torch.tensor([0]), torch.device("cpu"))
    assert exists.sum() == 2
    np.testing.assert_array_equal(np.sort(points[0][exists[0]].numpy(), axis=0), np.sort(values[:2], axis=0))


def test_the_size_of_bursts_is_known_up_to_a_common_factor() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 2))
    points = (truth[:, None] + 0.2 * rng.normal(size=(300, 30, 2))).astype("f4")
    for factor in (1.0, 7.0):
        found = from_arrays((factor * points).reshape(-1, 2), np.arange(300), 300, 30)
        assert abs(burst_share(found, 2) - 0.2) < 0.02
