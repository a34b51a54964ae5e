"""Harmony whose correction is kept as a map, so that new cells of known batches are corrected without a refit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from smalti._errors import NotFittedError
from smalti._validate import check_positive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Covariates = Mapping[str, ArrayLike]

logger = logging.getLogger(__name__)

MIN_CELLS = 60
"""Cells below which Harmony would have one cluster (it uses one per 30 cells)."""
CHUNK_ROWS = 4096
N_REFITS = 1
"""Rounds of offsets for the map's own clusters; more change nothing."""
EXACT = 1e-3
"""Ridge, in cells, of the offsets of Harmony's own clusters: what Harmony did is linear in them, so it settles ties."""


class HarmonyMap:
    r"""Harmony :cite:p:`Korsunsky2019` as a stored map.

    Harmony moves cell :math:`i` of the levels :math:`b` (its batch, its presence pattern, ...) by offsets that depend
    on its soft clusters, :math:`z_i - \sum_k R_{ik} \sum_{b} w_{kb}`. The clusters' centroids :math:`Y_k` and the
    offsets :math:`w_{kb}` are kept. A new cell is first moved as each cluster would move it, and belongs to those
    clusters whose centroid it then points at:

    .. math::

        R_{ik} \propto \exp\Big(-\tfrac{2}{\sigma} \big(1 - \cos(z_i - \textstyle\sum_b w_{kb}, Y_k)\big)\Big)

    Offsets are those that, mixed by these clusters, come nearest to what Harmony did (least squares, twice). Training
    cells go through the same map, so that a cell has the same coordinates whenever it is seen.

    Parameters
    ----------
    theta
        Diversity penalty of every covariate; 2 is Harmony's default.
    sigma
        Width of the soft clusters; 0.1 is Harmony's default.
    random_state
        Seed of the clusters.

    Attributes
    ----------
    levels
        ``{covariate: levels of the fit}``, those covariates that have at least two.
    centroids
        ``(n_clusters, d)``, unit length.
    offsets
        ``(n_clusters, n_levels, d)``, levels of all covariates one after the other.

    Notes
    -----
    Harmony's own diversity term is left out of the clusters of the map: it depends on all other cells, and with it
    the map came less near (0.25 against 0.21 of what Harmony moves, root mean square, in a mosaic where every donor
    has other modalities).
    """

    def __init__(self, *, theta: float = 2.0, sigma: float = 0.1, random_state: int = 0) -> None:
        self.theta = check_positive(theta, "theta", allow_zero=True)
        self.sigma = check_positive(sigma, "sigma")
        self.random_state = random_state
        self.levels: dict[str, list[str]] = {}
        self.centroids: Floats = np.zeros((0, 0))
        self.offsets: Floats = np.zeros((0, 0, 0))
        self._fitted = False

    def __repr__(self) -> str:
        if not self._fitted:
            return "HarmonyMap(not fitted)"
        over = ", ".join(f"{name} ({len(levels)})" for name, levels in self.levels.items())
        return f"HarmonyMap({len(self.centroids)} clusters over {over or 'nothing'})"

    def fit(self, z: ArrayLike, covariates: Covariates) -> Self:
        """Fit to cells of known levels.

        Parameters
        ----------
        z
            ``(n, d)`` coordinates, any unit.
        covariates
            ``{name: (n,)}`` levels. Covariates with one level are left out; without any the map changes nothing.

        Returns
        -------
        The object itself.

        Raises
        ------
        ValueError
            If the coordinates are not finite, or shapes do not fit.
        """
        z = _check(z)
        tables = {name: np.asarray(values).astype(str) for name, values in covariates.items()}
        for name, values in tables.items():
            if values.shape != (len(z),):
                raise ValueError(f"Expected {len(z)} levels of covariate {name!r}, found shape {values.shape}.")
        self.levels = {name: list(np.unique(v)) for name, v in tables.items() if len(np.unique(v)) > 1}
        n_levels = sum(len(levels) for levels in self.levels.values())
        self._fitted = True
        if not self.levels or len(z) < MIN_CELLS:
            if self.levels:
                logger.warning("%d cells are too few for Harmony (%d needed): left as they are.", len(z), MIN_CELLS)
            self.levels, self.centroids = {}, np.zeros((0, z.shape[1]))
            self.offsets = np.zeros((0, 0, z.shape[1]))
            return self
        import harmonypy

        found = harmonypy.run_harmony(
            z,
            pd.DataFrame({name: tables[name] for name in self.levels}),
            list(self.levels),
            theta=self.theta,
            sigma=self.sigma,
            random_state=self.random_state,
            nclust=max(2, min(round(len(z) / 30), 100)),
            ncores=1,
            verbose=False,
        )
        r, corrected = np.asarray(found.R, np.float64), np.asarray(found.Z_corr, np.float64)
        y = np.asarray(found.Y, np.float64).T
        self.centroids = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
        onehot = self._onehot(tables, len(z))
        shape = (len(y), n_levels, z.shape[1])
        self.offsets = _offsets(r, onehot, z - corrected, np.zeros(shape), EXACT)
        for _ in range(N_REFITS):
            self.offsets = _offsets(self._assign(z, onehot), onehot, z - corrected, self.offsets, 1.0)
        return self

    def transform(self, z: ArrayLike, covariates: Covariates) -> NDArray[np.float32]:
        """Return corrected coordinates ``(n, d)``.

        Parameters
        ----------
        z
            ``(n, d)``; rows of NaN stay NaN.
        covariates
            ``{name: (n,)}``, at least those of the fit. A level that the fit did not see moves nothing.
        """
        if not self._fitted:
            raise NotFittedError("This HarmonyMap was not fitted. Call `fit` first.")
        z = np.asarray(z, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self.centroids.shape[1]:
            raise ValueError(f"Expected coordinates of width {self.centroids.shape[1]}, found shape {z.shape}.")
        if not self.levels:
            return z.astype(np.float32)
        missing = [name for name in self.levels if name not in covariates]
        if missing:
            raise ValueError(f"Expected the covariate {missing[0]!r}, which Harmony was fitted with: pass its levels.")
        onehot = self._onehot({name: np.asarray(covariates[name]).astype(str) for name in self.levels}, len(z))
        out = np.empty(z.shape, dtype=np.float32)
        for rows, moves in self._combinations(onehot):
            out[rows] = z[rows] - self._clusters(z[rows], moves) @ moves
        return out

    def _combinations(self, onehot: Floats) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Yield rows of one combination of levels, in chunks, and how each cluster moves them, ``(K, d)``."""
        groups, member = np.unique(onehot, axis=0, return_inverse=True)
        for g, levels in enumerate(groups):
            rows = np.flatnonzero(member.ravel() == g)
            moves = np.tensordot(levels, self.offsets, axes=(0, 1))
            for start in range(0, len(rows), CHUNK_ROWS):
                yield rows[start : start + CHUNK_ROWS], moves

    def _assign(self, z: Floats, onehot: Floats) -> Floats:
        """Return the soft clusters of cells of any levels, ``(n, K)``."""
        out = np.empty((len(z), len(self.centroids)))
        for rows, moves in self._combinations(onehot):
            out[rows] = self._clusters(z[rows], moves)
        return out

    def _clusters(self, z: Floats, moves: Floats) -> Floats:
        """Return the soft clusters of cells of one combination of levels, ``(n, K)``."""
        inner = z @ self.centroids.T - (moves * self.centroids).sum(axis=1)
        square = (z**2).sum(axis=1)[:, None] - 2 * z @ moves.T + (moves**2).sum(axis=1)
        cosine = inner / np.sqrt(np.maximum(square, 1e-12))
        logits = -2 * (1 - cosine) / self.sigma
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        soft: Floats = weight / weight.sum(axis=1, keepdims=True)
        return soft

    def _onehot(self, tables: Mapping[str, NDArray[np.str_]], n: int) -> Floats:
        blocks = [tables[name][:, None] == np.asarray(levels)[None] for name, levels in self.levels.items()]
        out: Floats = np.hstack(blocks).astype(np.float64) if blocks else np.zeros((n, 0))
        return out

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted as plain arrays, lists and numbers."""
        return {
            "theta": self.theta,
            "sigma": self.sigma,
            "random_state": self.random_state,
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "centroids": self.centroids.copy(),
            "offsets": self.offsets.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the object that :meth:`state` describes."""
        new = cls(theta=float(state["theta"]), sigma=float(state["sigma"]), random_state=int(state["random_state"]))
        new.levels = {str(name): [str(x) for x in levels] for name, levels in state["levels"].items()}
        new.centroids, new.offsets = (np.asarray(state[name], dtype=np.float64) for name in ("centroids", "offsets"))
        new._fitted = True
        return new


def _check(z: ArrayLike) -> Floats:
    out = np.asarray(z, dtype=np.float64)
    if out.ndim != 2 or not np.isfinite(out).all():
        raise ValueError(f"Expected finite coordinates (cells, axes), found an array of shape {out.shape}.")
    return out


def _offsets(r: Floats, onehot: Floats, moved: Floats, start: Floats, ridge: float) -> Floats:
    """Return the offsets ``(K, L, d)`` whose mixture by soft clusters is what Harmony subtracted, by least squares.

    ``ridge`` is in cells and holds offsets at ``start`` where a cluster has next to no cells of a level.
    """
    k, n_levels, d = start.shape
    gram = ridge * np.eye(k * n_levels)
    right = ridge * start.reshape(-1, d)
    for first in range(0, len(r), CHUNK_ROWS):
        rows = slice(first, first + CHUNK_ROWS)
        design = (r[rows, :, None] * onehot[rows, None, :]).reshape(-1, k * n_levels)
        gram += design.T @ design
        right += design.T @ moved[rows]
    solved: Floats = np.asarray(np.linalg.solve(gram, right), dtype=np.float64).reshape(k, n_levels, d)
    return solved
