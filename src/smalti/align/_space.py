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

NEAREST = 3
"""Landmarks that the evidence of other cells is taken from, weighted by the inverse square of the distance."""
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


class MatchingSpace:
    """The space in which two modalities are compared, for the cells it was made of and for any others.

    Latent and evidence side by side; then, twice, each modality is moved half of the way to the other, by the mean
    difference of the ten nearest pairs of mutual neighbours, as batches are corrected by :cite:t:`Haghverdi2018`.
    Canonical axes are linear, so what differs between modalities in a part of the space is left to that. The evidence
    of a cell is that of its nearest landmarks, of a cell that is a landmark its own.

    Parameters
    ----------
    components
        ``(L, p)`` of the landmarks, by modality.
    latents
        ``(L, d)`` of the landmarks.
    features
        ``(L, k)`` evidence of the landmarks, weighted; ``k`` may be 0.
    """

    def __init__(
        self, components: Mapping[str, Floats], latents: Mapping[str, Floats], features: Mapping[str, Floats]
    ) -> None:
        self.names = list(components)
        self.components, self.latents, self.features = dict(components), dict(latents), dict(features)
        self._search: dict[str, NearestNeighbors] = {}
        self._steps: list[tuple[Floats, list[tuple[Floats, NearestNeighbors]]]] | None = None

    def place(self, name: str, latents: Floats, components: Floats) -> Floats:
        """Return the coordinates of cells of one modality.

        Parameters
        ----------
        name
            The modality.
        latents
            ``(n, d)``.
        components
            ``(n, p)`` encoder inputs.

        Returns
        -------
        ``(n, d + k)``; compare by Euclidean distance.
        """
        z = np.hstack([latents, self._evidence(name, components)])
        if not len(z):  # a minibatch without the modality
            return z
        side = self.names.index(name)
        for shift, anchors in self._corrections():
            near = anchors[side][1].kneighbors(z, return_distance=False)
            z = z + (1 - 2 * side) * shift[near].mean(axis=1)
        return z

    def _evidence(self, name: str, components: Floats) -> Floats:
        features = self.features[name]
        if features.shape[1] == 0 or len(components) == 0:
            return np.zeros((len(components), features.shape[1]))
        if name not in self._search:
            k = min(NEAREST, len(features))
            self._search[name] = NearestNeighbors(n_neighbors=k).fit(self.components[name])
        distance, at = self._search[name].kneighbors(components)
        weight = 1 / np.maximum(np.square(distance), 1e-9 * np.square(distance[:, -1:]) + 1e-30)
        weight /= weight.sum(axis=1, keepdims=True)
        return np.einsum("nk,nkd->nd", weight, features[at])

    def _corrections(self) -> list[tuple[Floats, list[tuple[Floats, NearestNeighbors]]]]:
        """Return shifts of mutual pairs, ``(m, d + k)``, and a search for the nearest pairs by side; found once."""
        if self._steps is not None:
            return self._steps
        steps: list[tuple[Floats, list[tuple[Floats, NearestNeighbors]]]] = []
        coarse = [np.hstack([self.latents[name], self.features[name]]) for name in self.names]
        for _ in range(N_CORRECTIONS):
            rows = mutual_neighbors(coarse[0], coarse[1])
            if len(rows[0]) == 0:
                break
            shift = (coarse[1][rows[1]] - coarse[0][rows[0]]) / 2
            anchors, moved = [], []
            for side, sign in ((0, 1.0), (1, -1.0)):
                at = coarse[side][rows[side]]
                search = NearestNeighbors(n_neighbors=min(N_MUTUAL, len(shift))).fit(at)
                near = search.kneighbors(coarse[side], return_distance=False)
                anchors.append((at, search))
                moved.append(coarse[side] + sign * shift[near].mean(axis=1))
            steps.append((shift, anchors))
            coarse = moved
        self._steps = steps
        return steps


def fit_matching_space(
    problem: AlignmentProblem, pair: Pair, latents: Mapping[str, Floats], *, weight: float = EVIDENCE_WEIGHT
) -> MatchingSpace:
    """Make the space in which cells of two modalities are compared.

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
    """
    views = {name: problem.views[name] for name in pair}
    # in the precision of stored ones, so that a model is the same after loading
    coarse = {name: _single(view.landmark_means(np.asarray(latents[name], np.float64))) for name, view in views.items()}
    found = evidence_features(problem, pair) if weight > 0 else None
    features = {name: np.zeros((len(z), 0)) for name, z in coarse.items()}
    if found is not None:
        features = {name: _single(weight * f) for name, f in zip(pair, found, strict=True)}
    at = {name: _single((view.unscaled + view.mean)[view.landmarks]) for name, view in views.items()}
    return MatchingSpace(at, coarse, features)


def matching_space(
    problem: AlignmentProblem, pair: Pair, latents: Mapping[str, Floats], *, weight: float = EVIDENCE_WEIGHT
) -> tuple[Floats, Floats]:
    """Return coordinates of all cells of two modalities, ``(n_1, d + k)`` and ``(n_2, d + k)``.

    See :func:`fit_matching_space`.
    """
    space, views = fit_matching_space(problem, pair, latents, weight=weight), problem.views
    first, second = (
        space.place(name, np.asarray(latents[name], np.float64), views[name].unscaled + views[name].mean)
        for name in pair
    )
    return first, second


def _single(x: Floats) -> Floats:
    return np.asarray(x, dtype=np.float32).astype(np.float64)
