"""The space in which cells are matched."""

from __future__ import annotations

import numpy as np
import pytest
from align._planted import linked_problem, planted

from smalti.align import AlignmentProblem, fit_alignment, matching_space
from smalti.align._space import evidence_features, mutual_neighbors
from smalti.metrics import foscttm


def test_mutual_neighbors_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 2)), rng.normal(size=(25, 2))
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    found = set(zip(*mutual_neighbors(a, b, 3), strict=True))
    expected = {
        (i, j)
        for i in range(30)
        for j in range(25)
        if j in np.argsort(distance[i])[:3] and i in np.argsort(distance[:, j])[:3]
    }
    assert {(int(i), int(j)) for i, j in found} == expected


def test_a_shift_between_modalities_is_undone_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    problem = linked_problem(planted())
    bare = AlignmentProblem(problem.views, {})
    z = np.repeat(rng.normal(size=(6, 5)) * 4, 40, axis=0) + 0.6 * rng.normal(size=(240, 5))
    moved = z + np.repeat(rng.normal(size=(6, 5)), 40, axis=0)  # every group its own way
    latents = {"a": z, "b": moved}
    x, y = matching_space(bare, ("a", "b"), latents)
    assert x.shape == y.shape == (240, 5)
    assert foscttm(x, y) < 0.7 * foscttm(z, moved)
    other_y, other_x = matching_space(bare, ("b", "a"), latents)  # up to ties between pairs of mutual neighbours
    assert foscttm(other_x, other_y) == pytest.approx(foscttm(x, y), abs=0.005)


def test_evidence_is_part_of_it_on_either_side() -> None:
    problem = linked_problem(planted())
    k = evidence_features(problem, ("a", "b"))[0].shape[1]
    swapped = evidence_features(problem, ("b", "a"))
    assert np.array_equal(swapped[1], evidence_features(problem, ("a", "b"))[0])
    noise = {name: np.zeros((240, 3)) for name in "ab"}
    x, y = matching_space(problem, ("a", "b"), noise)
    assert x.shape == (240, 3 + k)
    assert foscttm(x, y) < 0.25  # links alone
    x, _ = matching_space(problem, ("a", "b"), noise, weight=0)
    assert x.shape == (240, 3)


@pytest.mark.parametrize("n", [60, 240])
def test_the_space_matches_at_least_as_well_as_the_latent(n: int) -> None:
    data = planted(n)
    problem = linked_problem(data)
    found = fit_alignment(problem)
    latents = {
        name: found.cca.transform({name: v.components / np.where(v.scale > 0, v.scale, 1) + v.mean})[name]
        for name, v in problem.views.items()
    }
    assert foscttm(*matching_space(problem, ("a", "b"), latents)) <= foscttm(latents["a"], latents["b"]) + 0.02
