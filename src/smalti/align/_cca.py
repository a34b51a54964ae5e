"""Canonical correlations under a transport plan, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smalti.pp import canonical_axes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from ._views import View

    Plans = Mapping[tuple[str, str], NDArray[np.float64]]

RIDGE = 0.05
NOTHING = 1e-6
"""Correlations below it are rounding: their axes are exactly zero, or rows of unit length would be noise."""


@dataclass(frozen=True)
class _SoftGram:
    """Covariances under plans, in the form that canonical axes are computed from."""

    sizes: tuple[int, ...]
    blocks: dict[tuple[int, int], NDArray[np.float64]]

    def covariance(self, i: int, j: int) -> NDArray[np.float64]:
        return self.blocks[i, j]

    def count(self, i: int, j: int) -> int:
        return 2 if (i, j) in self.blocks else 0


@dataclass(frozen=True, kw_only=True)
class SoftCCA:
    r"""Linear maps to a common latent that correlate under a plan.

    With standardised components :math:`X_m`, a plan :math:`T` with marginals :math:`a, b` and ridge :math:`r`, the axes
    are those of canonical correlation analysis with :math:`C_{12} = X_1^\top T X_2`,
    :math:`C_{11} = X_1^\top \mathrm{diag}(a) X_1 + r I` and :math:`C_{22}` alike; with more than two modalities those
    of generalised CCA, pairs without a plan completed through others. Columns are scaled by their correlation, rows to
    unit length.
    """

    axes: dict[str, NDArray[np.float64]]
    """``{modality: (p, d)}``, for raw components, scaled."""
    means: dict[str, NDArray[np.float64]]
    """``{modality: (p,)}``."""
    correlations: NDArray[np.float64]
    """``(d,)`` reached under the plan. No evidence: flexible enough maps correlate under any plan."""

    @classmethod
    def fit(cls, views: Mapping[str, View], plans: Plans, *, n_latent: int, ridge: float = RIDGE) -> SoftCCA:
        """Fit to plans between landmarks.

        Parameters
        ----------
        views
            The modalities.
        plans
            ``(L_a, L_b)`` by pair of names; any subset of pairs that connects all modalities.
        n_latent
            Axes ``d``; at most as many as the second largest number of components.
        ridge
            Added to the diagonal of covariances, in units of the variance of a component.
        """
        names = list(views)
        at = {name: i for i, name in enumerate(names)}
        coarse = {name: view.landmark_means(view.components) for name, view in views.items()}
        blocks = {}
        for name, view in views.items():
            blocks[at[name], at[name]] = view.components.T @ view.components / view.n
        for (a, b), plan in plans.items():
            total = max(float(plan.sum()), 1e-300)
            x = coarse[a] - (plan.sum(axis=1) @ coarse[a]) / total
            y = coarse[b] - (plan.sum(axis=0) @ coarse[b]) / total
            cross = x.T @ (plan @ y) / total
            blocks[at[a], at[b]], blocks[at[b], at[a]] = cross, cross.T
        sizes = tuple(view.components.shape[1] for view in views.values())
        d = min(n_latent, sorted(sizes)[-2])
        axes, correlations = canonical_axes(_SoftGram(sizes, blocks), ridge, d)
        correlations = np.where(correlations < NOTHING, 0.0, np.clip(correlations, 0.0, 1.0))
        out = {}
        for name, weight in zip(names, axes, strict=True):
            deviation = (views[name].components @ weight).std(axis=0)
            weight = weight * (correlations / np.where(deviation > 1e-12, deviation, np.inf))
            out[name] = views[name].scale[:, None] * weight
        return cls(axes=out, means={name: view.mean for name, view in views.items()}, correlations=correlations)

    def transform(self, components: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
        """Return the latent of every profile from raw components, ``{modality: (n, d)}``, rows of unit length."""
        out = {}
        for name, x in components.items():
            z = (np.asarray(x, dtype=np.float64) - self.means[name]) @ self.axes[name]
            out[name] = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        return out

    def at_landmarks(self, view: View, name: str) -> NDArray[np.float64]:
        """Return the latent of the landmarks of one modality, ``(L, d)``."""
        centre = view.landmark_means(view.components)
        z = centre @ (self.axes[name] / np.where(view.scale > 0, view.scale, np.inf)[:, None])
        return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
