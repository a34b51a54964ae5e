from __future__ import annotations

import numpy as np
import pytest

from smalti._errors import NotFittedError
from smalti.pp import LinearJoint, linked_modalities
from smalti.pp._pattern_scale import pattern_scales, presence_patterns


def planted(rng, n=1200, names=("a", "b"), noise=0.5):
    """Factors that all modalities share (a type and a gradient) and one that each has alone, in two batches."""
    kind = rng.integers(0, 4, n)
    shared = np.column_stack([4 * np.eye(4)[kind], rng.normal(size=n)])
    inputs = {
        m: (
            shared @ rng.normal(size=(5, 8)) + np.outer(rng.normal(size=n), rng.normal(size=8))
            + noise * rng.normal(size=(n, 8))
        ).astype(np.float32)
        for m in names
    }  # fmt: skip
    batch = np.array(["x", "y"])[rng.integers(0, 2, n)]
    return {m: z - z.mean(0) for m, z in inputs.items()}, kind, batch


def thirds(n):
    """A third of the cells has both modalities, a third each one."""
    at = np.arange(n)
    return {"a": np.where(at % 3 != 1, at, -1), "b": np.where(at % 3 != 2, at, -1)}


def neighbours_of_kind(z, kind, k=10):
    d = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(d, np.inf)
    return (kind[np.argsort(d, axis=1)[:, :k]] == kind[:, None]).mean()


def test_training_cells_transformed_as_new_reproduce_their_coordinates(rng):
    inputs, _, batch = planted(rng)
    maps = thirds(1200)
    joint = LinearJoint().fit(inputs, maps, batch)
    whole = joint.transform(inputs, maps, batch)
    some = np.arange(0, 1200, 7)
    part = joint.transform(inputs, {m: row[some] for m, row in maps.items()}, batch[some])
    np.testing.assert_allclose(part, whole[some], atol=1e-3)


def test_types_are_kept_and_new_cells_of_known_batches_fall_among_them(rng):
    inputs, kind, batch = planted(rng)
    maps = thirds(1200)
    fit = np.arange(1200) < 900
    joint = LinearJoint().fit(inputs, {m: row[fit] for m, row in maps.items()}, batch[fit])
    old = joint.transform(inputs, {m: row[fit] for m, row in maps.items()}, batch[fit])
    new = joint.transform(inputs, {m: row[~fit] for m, row in maps.items()}, batch[~fit])
    assert neighbours_of_kind(old, kind[fit]) > 0.95
    d = np.linalg.norm(new[:, None] - old[None], axis=2)
    near = np.argsort(d, axis=1)[:, :10]
    assert (kind[fit][near] == kind[~fit][:, None]).mean() > 0.95
    shares = (batch[fit][near] == "x").mean()
    assert shares == pytest.approx((batch[fit] == "x").mean(), abs=0.1)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_presence_patterns_have_the_same_spread(rng, noise):
    inputs, _, batch = planted(rng, 2400, noise=noise)
    maps = thirds(2400)
    z = LinearJoint().fit(inputs, maps, batch).transform(inputs, maps, batch)
    patterns = presence_patterns({m: row >= 0 for m, row in maps.items()})
    total = {p: z[patterns == p].var(axis=0).sum() for p in np.unique(patterns)}
    assert total["a"] / total["a+b"] == pytest.approx(1, abs=0.1)
    assert total["b"] / total["a+b"] == pytest.approx(1, abs=0.1)


def test_no_shared_axis_on_which_paired_modalities_disagree_survives(rng):
    inputs, _, batch = planted(rng, 400, noise=3.0)
    n = np.arange(400)
    fit = {m: np.where(n < 250, n, -1) for m in inputs}
    keep = np.flatnonzero(n < 250)
    joint = LinearJoint().fit(inputs, {m: row[keep] for m, row in fit.items()}, batch[keep])
    kept = joint.cca.correlations > 0
    a, b = (z[250:][:, kept] for z in joint.cca.transform(inputs).values())
    spectrum = joint.cca.correlations[kept]
    held_out = np.array([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(a.shape[1])])
    error = 1 / np.sqrt(150)
    assert (held_out > -2.5 * error).all()
    assert np.average(held_out, weights=spectrum) > 0


def test_presence_patterns_that_the_fit_did_not_see_are_placed(rng):
    inputs, kind, batch = planted(rng)
    both = np.arange(800)
    joint = LinearJoint().fit(inputs, {"a": both, "b": both}, batch[:800])
    old = joint.transform(inputs, {"a": both, "b": both}, batch[:800])
    new = joint.transform({"a": inputs["a"][800:]}, {"a": np.arange(400)}, batch[800:])
    assert new.shape == (400, old.shape[1])
    near = np.argsort(np.linalg.norm(new[:, None] - old[None], axis=2), axis=1)[:, :10]
    assert (kind[:800][near] == kind[800:, None]).mean() > 0.9


def test_one_batch_needs_no_names(rng):
    inputs, kind, _ = planted(rng, 600)
    maps = thirds(600)
    z = LinearJoint().fit(inputs, maps).transform(inputs, maps)
    assert np.isfinite(z).all()
    assert neighbours_of_kind(z, kind) > 0.9


def test_without_pairs_it_says_so_and_keeps_each_modality(rng, caplog):
    inputs, kind, batch = planted(rng, 600)
    n = np.arange(600)
    maps = {"a": np.where(n < 300, n, -1), "b": np.where(n >= 300, n, -1)}
    joint = LinearJoint().fit(inputs, maps, batch)
    assert joint.cca is None
    assert "No cells link a, b" in caplog.text
    z = joint.transform(inputs, maps, batch)
    assert np.isfinite(z).all()
    assert neighbours_of_kind(z[:300], kind[:300]) > 0.9


def test_three_modalities_in_a_chain(rng):
    inputs, kind, batch = planted(rng, 900, names=("a", "b", "c"))
    n = np.arange(900)
    maps = {
        "a": np.where(n < 500, n, -1),
        "b": np.where((n >= 200) & (n < 700), n, -1),
        "c": np.where(n >= 500, n, -1),
    }
    z = LinearJoint().fit(inputs, maps, batch).transform(inputs, maps, batch)
    assert neighbours_of_kind(z, kind) > 0.9


def test_a_modality_without_a_link_is_named_and_the_others_are_joined(rng, caplog):
    inputs, _, batch = planted(rng, 900, names=("a", "b", "c"))
    n = np.arange(900)
    maps = {"a": np.where(n < 600, n, -1), "b": np.where(n < 600, n, -1), "c": np.where(n >= 600, n, -1)}
    joint = LinearJoint().fit(inputs, maps, batch)
    assert set(joint.cca.axes) == {"a", "b"}
    assert "No cells link c" in caplog.text
    assert np.isfinite(joint.transform(inputs, maps, batch)).all()


def test_axes_of_a_model_join_modalities_without_pairs(rng):
    inputs, kind, batch = planted(rng, 600)
    n = np.arange(600)
    maps = {"a": np.where(n < 300, n, -1), "b": np.where(n >= 300, n, -1)}
    latent = 4 * np.eye(4)[kind] + 0.5 * rng.normal(size=(600, 4))
    joint = LinearJoint().fit(inputs, maps, batch, latent=latent)
    z = joint.transform(inputs, maps, batch, latent=latent)
    near = np.argsort(np.linalg.norm(z[:300, None] - z[None, 300:], axis=2), axis=1)[:, :10]
    assert (kind[300:][near] == kind[:300, None]).mean() > 0.9
    again = LinearJoint.from_state(joint.state()).transform(inputs, maps, batch, latent=latent)
    np.testing.assert_array_equal(again, z)
    with pytest.raises(ValueError, match="exactly if the fit had it"):
        joint.transform(inputs, maps, batch)
    with pytest.raises(ValueError, match="a row for each"):
        joint.transform(inputs, maps, batch, latent=latent[:5])


def test_the_state_is_the_whole_object(rng):
    inputs, _, batch = planted(rng, 600)
    maps = thirds(600)
    joint = LinearJoint().fit(inputs, maps, batch)
    again = LinearJoint.from_state(joint.state())
    np.testing.assert_array_equal(again.transform(inputs, maps, batch), joint.transform(inputs, maps, batch))


def test_misuse_is_said(rng):
    inputs, _, batch = planted(rng, 600)
    maps = thirds(600)
    with pytest.raises(NotFittedError):
        LinearJoint().transform(inputs, maps)
    with pytest.raises(NotFittedError):
        LinearJoint().state()
    with pytest.raises(ValueError, match="none of the modalities"):
        LinearJoint().fit(inputs, {m: np.r_[row[:-1], -1] for m, row in maps.items()})
    with pytest.raises(ValueError, match="batch for each"):
        LinearJoint().fit(inputs, maps, batch[:5])
    joint = LinearJoint().fit(inputs, maps, batch)
    with pytest.raises(ValueError, match="at least one of the modalities"):
        joint.transform({"z": inputs["a"]}, {"z": maps["a"]})


def test_linked_modalities_are_the_largest_chain():
    n = np.arange(100)
    maps = {"a": n, "b": np.where(n < 30, n, -1), "c": np.full(100, -1)}
    assert linked_modalities(maps) == ["a", "b"]
    assert linked_modalities({**maps, "b": np.where(n < 10, n, -1)}) == ["a"]


def test_scales_are_those_of_the_fullest_pattern_within_common_batches(rng):
    z = rng.normal(size=(900, 2))
    patterns = np.repeat(["a+b", "a", "b"], 300)
    batch = np.tile(["x", "y"], 450)
    z[patterns == "a"] *= 0.7
    z[(batch == "y") & (patterns == "b")] *= 9
    found = pattern_scales(z, patterns, np.where(patterns == "b", "z", batch))
    np.testing.assert_allclose(found["a"], 1 / 0.7, rtol=0.15)
    np.testing.assert_array_equal(found["b"], 1)
    np.testing.assert_array_equal(found["a+b"], 1)
