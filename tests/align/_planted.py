"""Two or three modalities of cells with planted common factors, without any pair in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smalti.align import AlignmentProblem, link_evidence, make_view


@dataclass
class Planted:
    """Cells ``i`` of all modalities are the same, but nothing says so."""

    components: list[np.ndarray]
    linked: list[np.ndarray]
    kind: np.ndarray


def planted(n: int = 240, n_modalities: int = 2, n_links: int = 16, noise: float = 0.4, seed: int = 0) -> Planted:
    """Make clusters of unequal size along four factors, seen through random maps, and noisy linked features."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(5, n, p=[0.35, 0.25, 0.2, 0.12, 0.08])
    factors = 2 * rng.normal(size=(5, 4))[kind] + rng.normal(size=(n, 4))
    loadings = rng.normal(size=(4, n_links))
    return Planted(
        [factors @ rng.normal(size=(4, 10)) + noise * rng.normal(size=(n, 10)) for _ in range(n_modalities)],
        [factors @ loadings + 2 * rng.normal(size=(n, n_links)) for _ in range(n_modalities)],
        kind,
    )


def linked_problem(data: Planted, *, permute: int | None = None, **options: int) -> AlignmentProblem:
    """Return the problem of aligning the first two modalities by links."""
    views = (make_view(data.components[0], **options), make_view(data.components[1], **options))
    second = data.linked[1]
    if permute is not None:
        second = second[:, np.random.default_rng(permute).permutation(second.shape[1])]
    return AlignmentProblem(
        {"a": views[0], "b": views[1]}, {("a", "b"): [link_evidence(views, (data.linked[0], second))]}
    )
