"""Linear algebra of sparse canonical correlation: the warm start and the refit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.linalg
import torch
from scipy.stats import norm

from smalti.losses import cholesky_root, whitened_cross

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._values import Values

LinearStart = tuple[torch.Tensor, torch.Tensor]
BLOCK = 2048
POWER_STEPS = 50


def linear_start(values: Sequence[Values], rows: NDArray[np.int64]) -> LinearStart:
    """Return leading singular vectors of the thresholded cross-correlations, ``(D_x,)`` and ``(D_y,)``.

    Entries are kept that pure noise reaches about once per two features: those of a true pair lie in a block, whose
    singular value exceeds that of scattered ones. Where single entries stand out (the bound of the largest of all noise
    entries), the choice makes no difference; where none does, the block is still found.
    """
    x, y = values
    cross = torch.zeros(x.n_features, y.n_features)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        cross += x.read(part[:, 0]).T @ y.read(part[:, 1])
    cross /= len(rows)
    limit = norm.isf(0.25 / max(x.n_features, y.n_features)) / np.sqrt(len(rows))
    kept = torch.where(cross.abs() > limit, cross, 0.0)
    if not bool(kept.any()):
        kept = torch.where(cross.abs() >= cross.abs().max(), cross, 0.0)
    v = torch.linalg.norm(kept, dim=0)
    for _ in range(POWER_STEPS):
        u = kept @ v
        v = kept.T @ (u / u.norm().clamp(min=1e-12))
        v = v / v.norm().clamp(min=1e-12)
    u = kept @ v
    return u / u.norm().clamp(min=1e-12), v


class Refit(NamedTuple):
    """Ordinary CCA of selected features."""

    weights: list[NDArray[np.float64]]
    """``(D,)`` of unit length by modality, zero where not selected."""
    correlation: float
    """On the cells that were fitted."""
    held_out: float
    """On other cells; 0 if a modality has no selected feature, NaN without other cells."""


def refit(
    values: Sequence[Values],
    rows: NDArray[np.int64],
    out_rows: NDArray[np.int64],
    selected: Sequence[NDArray[np.bool_]],
    ridge: float,
) -> Refit:
    """Fit the first canonical pair of the selected features, ridge in units of the variance.

    Parameters
    ----------
    values
        Two modalities.
    rows, out_rows
        ``(n, 2)`` rows to fit to and to judge by.
    selected
        ``(D,)`` bool of each modality.
    ridge
        Regularisation.
    """
    weights = [np.zeros(v.n_features) for v in values]
    if not all(s.any() for s in selected):
        return Refit(weights, 0.0, 0.0)
    blocks = [_columns(v, rows[:, i], s) for i, (v, s) in enumerate(zip(values, selected, strict=True))]
    means = [b.mean(axis=0) for b in blocks]
    x, y = (b - m for b, m in zip(blocks, means, strict=True))
    n = len(rows)
    roots = [cholesky_root(torch.from_numpy(w.T @ w / (n - 1)), ridge) for w in (x, y)]
    whitened = whitened_cross(torch.from_numpy(x.T @ y / (n - 1)), *roots).numpy()
    u, _, vt = np.linalg.svd(whitened, full_matrices=False)
    pair = [
        scipy.linalg.solve_triangular(root.numpy().T, side, lower=False)
        for root, side in zip(roots, (u[:, 0], vt[0]), strict=True)
    ]
    for w, s, p in zip(weights, selected, pair, strict=True):
        w[s] = p / np.linalg.norm(p)
    out = [_columns(v, out_rows[:, i], s) for i, (v, s) in enumerate(zip(values, selected, strict=True))]
    return Refit(weights, _correlation(x @ pair[0], y @ pair[1]), _correlation(out[0] @ pair[0], out[1] @ pair[1]))


def _columns(values: Values, rows: NDArray[np.int64], selected: NDArray[np.bool_]) -> NDArray[np.float64]:
    at = torch.from_numpy(np.flatnonzero(selected))
    parts = np.array_split(rows, max(1, len(rows) // BLOCK))
    return np.concatenate([values.read(part)[:, at].numpy() for part in parts]).astype(np.float64)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if not len(a):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
