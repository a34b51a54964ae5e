"""Kernel ridge regression of many targets at once: a linear kernel plus a Gaussian one on some landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTHS = (0.0, 0.3, 1.0, 2.0)
"""Inverse squared widths of the Gaussian kernel, per mean squared distance of cells from their mean; 0 for none."""
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SIDE_WEIGHT = 0.3
"""Standard deviation of covariates beside inputs whose squared norm is one on average."""
MAX_LANDMARKS, MAX_KERNEL_AXES = 768, 256
TINY = 1e-6


class KernelFeatures:
    """Columns in which a kernel ridge regression is linear.

    They are the inputs in units of their mean norm, covariates at a small weight, the Gaussian kernel to landmark cells
    in coordinates of its own (Nystroem), and a column of ones.

    Parameters
    ----------
    mean, scale
        ``(k,)`` mean of the inputs, and the root of their mean squared distance from it.
    side_mean, side_scale
        ``(c,)`` mean and scale of covariates.
    width
        See :data:`WIDTHS`.
    landmarks, whiten
        ``(m, k)`` scaled inputs of landmarks, ``(m, r)`` from kernel values to coordinates.
    """

    def __init__(
        self,
        *,
        mean: NDArray[Any],
        scale: float,
        side_mean: NDArray[Any],
        side_scale: NDArray[Any],
        width: float,
        landmarks: NDArray[Any],
        whiten: NDArray[Any],
    ) -> None:
        self.mean, self.scale, self.side_mean, self.side_scale = mean, scale, side_mean, side_scale
        self.width, self.landmarks, self.whiten = width, landmarks, whiten

    @classmethod
    def fit(
        cls,
        x: NDArray[Any],
        side: NDArray[Any],
        *,
        width: float,
        n_axes: int = MAX_KERNEL_AXES,
        random_state: int = 0,
    ) -> KernelFeatures:
        """Fit to inputs ``(n, k)`` and covariates ``(n, c)``."""
        mean, side_mean, spread = x.mean(axis=0), side.mean(axis=0), side.std(axis=0)
        scale = float(np.sqrt(((x - mean) ** 2).sum(axis=1).mean())) or 1.0
        side_scale = np.where(spread > TINY, SIDE_WEIGHT / np.maximum(spread, TINY), 0.0)
        landmarks, whiten = np.zeros((0, x.shape[1])), np.zeros((0, 0))
        if width > 0:
            rows = np.random.default_rng(random_state).permutation(len(x))[:MAX_LANDMARKS]
            landmarks = (x[rows] - mean) / scale
            values, vectors = np.linalg.eigh(_gaussian(landmarks, landmarks, width))
            kept = np.argsort(-values)[: min(n_axes, int((values > TINY * values.max()).sum()))]
            whiten = vectors[:, kept] / np.sqrt(values[kept])
        return cls(
            mean=mean.astype(np.float32),
            scale=scale,
            side_mean=side_mean.astype(np.float32),
            side_scale=side_scale.astype(np.float32),
            width=width,
            landmarks=landmarks.astype(np.float32),
            whiten=whiten.astype(np.float32),
        )

    def __call__(self, x: NDArray[Any], side: NDArray[Any]) -> NDArray[np.float32]:
        """Return the columns, ``(n, p)``, the last of them ones."""
        x = (x - self.mean) / self.scale
        parts = [x, (side - self.side_mean) * self.side_scale]
        if self.width > 0:
            parts.append(_gaussian(x, self.landmarks, self.width) @ self.whiten)
        return np.column_stack([*parts, np.ones(len(x))]).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Return the arguments that rebuild it."""
        return dict(vars(self))


class RidgeSolver:
    """Ridge with an intercept for any number of targets that share their cells.

    Parameters
    ----------
    phi
        ``(n, p)``, the last column ones, which is not penalised.
    """

    def __init__(self, phi: NDArray[np.float32]) -> None:
        self.phi = phi.astype(np.float64)
        self.centre = self.phi[:, :-1].mean(axis=0)
        centred = self.phi[:, :-1] - self.centre
        values, self.axes = np.linalg.eigh(centred.T @ centred)
        self.values = np.maximum(values, 0)
        self.scores = centred @ self.axes

    def coefficients(self, cross: NDArray[Any], penalty: float) -> NDArray[np.float32]:
        """Return ``(p, G)`` from the sums of ``phi`` times targets, ``(p, G)``."""
        n, total = len(self.phi), cross[-1]
        slopes = (self.axes / (self.values + penalty)) @ (self.axes.T @ (cross[:-1] - np.outer(self.centre, total)))
        return np.vstack([slopes, total / n - self.centre @ slopes]).astype(np.float32)

    def leverage(self, penalty: float) -> NDArray[np.float64]:
        """Return the influence of every cell on its own prediction, ``(n,)`` in (0, 1)."""
        own = (self.scores**2 / (self.values + penalty)).sum(axis=1) + 1 / len(self.phi)
        return np.minimum(own, 1 - TINY)

    def left_out(self, y: NDArray[Any], penalty: float) -> NDArray[np.float64]:
        """Return the residual of every cell when it is left out of the fit, ``(n, G)``."""
        residual = y - self.phi @ self.coefficients(self.phi.T @ y, penalty)
        return residual / (1 - self.leverage(penalty))[:, None]


def choose(
    x: NDArray[Any], side: NDArray[Any], y: NDArray[Any], *, widths: tuple[float, ...] = WIDTHS, random_state: int = 0
) -> tuple[float, float]:
    """Choose width and penalty by the error of cells left out, per variance of each target.

    Parameters
    ----------
    x, side, y
        ``(n, k)`` inputs, ``(n, c)`` covariates, ``(n, G)`` targets.
    widths
        Candidates.
    random_state
        Seed of landmarks.

    Returns
    -------
    Width and penalty.
    """
    variance = y.var(axis=0)
    y = y[:, variance > TINY] / np.sqrt(variance[variance > TINY])
    errors: dict[tuple[float, float], float] = {}
    for width in widths:
        solver = RidgeSolver(KernelFeatures.fit(x, side, width=width, random_state=random_state)(x, side))
        for penalty in PENALTIES:
            errors[width, penalty] = float((solver.left_out(y, penalty) ** 2).mean()) if y.size else 0.0
    return min(errors, key=lambda key: errors[key])


def _gaussian(x: NDArray[Any], landmarks: NDArray[Any], width: float) -> NDArray[Any]:
    squared = (x**2).sum(axis=1)[:, None] + (landmarks**2).sum(axis=1)[None] - 2 * x @ landmarks.T
    return np.exp(-width * np.maximum(squared, 0))
