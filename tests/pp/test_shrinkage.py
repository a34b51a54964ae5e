from __future__ import annotations

import numpy as np
import pytest

from smalti._errors import NotFittedError
from smalti.pp import NeighbourShrinkage
from smalti.pp._shrinkage import reliability


def test_noise_within_a_type_shrinks_and_types_stay(rng):
    kind = rng.integers(0, 3, 900)
    z = 8 * np.eye(3, 20)[kind] + rng.normal(size=(900, 20))
    groups = np.array(["a", "b"])[rng.integers(0, 2, 900)]
    found = NeighbourShrinkage().fit(z, groups).transform(z)
    for k in range(3):
        assert found[kind == k].var(axis=0).sum() < 0.6 * z[kind == k].var(axis=0).sum()
        np.testing.assert_allclose(found[kind == k].mean(0), z[kind == k].mean(0), atol=0.25)


def test_groups_that_differ_by_less_than_the_noise_come_together(rng):
    z = rng.normal(size=(1000, 20))
    groups = np.array(["a", "b"])[np.arange(1000) % 2]
    z[groups == "b", :5] += 0.6
    found = NeighbourShrinkage().fit(z, groups).transform(z)
    before, after = (np.linalg.norm(x[groups == "a"].mean(0) - x[groups == "b"].mean(0)) for x in (z, found))
    assert after < 0.75 * before


def test_a_population_that_one_group_alone_has_keeps_to_itself(rng):
    z = rng.normal(size=(800, 3))
    groups = np.array(["a", "b"])[np.arange(800) % 2]
    alone = np.flatnonzero(groups == "a")[:100]
    z[alone] += 12
    found = NeighbourShrinkage().fit(z, groups).transform(z)
    assert np.linalg.norm(found[alone].mean(0) - z[alone].mean(0)) < 0.2
    assert np.linalg.norm(found[alone] - z[alone].mean(0), axis=1).max() < 6


def test_a_rare_type_that_all_groups_have_is_not_merged(rng):
    kind = np.r_[np.zeros(980, int), np.ones(20, int)]
    z = rng.normal(size=(1000, 3)) + 7 * kind[:, None]
    groups = np.array(["a", "b"])[np.arange(1000) % 2]
    found = NeighbourShrinkage().fit(z, groups).transform(z)
    assert np.linalg.norm(found[kind == 1].mean(0) - found[kind == 0].mean(0)) > 0.9 * np.sqrt(3) * 7


def test_training_cells_passed_as_new_are_not_their_own_neighbours(rng):
    z = rng.normal(size=(300, 3)).astype(np.float32)
    shrinkage = NeighbourShrinkage().fit(z, np.full(300, "a"))
    np.testing.assert_allclose(shrinkage.transform(z[:7]), shrinkage.transform(z)[:7], atol=1e-5)
    d = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(d, np.inf)
    expected = 0.3 * z + 0.7 * z[np.argsort(d, axis=1)[:, :5]].mean(axis=1)
    np.testing.assert_allclose(shrinkage.transform(z), expected, atol=1e-4)


def test_no_weight_changes_nothing_and_nan_stays(rng):
    z = rng.normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(NeighbourShrinkage(weight=0).fit(z, np.full(50, "a")).transform(z), z)
    z2 = z.copy()
    z2[3] = np.nan
    found = NeighbourShrinkage().fit(z, np.full(50, "a")).transform(z2)
    assert np.isnan(found[3]).all()
    assert np.isfinite(np.delete(found, 3, axis=0)).all()


def test_the_state_is_the_whole_object_and_is_needed(rng):
    z = rng.normal(size=(60, 3))
    shrinkage = NeighbourShrinkage().fit(z, np.full(60, "a"))
    again = NeighbourShrinkage.from_state(shrinkage.state())
    np.testing.assert_array_equal(again.transform(z), shrinkage.transform(z))
    with pytest.raises(NotFittedError):
        NeighbourShrinkage().transform(z)
    with pytest.raises(ValueError, match="finite coordinates"):
        NeighbourShrinkage().fit(z, np.full(3, "a"))


def test_reliability_is_high_for_what_neighbours_tell_and_none_for_noise(rng):
    space = rng.normal(size=(800, 2))
    values = np.column_stack([space[:, 0] + 0.1 * rng.normal(size=800), rng.normal(size=800)])
    r = reliability(values, space)
    assert r[0] > 0.9
    assert r[1] < 0.15
