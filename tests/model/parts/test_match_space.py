"""A model's latents beside linear CCA: never far worse than either, and stored with the network."""

from __future__ import annotations

import numpy as np
import pytest

from smalti._linalg import unit_rows
from smalti.model.parts import CellComponents, MatchReadout, fit_mixture
from smalti.model.parts._held_out import nearer_candidates

N = 500


def planted(rng, noise: float):
    """Encoder inputs of two modalities that share four factors, and a model's latents of the same cells."""
    factors = rng.normal(size=(N, 4))
    loadings = {m: rng.normal(size=(4, 8)) for m in "ab"}
    values = {m: (factors @ loadings[m] + 0.8 * rng.normal(size=(N, 8))).astype(np.float32) for m in "ab"}
    own = {m: (factors + noise * rng.normal(size=(N, 4))).astype(np.float32) for m in "ab"}
    rows = np.arange(N)
    maps = {"a": np.where(rows < 450, rows, -1), "b": np.where(rows >= 30, rows - 30, -1)}
    components = CellComponents({"a": values["a"][:450], "b": values["b"][30:]}, maps)
    return own, components, values


def fitted(rng, noise: float):
    own, components, values = planted(rng, noise)
    held = rng.random(N) < 0.3
    readout = MatchReadout()
    readout.fit(own, components, np.zeros(N, np.int64), held)
    return readout, own, values, held


@pytest.mark.parametrize(("noise", "share"), [(5.0, 0.0), (0.01, 1.0)])
def test_whoever_finds_held_out_partners_decides(rng, noise, share):
    readout, own, values, held = fitted(rng, noise)
    assert readout.mixture is not None
    assert readout.mixture.share == share
    z = [readout.transform(m, own[m][held], values[m][held]) for m in "ab"]
    batch = np.zeros(held.sum(), np.int64)
    mixed = nearer_candidates(*z, batch).mean()
    alone = nearer_candidates(*(unit_rows(own[m][held]) for m in "ab"), batch).mean()
    assert mixed <= alone + 0.01
    np.testing.assert_allclose(np.linalg.norm(z[0], axis=1), 1, atol=1e-5)


def test_state_is_stored_with_the_weights(rng):
    readout, own, values, _ = fitted(rng, 1.0)
    other = MatchReadout()
    other.load_state_dict(readout.state_dict())
    np.testing.assert_array_equal(
        other.transform("a", own["a"], values["a"]), readout.transform("a", own["a"], values["a"])
    )


def test_without_pairs_there_is_nothing_to_mix(rng):
    own, components, _ = planted(rng, 1.0)
    rows = np.arange(N)
    apart = {"a": np.where(rows < 250, rows, -1), "b": np.where(rows >= 250, rows - 30, -1)}
    readout = MatchReadout()
    readout.fit(own, CellComponents(components.values, apart), np.zeros(N, np.int64), rows % 5 == 0)
    assert not readout.ready
    assert not readout.state_dict()
    present = {m: at >= 0 for m, at in apart.items()}
    units = {m: unit_rows(z) for m, z in own.items()}
    assert fit_mixture(units, units, present, np.zeros(N, np.int64), rows % 5 == 0) is None
