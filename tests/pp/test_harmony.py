from __future__ import annotations

import harmonypy
import numpy as np
import pandas as pd
import pytest

from smalti._errors import NotFittedError
from smalti.pp import HarmonyMap


def types_in_batches(rng, n=600, shift=2.0):
    """Three types in four dimensions; the second batch is moved, each type its own way."""
    kind = rng.integers(0, 3, n)
    batch = rng.integers(0, 2, n)
    centres = 6 * np.eye(3, 4)
    moves = shift * rng.normal(size=(3, 4))
    z = centres[kind] + batch[:, None] * moves[kind] + 0.5 * rng.normal(size=(n, 4))
    return z, kind, np.array(["a", "b"])[batch]


def gap(z, kind, batch):
    """Mean distance between the batches' centres of each type."""
    return np.mean(
        [
            np.linalg.norm(z[(kind == k) & (batch == "a")].mean(0) - z[(kind == k) & (batch == "b")].mean(0))
            for k in range(3)
        ]
    )


def test_the_map_agrees_with_harmony(rng):
    z, _, batch = types_in_batches(rng)
    reference = harmonypy.run_harmony(z, pd.DataFrame({"batch": batch}), ["batch"], verbose=False, ncores=1)
    found = HarmonyMap().fit(z, {"batch": batch}).transform(z, {"batch": batch})
    moved = np.sqrt(((reference.Z_corr - z) ** 2).mean())
    assert np.sqrt(((found - reference.Z_corr) ** 2).mean()) < 0.25 * moved


def test_new_cells_of_known_batches_are_corrected_like_those_of_the_fit(rng):
    z, kind, batch = types_in_batches(rng, 1200)
    fit = np.arange(1200) < 700
    harmony = HarmonyMap().fit(z[fit], {"batch": batch[fit]})
    new = harmony.transform(z[~fit], {"batch": batch[~fit]})
    assert gap(new, kind[~fit], batch[~fit]) < 0.35 * gap(z[~fit], kind[~fit], batch[~fit])
    old = harmony.transform(z[fit], {"batch": batch[fit]})
    for k in range(3):
        apart = np.linalg.norm(new[kind[~fit] == k].mean(0) - old[kind[fit] == k].mean(0))
        assert apart < 0.3


def test_a_cell_gets_the_same_coordinates_whoever_is_beside_it(rng):
    z, _, batch = types_in_batches(rng)
    harmony = HarmonyMap().fit(z, {"batch": batch})
    whole = harmony.transform(z, {"batch": batch})
    np.testing.assert_allclose(harmony.transform(z[5:9], {"batch": batch[5:9]}), whole[5:9], atol=1e-5)


def test_an_unknown_level_moves_nothing(rng):
    z, _, batch = types_in_batches(rng)
    harmony = HarmonyMap().fit(z, {"batch": batch})
    np.testing.assert_allclose(harmony.transform(z, {"batch": np.full(len(z), "new")}), z, atol=1e-5)


@pytest.mark.parametrize("levels", [{}, {"batch": np.full(200, "a")}])
def test_without_levels_to_mix_nothing_changes(rng, levels):
    z = rng.normal(size=(200, 3))
    np.testing.assert_allclose(HarmonyMap().fit(z, levels).transform(z, levels), z, atol=1e-6)


def test_few_cells_are_left_as_they_are_with_a_note(rng, caplog):
    z, _, batch = types_in_batches(rng, 40)
    found = HarmonyMap().fit(z, {"batch": batch}).transform(z, {"batch": batch})
    np.testing.assert_allclose(found, z, atol=1e-5)
    assert "too few" in caplog.text


def test_the_state_is_the_whole_object(rng):
    z, _, batch = types_in_batches(rng)
    harmony = HarmonyMap().fit(z, {"batch": batch})
    again = HarmonyMap.from_state(harmony.state())
    np.testing.assert_array_equal(again.transform(z, {"batch": batch}), harmony.transform(z, {"batch": batch}))


def test_misuse_is_said(rng):
    z, _, batch = types_in_batches(rng)
    with pytest.raises(NotFittedError):
        HarmonyMap().transform(z, {})
    with pytest.raises(ValueError, match="levels of covariate 'batch'"):
        HarmonyMap().fit(z, {"batch": batch[:5]})
    with pytest.raises(ValueError, match="finite"):
        HarmonyMap().fit(np.full((100, 2), np.nan), {})
    harmony = HarmonyMap().fit(z, {"batch": batch})
    with pytest.raises(ValueError, match="'batch'"):
        harmony.transform(z, {})
    with pytest.raises(ValueError, match="width 4"):
        harmony.transform(z[:, :2], {"batch": batch})
