"""Charts are laid over each other rightly, by the simplest transform that does."""

from __future__ import annotations

import numpy as np
import pytest

from smalti import simulate
from smalti.metrics import stress
from smalti.model.manifold._register import choose_family, fit_transform, left_out_errors, register_charts


def turned(x: np.ndarray, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    d = x.shape[1]
    return scale * x @ np.linalg.qr(rng.normal(size=(d, d)))[0] + rng.normal(size=d)


def registered(charts: dict[str, np.ndarray], **options) -> np.ndarray:
    placed = register_charts(charts, **options)
    return np.nanmean([z @ placed[name].matrix + placed[name].shift for name, z in charts.items()], axis=0)


@pytest.mark.parametrize(("family", "scale"), [("rigid", 1.0), ("similarity", 1.7), ("affine", 1.0)])
@pytest.mark.parametrize("d", [2, 5])
def test_a_transform_of_the_family_is_undone_from_one_cell_more_than_dimensions(family, scale, d) -> None:
    rng = np.random.default_rng(d)
    target = rng.normal(size=(d + 1, d))
    source = turned(target, rng, scale)
    if family == "affine":
        source = source @ rng.normal(size=(d, d))
    matrix, shift = fit_transform(source, target, family)
    np.testing.assert_allclose(source @ matrix + shift, target, atol=1e-8)
    if family == "rigid":
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(d), atol=1e-8)


def test_left_out_errors_are_those_of_refitting_without_the_cell() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(7, 2))
    source = turned(target, rng) + 0.1 * rng.normal(size=(7, 2))
    errors = left_out_errors(source, target, "rigid", rng)
    rest = np.arange(7) != 3
    matrix, shift = fit_transform(source[rest], target[rest], "rigid")
    assert errors[3] == pytest.approx(((source[3] @ matrix + shift - target[3]) ** 2).mean())


def test_the_simplest_family_that_is_enough_is_chosen() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(size=(40, 2))
    every = ["rigid", "similarity", "affine"]
    for scale, stretch, expected in ((1.0, 1.0, "rigid"), (1.5, 1.0, "similarity"), (1.0, 2.0, "affine")):
        source = turned(target * [1.0, stretch], rng, scale) + 0.02 * rng.normal(size=(40, 2))
        assert choose_family(source, target, every, rng) == expected


def test_noisy_charts_need_about_four_cells_per_dimension() -> None:
    truth, charts = simulate.noisy_charts(1000, noise=0.03)
    rng, mean = np.random.default_rng(0), {}
    both = np.flatnonzero(np.isfinite(charts["a"][:, 0]) & np.isfinite(charts["b"][:, 0]))
    for m in (2, 8, 100):
        found = []
        for _ in range(20):
            lost = rng.permutation(both)[m:]
            half = {name: z.copy() for name, z in charts.items()}
            half["a"][lost[::2]], half["b"][lost[1::2]] = np.nan, np.nan
            found.append(stress(registered(half, registration="rigid"), truth))
        mean[m] = np.mean(found)
    assert mean[2] > 0.02  # the reflection is not fixed
    assert mean[8] < 0.015
    assert mean[100] < 0.01


def test_a_wrong_burst_scale_is_found_and_undone_by_a_similarity_but_not_by_a_rigid_map() -> None:
    truth, charts = simulate.noisy_charts(600, noise=0.02, scales=(1.0, 1 / 1.5))
    rigid = registered(charts, registration="rigid", scale_known=True)
    auto = registered(charts, registration="auto", scale_known=True)
    placed = register_charts(charts, scale_known=True)
    moved = next(p for p in placed.values() if p.family is not None)
    assert moved.family == "similarity"
    assert max(moved.scale, 1 / moved.scale) == pytest.approx(1.5, rel=0.05)
    first = next(name for name, p in placed.items() if p.family is None)
    unit = 1.0 if first == "a" else 1.5
    assert stress(unit * auto, truth) < 0.01 < 0.03 < stress(unit * rigid, truth)


def test_a_chain_of_charts_is_laid_along_its_strongest_links() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((300, 2))
    low, high = {"a": 0.0, "b": 0.3, "c": 0.6}, {"a": 0.4, "b": 0.7, "c": 1.0}
    charts = {
        name: np.where(((truth[:, 0] >= low[name]) & (truth[:, 0] <= high[name]))[:, None], turned(truth, rng), np.nan)
        for name in low
    }
    assert stress(registered(charts, registration="rigid"), truth) < 1e-12


def test_charts_without_a_common_cell_are_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20, 2))
    charts = {
        "a": np.where(np.arange(20)[:, None] < 10, z, np.nan),
        "b": np.where(np.arange(20)[:, None] < 10, np.nan, z),
    }
    with pytest.raises(ValueError, match="'b' share no cell with those of 'a'|'a' share no cell with those of 'b'"):
        register_charts(charts)
