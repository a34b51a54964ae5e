"""Filling in what was not measured of a cell, linearly, from whatever was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from smalti._errors import NotFittedError
from smalti._validate import check_positive
from smalti.data import linked_groups

from ._gram import MosaicGram, grams, stacked, total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ._gram import Floats

MIN_PAIRS = 20
"""Cells with two modalities below which one says nothing about the other."""
FLOOR = 0.01
"""Smallest variance left of a component, as a share of its own, so that no source is trusted without bounds."""


class Completion:
    r"""Ridge regression of each modality's components on any set of the others.

    Only second moments are kept, so that the regression for any presence pattern follows in closed form, also for one
    that no training cell has. From one modality :math:`s` that is

    .. math:: \hat x_{t|s} = m_t + (x_s - m_s) (C_{ss} + \lambda I)^{-1} C_{st}

    and from several the mean of these, each component weighted by the inverse of the variance that is left. (One
    regression on all of them needs covariances of the same cells; those of different sets of cells contradict each
    other, and it came out worse than the mean of the target.) A modality that nothing tells of is filled with its mean.

    Parameters
    ----------
    ridge
        Added to the diagonal of :math:`C_{ss}`, in units of its mean.

    Attributes
    ----------
    gram
        Second moments of the cells with at least two modalities.
    """

    def __init__(self, *, ridge: float = 0.01) -> None:
        self.ridge = check_positive(ridge, "ridge")
        self.gram: MosaicGram | None = None

    def fit(self, inputs: Mapping[str, NDArray[np.floating]], maps: Mapping[str, NDArray[np.int64]]) -> Self:
        """Fit to components ``{modality: (n_rows, k)}`` and row maps ``{modality: (n_obs,)}``, -1 where absent."""
        present = np.column_stack([maps[name] >= 0 for name in inputs])
        several = np.flatnonzero(present.sum(axis=1) >= 2)
        cells = several if len(several) else np.flatnonzero(present.any(axis=1))
        rows = stacked(inputs, maps, cells)
        self.gram = total(grams(inputs, rows, [np.arange(len(rows))]))
        return self

    def transform(
        self, inputs: Mapping[str, NDArray[np.floating]], maps: Mapping[str, NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return components of every modality for every cell, ``{modality: (n_obs, k)}``: measured ones as they are.

        Modalities of the fit that ``inputs`` lack are completed for all cells; a cell without any gets NaN.
        """
        if self.gram is None:
            raise NotFittedError("This Completion was not fitted. Call `fit` first.")
        names = self.gram.names
        n_obs = len(next(iter(maps.values())))
        rows = {name: maps.get(name, np.full(n_obs, -1)) for name in names}
        here = np.column_stack([rows[name] >= 0 for name in names])
        out = {name: np.full((n_obs, k), np.nan, np.float32) for name, k in zip(names, self.gram.sizes, strict=True)}
        for name in names:
            at = rows[name] >= 0
            if at.any():
                out[name][at] = inputs[name][rows[name][at]]
        for pattern in np.unique(here, axis=0):
            cells = np.flatnonzero((here == pattern).all(axis=1))
            sources = np.flatnonzero(pattern)
            if not len(sources):
                continue
            for t in np.flatnonzero(~pattern):
                out[names[t]][cells] = self._predict({int(i): out[names[i]][cells] for i in sources}, int(t))
        return out

    def _predict(self, sources: Mapping[int, NDArray[np.float32]], target: int) -> Floats:
        assert self.gram is not None
        gram = self.gram
        useful = [i for i in sources if gram.count(i, target) >= MIN_PAIRS]
        if not useful:
            return np.tile(gram.mean(target, target), (len(next(iter(sources.values()))), 1))
        summed, precision = 0.0, 0.0
        for i in useful:
            c, cross = gram.covariance(i, i), gram.covariance(i, target)
            slope = np.linalg.solve(c + self.ridge * np.trace(c) / len(c) * np.eye(len(c)), cross)
            total_variance = np.diag(gram.covariance(target, target))
            left = total_variance - (2 * slope * cross).sum(axis=0) + (slope * (c @ slope)).sum(axis=0)
            trust = 1 / np.maximum(left, FLOOR * np.maximum(total_variance, 1e-12))
            summed = summed + trust * ((sources[i] - gram.mean(i, target)) @ slope + gram.mean(target, i))
            precision = precision + trust
        predicted: Floats = np.asarray(summed / precision)
        return predicted

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted as plain arrays, lists and numbers."""
        if self.gram is None:
            raise NotFittedError("This Completion was not fitted. Call `fit` first.")
        return {
            "ridge": self.ridge,
            "names": list(self.gram.names),
            "sizes": list(self.gram.sizes),
            "matrix": self.gram.matrix.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the object that :meth:`state` describes."""
        new = cls(ridge=float(state["ridge"]))
        sizes = tuple(int(k) for k in state["sizes"])
        new.gram = MosaicGram(tuple(map(str, state["names"])), sizes, np.asarray(state["matrix"], dtype=np.float64))
        return new


def linked_modalities(maps: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Return the largest group of modalities that chains of at least 20 common cells link, in their order."""
    names = list(maps)
    present = np.column_stack([maps[name] >= 0 for name in names])
    return [names[i] for i in linked_groups(present, MIN_PAIRS)[0]]
