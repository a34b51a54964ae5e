"""Where a class that a modality never showed would lie, judged by its place among the other classes elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ._class_reference import ClassReference

MIN_COMMON = 5
"""Classes labelled in both modalities below which nothing is inferred."""
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Penalties to choose from, in units of the mean squared norm of centres."""
CRITICAL = 2.0
"""Standard errors by which ranks of left-out classes must be better than chance (one-sided, about 2 %)."""


def infer_centres(references: Iterable[ClassReference]) -> None:
    """Infer centres of classes that are labelled in other modalities only, and write them into the references.

    Ridge regression maps whitened class centres of one modality to those of another; the classes labelled in both are
    its sample (zero-shot learning by regression between spaces). Classes are left out in turn, and all true centres
    ranked by their distance to the inferred one: the penalty is the one that ranks the class itself best, and nothing
    is inferred between modalities in which that is no better than chance. Several sources are averaged.

    Parameters
    ----------
    references
        Fitted references, one per modality.
    """
    fitted = [(r, (r.centre @ r.whiten).cpu().numpy(), r.count.cpu().numpy() > 0) for r in references]
    for i, (target, centre, known) in enumerate(fitted):
        total, votes = np.zeros_like(centre), np.zeros(len(centre))
        for j, (_, other, elsewhere) in enumerate(fitted):
            new = elsewhere & ~known
            if i == j or not new.any():
                continue
            ridge = _choose_ridge(other[known & elsewhere], centre[known & elsewhere])
            if ridge is not None:
                total[new] += _regress(other[known & elsewhere], centre[known & elsewhere], other[new], ridge)
                votes[new] += 1
        target.inferred.copy_(torch.from_numpy(votes > 0))
        target.inferred_centre.copy_(torch.from_numpy(total / np.maximum(votes, 1)[:, None]))


def _regress(
    x: NDArray[np.float32], y: NDArray[np.float32], new: NDArray[np.float32], ridge: float
) -> NDArray[np.float32]:
    """Return ridge regression of ``y`` on ``x`` (rows are classes) at ``new``, in its dual form."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    gram = (x - mean_x) @ (x - mean_x).T
    penalty = ridge * np.trace(gram) / len(gram) + 1e-12
    weight = np.linalg.solve(gram + penalty * np.eye(len(gram)), y - mean_y)
    return mean_y + (new - mean_x) @ (x - mean_x).T @ weight


def _choose_ridge(x: NDArray[np.float32], y: NDArray[np.float32]) -> float | None:
    """Return the best penalty; ``None`` if left-out classes are not found better than by chance."""
    n = len(x)
    if n < MIN_COMMON:
        return None
    best, found = np.inf, None
    for ridge in RIDGES:
        left_out = np.stack(
            [_regress(np.delete(x, c, axis=0), np.delete(y, c, axis=0), x[[c]], ridge)[0] for c in range(n)]
        )
        distance = np.square(left_out[:, None] - y[None]).sum(axis=2)
        rank = float((distance < distance.diagonal()[:, None]).sum(axis=1).mean() / (n - 1))
        if rank < best:
            best, found = rank, ridge
    limit = 0.5 - CRITICAL * np.sqrt((n + 1) / (12 * (n - 1)) / n)  # of the mean of n uniform ranks
    return found if best < limit else None
