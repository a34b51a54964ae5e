"""Shrinking cells towards their neighbourhood, which every group of cells takes part in alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from smalti._errors import NotFittedError
from smalti._validate import check_count, check_in_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats32 = NDArray[np.float32]

MAX_ANCHORS = 3000
"""Anchors kept per group, so that cost is linear in the number of cells."""
FULL_SHARE = 20
"""A group takes part fully when it has this many cells per neighbour asked for, and less in proportion below."""
STEEPNESS = 2.0
"""How fast a group loses its part as its neighbours are further away than those of the nearest group."""
CHUNK_ROWS = 1024
SAME = 1e-3
"""Largest difference of a coordinate, in units of their spread, by which a cell is still itself."""
SAMPLE = 3000
"""Cells that reliabilities are computed on."""


class NeighbourShrinkage:
    r"""Mean of a cell's own coordinates and of those of its nearest cells in every group.

    What is known of a cell is its coordinates, with noise that depends on what was measured, and what its kind of cell
    looks like elsewhere. The estimate is between the two,

    .. math::

        \hat z_i = (1 - \lambda) z_i + \lambda \sum_g w_{ig} \bar z_{ig}, \qquad
        w_{ig} \propto \min\Big(1, \frac{n_g}{20 k}\Big) \exp\Big(-2 \Big(\frac{d_{ig}}{\min_h d_{ih}} - 1\Big)\Big)

    with :math:`\bar z_{ig}` the mean of the :math:`k` nearest cells in group :math:`g` (a batch and what was measured),
    :math:`d_{ig}` their mean distance. Cells of different groups in the same state share the second term and so come
    together; a population that only one group has finds no near cells in others and keeps to itself.

    Parameters
    ----------
    weight
        :math:`\lambda` in ``[0, 1]``; 0 changes nothing.
    n_neighbors
        :math:`k`.
    random_state
        Seed of the draw of anchors in groups of more than 3,000.

    Attributes
    ----------
    anchors
        ``{group: (n, d)}``, cells of the fit.
    n_cells
        ``{group: number of cells of the fit}``.
    """

    def __init__(self, *, weight: float = 0.7, n_neighbors: int = 5, random_state: int = 0) -> None:
        self.weight = check_in_range(weight, 0, 1, "weight")
        self.n_neighbors = check_count(n_neighbors, "n_neighbors")
        self.random_state = random_state
        self.anchors: dict[str, Floats32] = {}
        self.n_cells: dict[str, int] = {}

    def fit(self, z: ArrayLike, groups: ArrayLike) -> Self:
        """Keep cells ``(n, d)`` of groups ``(n,)`` as anchors."""
        z, groups = np.asarray(z, dtype=np.float32), np.asarray(groups).astype(str)
        if z.ndim != 2 or not np.isfinite(z).all() or groups.shape != (len(z),):
            raise ValueError(f"Expected finite coordinates and a group per cell, found {z.shape} and {groups.shape}.")
        rng = np.random.default_rng(self.random_state)
        self.anchors, self.n_cells = {}, {}
        for group in np.unique(groups):
            at = np.flatnonzero(groups == group)
            self.n_cells[str(group)] = len(at)
            if len(at) > MAX_ANCHORS:
                at = np.sort(rng.choice(at, MAX_ANCHORS, replace=False))
            self.anchors[str(group)] = z[at]
        return self

    def transform(self, z: ArrayLike) -> Floats32:
        """Return shrunken coordinates ``(n, d)`` of any cells; a cell is not its own neighbour. NaN stays NaN."""
        if not self.anchors:
            raise NotFittedError("This NeighbourShrinkage was not fitted. Call `fit` first.")
        z = np.asarray(z, dtype=np.float32)
        out = z.copy()
        known = np.flatnonzero(np.isfinite(z).all(axis=1))
        if self.weight == 0 or not len(known):
            return out
        means, distances, parts = [], [], []
        for group, anchors in self.anchors.items():
            mean, distance = _local_means(z[known], anchors, self.n_neighbors)
            means.append(mean)
            distances.append(distance)
            parts.append(min(1.0, self.n_cells[group] / (FULL_SHARE * self.n_neighbors)))
        d = np.stack(distances)
        nearest = np.maximum(d.min(axis=0), 1e-12)
        w = np.asarray(parts)[:, None] * np.exp(-STEEPNESS * (d / nearest - 1))
        w /= w.sum(axis=0)
        around = np.einsum("gn,gnd->nd", w, np.stack(means))
        out[known] = (1 - self.weight) * z[known] + self.weight * around
        return out

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted as plain arrays and numbers."""
        return {
            "weight": self.weight,
            "n_neighbors": self.n_neighbors,
            "random_state": self.random_state,
            "anchors": {group: a.copy() for group, a in self.anchors.items()},
            "n_cells": dict(self.n_cells),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the object that :meth:`state` describes."""
        new = cls(
            weight=float(state["weight"]),
            n_neighbors=int(state["n_neighbors"]),
            random_state=int(state["random_state"]),
        )
        new.anchors = {str(g): np.asarray(a, dtype=np.float32) for g, a in state["anchors"].items()}
        new.n_cells = {str(g): int(n) for g, n in state["n_cells"].items()}
        return new


def reliability(values: ArrayLike, space: ArrayLike, *, n_neighbors: int = 15, random_state: int = 0) -> Floats32:
    """Return how well neighbours tell each axis of a cell, ``(k,)`` in ``[0, 1]``.

    The correlation over cells (a sample of 3,000) of the axis with its mean over the nearest other cells in ``space``.
    An axis that is noise has 0; it says nothing about the state of a cell.

    Parameters
    ----------
    values
        ``(n, k)`` axes.
    space
        ``(n, d)`` in which neighbours are looked for.
    n_neighbors
        Cells averaged.
    random_state
        Seed of the sample.
    """
    x, z = np.asarray(values, dtype=np.float32), np.asarray(space, dtype=np.float32)
    n = len(x)
    if n < n_neighbors + 2:
        return np.ones(x.shape[1], dtype=np.float32)
    at = np.sort(np.random.default_rng(random_state).choice(n, min(SAMPLE, n), replace=False))
    _, near = _nearest(z[at], z, n_neighbors + 1)
    own = near == at[:, None]
    keep = np.ones_like(own)
    keep[np.arange(len(at)), np.where(own.any(axis=1), own.argmax(axis=1), n_neighbors)] = False
    around = x[near[keep].reshape(len(at), n_neighbors)].mean(axis=1)
    a, b = x[at] - x[at].mean(axis=0), around - around.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    r: Floats32 = np.clip(np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0), 0, 1)
    return r


def _nearest(x: Floats32, anchors: Floats32, k: int) -> tuple[Floats32, NDArray[np.int64]]:
    """Return distances and rows of the ``k`` nearest anchors, nearest first."""
    k = min(k, len(anchors))
    norm = (anchors**2).sum(axis=1)
    distance, index = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    for start in range(0, len(x), CHUNK_ROWS):
        block = x[start : start + CHUNK_ROWS]
        square = np.maximum(norm - 2 * block @ anchors.T + (block**2).sum(axis=1)[:, None], 0)
        near = np.argpartition(square, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(square, near, axis=1)
        order = np.argsort(found, axis=1)
        index[start : start + len(block)] = np.take_along_axis(near, order, axis=1)
        distance[start : start + len(block)] = np.sqrt(np.take_along_axis(found, order, axis=1))
    return distance, index


def _local_means(x: Floats32, anchors: Floats32, k: int) -> tuple[Floats32, Floats32]:
    """Return the mean of the ``k`` nearest anchors but the cell itself, ``(n, d)``, and their mean distance."""
    distance, index = _nearest(x, anchors, k + 1)
    if distance.shape[1] == 1:
        return anchors[index[:, 0]], distance[:, 0]
    # the same cell in a batch of another size differs in the last digits
    own = np.abs(anchors[index[:, 0]] - x).max(axis=1) <= SAME * max(float(anchors.std()), 1e-12)
    shift = np.where(own, 1, 0)[:, None] + np.arange(distance.shape[1] - 1)[None]
    index, distance = np.take_along_axis(index, shift, axis=1), np.take_along_axis(distance, shift, axis=1)
    return anchors[index].mean(axis=1), distance.mean(axis=1)
