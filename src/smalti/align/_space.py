"""The space in which cells of two modalities are matched: latent, evidence, and a local correction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from smalti._linalg import unit_rows

from ._evidence import standardise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ._problem import AlignmentProblem, Pair

    Floats = NDArray[np.float64]

N_MUTUAL = 10
"""Neighbours among which mutual ones count, and mutual pairs that a correction is averaged over."""
N_CORRECTIONS = 2
"""Corrections in a row. The second changes nothing where pairs are known (PBMC, SNARE cortex: less than 0.001) and adds
0.01 to label transfer between the days of spleen."""
EVIDENCE_WEIGHT = 0.5
"""Weight of evidence beside the latent: the largest that costs next to nothing where pairs are known. FOSCTTM with 0,
0.5 and 1 is 0.0725, 0.0735 and 0.0786 (PBMC), 0.151, 0.152 and 0.157 (SNARE cortex); label transfer between two days of
spleen rises from 0.478 to 0.480 and, with the correction, from 0.500 to 0.521."""


def evidence_features(problem: AlignmentProblem, pair: Pair) -> tuple[Floats, Floats] | None:
    """Return all evidence on two modalities side by side, standardised, rows of unit length, at their landmarks.

    Returns
    -------
    ``(L_1, k)`` and ``(L_2, k)``, or ``None`` without evidence.
    """
    found = [(key, e) for key, several in problem.evidence.items() if set(key) == set(pair) for e in several]
    if not found:
        return None
    sides = []
    for name in pair:
        mass = problem.views[name].mass
        sides.append(unit_rows(np.hstack([standardise(e.values[key.index(name)], mass) for key, e in found])))
    return sides[0], sides[1]


def mutual_neighbors(a: Floats, b: Floats, k: int = N_MUTUAL) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of ``a`` and ``b`` that are among each other's ``k`` nearest."""
    k = min(k, len(a), len(b))
    there = NearestNeighbors(n_neighbors=k).fit(b).kneighbors_graph(a)
    back = NearestNeighbors(n_neighbors=k).fit(a).kneighbors_graph(b)
    both = there.multiply(back.T).tocoo()
    return both.row.astype(np.int64), both.col.astype(np.int64)


def matching_space(
    problem: AlignmentProblem, pair: Pair, latents: Mapping[str, Floats], *, weight: float = EVIDENCE_WEIGHT
) -> tuple[Floats, Floats]:
    """Return coordinates in which cells of two modalities are compared.

    Latent and evidence side by side; then, twice, each modality is moved half of the way to the other, by the mean
    difference of the ten nearest pairs of mutual neighbours, as batches are corrected by :cite:t:`Haghverdi2018`.
    Canonical axes are linear, so what differs between modalities in a part of the space is left to that.

    Parameters
    ----------
    problem
        What was aligned.
    pair
        Two modalities.
    latents
        ``(n, d)`` of all their cells, by name.
    weight
        Of the evidence; the latent has 1.

    Returns
    -------
    ``(n_1, d + k)`` and ``(n_2, d + k)``.
    """
    views = [problem.views[name] for name in pair]
    cells = [np.asarray(latents[name], dtype=np.float64) for name in pair]
    coarse = [view.landmark_means(z) for view, z in zip(views, cells, strict=True)]
    features = evidence_features(problem, pair)
    if features is not None and weight > 0:
        coarse = [np.hstack([z, weight * f]) for z, f in zip(coarse, features, strict=True)]
        cells = [np.hstack([z, weight * (v.members @ f)]) for z, v, f in zip(cells, views, features, strict=True)]
    for _ in range(N_CORRECTIONS):
        rows = mutual_neighbors(coarse[0], coarse[1])
        if len(rows[0]) == 0:
            break
        shift = (coarse[1][rows[1]] - coarse[0][rows[0]]) / 2
        moved = []
        for side, sign in ((0, 1.0), (1, -1.0)):
            anchors = NearestNeighbors(n_neighbors=min(N_MUTUAL, len(shift))).fit(coarse[side][rows[side]])
            near = anchors.kneighbors(cells[side], return_distance=False)
            moved.append(cells[side] + sign * shift[near].mean(axis=1))
        cells = moved
        coarse = [view.landmark_means(z) for view, z in zip(views, cells, strict=True)]
    return cells[0], cells[1]
