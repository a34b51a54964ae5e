"""One linear latent of a mosaic for looking at, clustering and mixing; it transfers to new cells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from smalti._errors import NotFittedError
from smalti._validate import check_in_range

from ._cca import LinearCCA
from ._completion import Completion, linked_modalities
from ._harmony import HarmonyMap
from ._pattern_scale import pattern_scales, presence_patterns, stretch
from ._shrinkage import NeighbourShrinkage, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from ._gram import Inputs, Maps

    Floats = NDArray[np.float64]

logger = logging.getLogger(__name__)
THETA = 1.0
"""Half of Harmony's default mixes as well (within 0.007 of the total score), and B cells that only one of four donors
has keep together better (their share among 15 neighbours is 0.97, and 0.74 with 2)."""
N_ROUNDS = 3
"""Rounds of step 5: three gentle ones mix better than one strong one (total 0.866 against 0.853 with a new donor)."""
OPTIONS = ("ridge", "shrinkage", "n_neighbors", "weighted", "random_state")


class LinearJoint:
    r"""Shared axes beside completed modalities, with batches and presence patterns mixed.

    1. *Shared*: axes of :class:`LinearCCA`; those whose correlation between modalities on held-out pairs is not
       positive are dropped. Cells of several modalities are averaged.
    2. *Private*: components of every modality; those that a cell lacks are predicted from what it has (ridge). Each is
       weighted by how well neighbours in the shared axes tell it, so that noise falls out.
    3. Both are scaled to a leading standard deviation of 1, and spreads of presence patterns are made equal.
    4. Harmony over batch and presence pattern, kept as a map (:class:`HarmonyMap`).
    5. If there is anything to mix: three times, cells are shrunk towards their neighbours in all batches and patterns.

    Parameters
    ----------
    ridge
        Regularisation of axes and regressions.
    shrinkage
        Weight of a cell's neighbourhood in each round of step 5, in ``[0, 1]``; 0 leaves the step out.
    n_neighbors
        Neighbours per batch and pattern in step 5.
    weighted
        Whether components are weighted in step 2; without, what one modality alone sees counts, and so does its noise.
    random_state
        Seed of folds, clusters and samples.

    Attributes
    ----------
    cca
        The shared axes; ``None`` if no cells link the modalities.
    weights
        ``{modality: (k,)}``, reliability of each component in ``[0, 1]`` over its block's leading spread.
    patterns
        Presence patterns of the fit.
    """

    def __init__(
        self,
        *,
        ridge: float = 0.01,
        shrinkage: float = 0.3,
        n_neighbors: int = 5,
        weighted: bool = True,
        random_state: int = 0,
    ) -> None:
        self.ridge, self.weighted, self.random_state = ridge, weighted, random_state
        self.shrinkage = check_in_range(shrinkage, 0, 1, "shrinkage")
        self.n_neighbors = n_neighbors
        self.cca: LinearCCA | None = None
        self.completion: Completion | None = None
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.scales: dict[str, float] = {}
        self.patterns: dict[str, Floats] = {}
        self.harmony: list[HarmonyMap] = []
        self.neighbourhoods: list[NeighbourShrinkage] = []

    def __repr__(self) -> str:
        if not self.harmony:
            return "LinearJoint(not fitted)"
        shared = "no shared axes" if self.cca is None else f"{int((self.cca.correlations > 0).sum())} shared axes"
        return f"LinearJoint({shared}, {' + '.join(self.weights)}, {self.harmony[0]!r})"

    def fit(
        self, inputs: Inputs, maps: Maps, batch: ArrayLike | None = None, *, latent: ArrayLike | None = None
    ) -> Self:
        """Fit to a mosaic.

        Parameters
        ----------
        inputs
            ``{modality: (n_rows, k)}``, components of every profile, centred per batch.
        maps
            ``{modality: (n_obs,)}``, the row of every cell in that modality, -1 where it was not measured.
        batch
            ``(n_obs,)`` names; ``None`` for one batch.
        latent
            ``(n_obs, q)``, axes on which a model places all cells, beside those of canonical correlation (if any).

        Returns
        -------
        The object itself.

        Raises
        ------
        ValueError
            If shapes do not fit, or a cell has no modality.
        """
        arrays = {str(name): np.asarray(z, dtype=np.float32) for name, z in inputs.items()}
        rows = {name: np.asarray(maps[name]).astype(np.int64) for name in arrays}
        present = {name: row >= 0 for name, row in rows.items()}
        empty = int((~np.column_stack(list(present.values())).any(axis=1)).sum())
        if empty:
            raise ValueError(f"{empty} cells have none of the modalities: leave them out of the fit.")
        batches = self._batches(batch, len(next(iter(rows.values()))))
        patterns = presence_patterns(present)
        linked = linked_modalities(rows)
        self.cca = None
        if len(linked) > 1:
            fitted = LinearCCA(ridge=self.ridge, random_state=self.random_state)
            self.cca = fitted.fit({m: arrays[m] for m in linked}, {m: rows[m] for m in linked})
        alone = [name for name in arrays if name not in linked or len(linked) < 2]
        if alone and len(arrays) > 1 and latent is None:
            logger.warning(
                "No cells link %s to another modality: cells are placed by their own components only, and modalities "
                "without a link are not aligned. Use a model for unpaired data to align them.",
                ", ".join(alone),
            )
        self.completion = Completion(ridge=self.ridge).fit(arrays, rows)
        shared = self._shared(arrays, rows, latent, fit=True)
        self._fit_weights(arrays, rows, shared)
        z = self._blocks(arrays, rows, shared)
        self.patterns = pattern_scales(z, patterns, batches)
        placed = (z * stretch(patterns, self.patterns)).astype(np.float32)
        covariates = {"batch": batches, "presence": patterns}
        self.harmony, self.neighbourhoods = [], []
        groups = np.char.add(np.char.add(batches, "|"), patterns)
        mixing = self.shrinkage > 0 and len(np.unique(groups)) > 1
        for step in range(1 + N_ROUNDS * mixing):
            if step > 0:
                options = {"n_neighbors": self.n_neighbors, "random_state": self.random_state + step}
                around = NeighbourShrinkage(weight=self.shrinkage, **options)
                self.neighbourhoods.append(around.fit(placed, groups))
                placed = around.transform(placed)
            self.harmony.append(HarmonyMap(theta=THETA, random_state=self.random_state).fit(placed, covariates))
            placed = self.harmony[-1].transform(placed, covariates)
        return self

    def transform(
        self,
        inputs: Inputs,
        maps: Maps,
        batch: ArrayLike | None = None,
        *,
        latent: ArrayLike | None = None,
        mix: bool = True,
    ) -> NDArray[np.float32]:
        """Return the latent of every cell, ``(n_obs, d)``, without a refit; NaN for a cell without any modality.

        Parameters
        ----------
        inputs, maps
            As in :meth:`fit`; modalities may be lacking.
        batch
            ``(n_obs,)`` names. A batch that the fit did not see is placed without a correction for it; so is a
            presence pattern.
        latent
            ``(n_obs, q)``, if the fit had one.
        mix
            Whether batches and presence patterns are mixed (steps 4 and 5).
        """
        if not self.harmony:
            raise NotFittedError("This LinearJoint was not fitted. Call `fit` first.")
        arrays = {str(name): np.asarray(z, dtype=np.float32) for name, z in inputs.items() if name in self.weights}
        rows = {name: np.asarray(maps[name]).astype(np.int64) for name in arrays}
        if not arrays:
            raise ValueError(f"Expected at least one of the modalities {', '.join(self.weights)}, found none of them.")
        n_obs = len(next(iter(rows.values())))
        patterns = presence_patterns({name: row >= 0 for name, row in rows.items()})
        z = self._blocks(arrays, rows, self._shared(arrays, rows, latent)) * stretch(patterns, self.patterns)
        z[np.all([row < 0 for row in rows.values()], axis=0)] = np.nan
        if not mix:
            return z.astype(np.float32)
        covariates = {"batch": self._batches(batch, n_obs), "presence": patterns}
        out = self.harmony[0].transform(z, covariates)
        for around, harmony in zip(self.neighbourhoods, self.harmony[1:], strict=True):
            out = harmony.transform(around.transform(out), covariates)
        return out

    # ------------------------------------------------------------------ parts

    @staticmethod
    def _batches(batch: ArrayLike | None, n_obs: int) -> NDArray[np.str_]:
        out = np.full(n_obs, "all") if batch is None else np.asarray(batch).astype(str)
        if out.shape != (n_obs,):
            raise ValueError(f"Expected a batch for each of {n_obs} cells, found shape {out.shape}.")
        return out

    def _fit_weights(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        rows: Mapping[str, NDArray[np.int64]],
        shared: NDArray[np.float32] | None,
    ) -> None:
        self.weights = {}
        for name, z in arrays.items():
            here = rows[name] >= 0
            x = z[rows[name][here]]
            weight = np.ones(z.shape[1], dtype=np.float32)
            if self.weighted and shared is not None and shared[here].any():
                norm = np.linalg.norm(shared[here], axis=1, keepdims=True)
                weight = reliability(x, shared[here] / np.maximum(norm, 1e-12), random_state=self.random_state)
            self.weights[name] = (weight / (float(x.std(axis=0).max()) or 1.0)).astype(np.float32)

    def _shared(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        rows: Mapping[str, NDArray[np.int64]],
        latent: ArrayLike | None,
        *,
        fit: bool = False,
    ) -> NDArray[np.float32] | None:
        """Return the axes that all cells have, each block of leading standard deviation 1; ``None`` without any.

        A cell is at the mean of canonical axes if none of its modalities has a link.
        """
        blocks: dict[str, NDArray[np.float32]] = {}
        n_obs = len(next(iter(rows.values())))
        if self.cca is not None:
            names = [name for name in arrays if name in self.cca.axes]
            keep = self.cca.correlations > 0
            z = np.zeros((n_obs, int(keep.sum())), dtype=np.float32)
            if names:
                z = self.cca.joint({m: arrays[m] for m in names}, {m: rows[m] for m in names})[:, keep]
            blocks["cca"] = np.nan_to_num(z)
        if latent is not None:
            z = np.asarray(latent, dtype=np.float32)
            if z.ndim != 2 or len(z) != n_obs:
                raise ValueError(f"Expected `latent` with a row for each of {n_obs} cells, found shape {z.shape}.")
            blocks["latent"] = np.nan_to_num(z)
        if fit:
            self.scales = {name: float(z.std(axis=0).max()) or 1.0 for name, z in blocks.items()}
        if set(blocks) != set(self.scales):
            raise ValueError("Expected `latent` exactly if the fit had it: pass the same axes of these cells.")
        out = [z / np.float32(self.scales[name]) for name, z in blocks.items()]
        return np.hstack(out) if out else None

    def _blocks(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        rows: Mapping[str, NDArray[np.int64]],
        shared: NDArray[np.float32] | None,
    ) -> Floats:
        assert self.completion is not None
        complete = self.completion.transform(arrays, rows)
        blocks = [complete[name] * weight for name, weight in self.weights.items()]
        out: Floats = np.hstack([*([] if shared is None else [shared]), *blocks]).astype(np.float64)
        return out

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted as nested dictionaries of plain arrays, lists and numbers."""
        if self.completion is None:
            raise NotFittedError("This LinearJoint was not fitted. Call `fit` first.")
        return {
            **{name: getattr(self, name) for name in OPTIONS},
            "cca": None if self.cca is None else self.cca.state(),
            "completion": self.completion.state(),
            "weights": {name: w.copy() for name, w in self.weights.items()},
            "scales": dict(self.scales),
            "patterns": {name: s.copy() for name, s in self.patterns.items()},
            "harmony": [h.state() for h in self.harmony],
            "neighbourhoods": [around.state() for around in self.neighbourhoods],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the object that :meth:`state` describes."""
        new = cls(**{k: state[k] for k in OPTIONS if k in state})
        new.cca = None if state["cca"] is None else LinearCCA.from_state(state["cca"])
        new.completion = Completion.from_state(state["completion"])
        new.weights = {str(k): np.asarray(v, dtype=np.float32) for k, v in state["weights"].items()}
        new.scales = {str(k): float(v) for k, v in state["scales"].items()}
        new.patterns = {str(k): np.asarray(v, dtype=np.float64) for k, v in state["patterns"].items()}
        new.harmony = [HarmonyMap.from_state(h) for h in state["harmony"]]
        new.neighbourhoods = [NeighbourShrinkage.from_state(around) for around in state["neighbourhoods"]]
        return new
