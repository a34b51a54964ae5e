"""Other ways to align the same problem, behind one call: for comparison, not for use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.neighbors import NearestNeighbors

from smalti._linalg import unit_rows
from smalti._validate import check_choice, shorten

from ._space import N_MUTUAL, evidence_features, mutual_neighbors
from ._transport import geometry, gromov_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._problem import AlignmentProblem

Baseline = Literal["links", "procrustes", "mnn", "gromov", "random"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
"""Ways to align that :func:`align_baseline` knows."""
MAX_GROMOV = 800


def align_baseline(
    problem: AlignmentProblem, method: Baseline, *, n_latent: int = 10, random_state: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Align the landmarks of two modalities by a method to compare with.

    ``"links"``
        Smoothed evidence, standardised, rows of unit length, nearest neighbours.
    ``"procrustes"``
        Components rotated onto each other by mutual nearest neighbours in the evidence.
    ``"mnn"``
        Evidence of the second modality, corrected by the mean shift to mutual nearest neighbours of each cell.
    ``"gromov"``
        Distances within modalities alone, as in SCOT :cite:p:`Demetci2022`: the second modality stays, the first is
        projected onto it over the plan.
    ``"random"``
        Random directions of each modality's components.

    Parameters
    ----------
    problem
        Two modalities, with evidence for all methods but the last two.
    method
        Which.
    n_latent
        Columns of ``"random"`` and ``"procrustes"``.
    random_state
        Seed.

    Returns
    -------
    ``{modality: (L, d)}``, one row per landmark (per cell of small data).
    """
    check_choice(method, BASELINES, "method")
    names = list(problem.views)
    if len(names) != 2:
        raise ValueError(f"Baselines align two modalities, found {shorten(names)}.")
    first, second = (problem.views[name] for name in names)
    x, y = first.landmark_means(first.components), second.landmark_means(second.components)
    rng = np.random.default_rng(random_state)
    if method == "random":
        pair = [z @ rng.normal(size=(z.shape[1], n_latent)) for z in (x, y)]
        return dict(zip(names, (unit_rows(z) for z in pair), strict=True))
    if method == "gromov":
        x, y = first.landmark_means(first.unscaled), second.landmark_means(second.unscaled)
        return dict(zip(names, _gromov(problem, x, y, rng), strict=True))
    features = evidence_features(problem, (names[0], names[1]))
    if features is None:
        raise ValueError(f"Method {method!r} needs links, pairs or labels; 'gromov' and 'random' need none.")
    a, b = features
    if method == "links":
        return dict(zip(names, (a, b), strict=True))
    rows, columns = mutual_neighbors(a, b)
    if method == "procrustes":
        d = min(n_latent, x.shape[1], y.shape[1])
        x, y = unit_rows(x[:, :d]), unit_rows(y[:, :d])
        rotation = orthogonal_procrustes(x[rows], y[columns])[0] if len(rows) else np.eye(d)
        return {names[0]: x @ rotation, names[1]: y}
    shift = a[rows] - b[columns]
    near = NearestNeighbors(n_neighbors=min(N_MUTUAL, len(columns))).fit(b[columns])
    return {names[0]: a, names[1]: b + shift[near.kneighbors(b, return_distance=False)].mean(axis=1)}


def _gromov(
    problem: AlignmentProblem, x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    kept = [np.sort(rng.choice(len(z), min(len(z), MAX_GROMOV), replace=False)) for z in (x, y)]
    mass = [np.full(len(at), 1 / len(at)) for at in kept]
    plan = gromov_plan((geometry(x[kept[0]]), geometry(y[kept[1]])), (mass[0], mass[1]))
    projected = (plan @ y[kept[1]]) / np.maximum(plan.sum(axis=1), 1e-300)[:, None]
    near = NearestNeighbors(n_neighbors=1).fit(x[kept[0]]).kneighbors(x, return_distance=False)[:, 0]
    return [projected[near], y]
