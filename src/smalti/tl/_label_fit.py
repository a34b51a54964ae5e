"""The classifier behind label transfer, and what makes its answers honest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti.metrics import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FOLDS = 5
N_DRAWS = 20
"""Draws per cell of the calibration, so that the threshold does not hang on one."""
MIN_BATCHES = 3
"""Batches from which cells are held out batch by batch; of two, every fold would learn from one alone."""
N_NEIGHBORS = 15
MAX_ITERATIONS = 1000


class FittedLabels:
    """Classifier, temperature, threshold and distances of one view of the reference.

    Parameters
    ----------
    z, y, batch
        ``(n, d)`` latents, ``(n,)`` labels and, if there are any, batches.
    coverage, unknown_share, random_state
        As in :func:`smalti.tl.transfer_labels`.
    """

    def __init__(
        self,
        z: NDArray[Any],
        y: NDArray[np.str_],
        batch: NDArray[np.str_] | None,
        coverage: float,
        unknown_share: float,
        random_state: int,
    ) -> None:
        self.notes: list[str] = []
        folds = self._folds(z, y, batch, random_state)
        self.model = _classifier().fit(z, y)
        self.classes: NDArray[Any] = self.model.classes_
        logits, distance = np.full((len(y), len(self.classes)), np.nan), np.full(len(y), np.nan)
        for fit, test in folds:
            part = _classifier().fit(z[fit], y[fit])
            columns = self.classes.searchsorted(part.classes_)
            logits[test] = -30.0  # a label that the other batches lack
            logits[np.ix_(test, columns)] = _logits(part, z[test])
            distance[test] = cell_distances(z[fit], z[test])
        codes = self.classes.searchsorted(y)
        self.temperature = fit_temperature(logits, codes)
        self.rng = np.random.default_rng(random_state)
        p = softmax(logits / self.temperature, axis=1)
        own = np.arange(len(y)), codes
        needed = np.concatenate([needed_mass(p, self._draw(len(p)))[own] for _ in range(N_DRAWS)])
        share = (len(y) + 1) * coverage / len(y)
        self.threshold = float(np.quantile(needed, share, method="inverted_cdf")) if share <= 1 else np.inf
        self.distances, self.z = np.sort(distance), z

    def _folds(self, z: NDArray[Any], y: NDArray[np.str_], batch: NDArray[np.str_] | None, random_state: int) -> Any:
        n_batch = 0 if batch is None else len(np.unique(batch))
        if n_batch >= MIN_BATCHES:
            folds = list(GroupKFold(min(n_batch, N_FOLDS)).split(z, y, batch))
            if all(len(np.unique(y[fit])) >= 2 for fit, _ in folds):
                return folds
        if batch is not None:
            self.notes.append("calibrated across cells of the same batches: new donors may differ by more")
        n = int(min(N_FOLDS, np.unique(y, return_counts=True)[1].min()))
        return list(StratifiedKFold(n, shuffle=True, random_state=random_state).split(z, y))

    def _draw(self, n: int) -> NDArray[np.float64]:
        """Return uniform draws that are spread as evenly as can be, in random order."""
        return np.asarray((self.rng.permutation(n) + self.rng.random()) / n)

    def probabilities(self, z: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(softmax(_logits(self.model, z) / self.temperature, axis=1))

    def sets(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        return needed_mass(probabilities, self._draw(len(probabilities))) <= self.threshold

    def novelty(self, z: NDArray[Any]) -> NDArray[np.float64]:
        return np.searchsorted(self.distances, cell_distances(self.z, z)) / len(self.distances)


def needed_mass(probabilities: NDArray[np.float64], draw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for every label the probability of those before it, and a drawn share of its own.

    Parameters
    ----------
    probabilities
        ``(n, K)``, rows sum to 1.
    draw
        ``(n,)`` uniform in [0, 1].

    Returns
    -------
    ``(n, K)`` in [0, 1]; evenly spread for true labels if the probabilities are right.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    up_to = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    place = np.argsort(order, axis=1, kind="stable")
    return np.asarray(np.take_along_axis(up_to, place, axis=1) - draw[:, None] * probabilities)


def _classifier() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))


def _logits(model: Pipeline, z: NDArray[Any]) -> NDArray[np.float64]:
    found = np.asarray(model.decision_function(z))
    return np.column_stack([-found / 2, found / 2]) if found.ndim == 1 else found


def cell_distances(ref: NDArray[Any], z: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean distance of cells to their nearest cells in a reference, ``(n,)``.

    Parameters
    ----------
    ref, z
        ``(n_ref, d)`` and ``(n, d)`` latents.
    """
    return np.asarray(NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(ref))).fit(ref).kneighbors(z)[0].mean(axis=1))
