"""The plan between cells: sparse, with a hard matching and a confidence per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import NearestNeighbors

from smalti.metrics import chance_error_of_curve, error_of_curve

from ._transport import dual_potentials, squared_distances
from ._views import MAX_CELLS, N_LANDMARKS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PLAN_EPSILON = 0.03
RELAX = 0.1
"""Penalty on marginals of the plan that confidences come from."""
TOP = 20
CHUNK = 2048


@dataclass(frozen=True, kw_only=True)
class TransportPlan:
    """A soft matching of the cells of two modalities."""

    plan: sp.csr_matrix
    """``(n_1, n_2)`` probabilities of partners given the cell, the 20 largest of each row; rows sum to 1."""
    partner: NDArray[np.int64]
    """``(n_1,)`` most probable partner."""
    confidence: NDArray[np.float64]
    """``(n_1,)`` in [0, 1], higher is surer: how much of the cell unbalanced transport moves at all, times how few
    partners it moves it to. Cells of a type that the other modality lacks get little."""
    mutual: NDArray[np.bool_]
    """``(n_1,)`` whether the partner's most probable partner is the cell."""

    def transfer(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return values of the second modality, ``(n_2, k)`` or ``(n_2,)``, averaged over partners."""
        return np.asarray(self.plan @ np.asarray(values, dtype=np.float64))

    def permutation(self) -> NDArray[np.int64]:
        """Return a matching in which no partner occurs twice, ``(n_1,)``; -1 where none is left.

        Hungarian for up to 5,000 cells; beyond, greedily by probability.
        """
        n1, n2 = self.plan.shape
        out = np.full(n1, -1, dtype=np.int64)
        if max(n1, n2) <= MAX_CELLS:
            rows, columns = linear_sum_assignment(-self.plan.toarray())
            likely = np.asarray(self.plan[rows, columns]).ravel() > 0
            out[rows[likely]] = columns[likely]
            return out
        entries = self.plan.tocoo()
        taken = np.zeros(n2, dtype=bool)
        for at in np.argsort(-entries.data, kind="stable"):  # at most 20 entries per cell
            i, j = entries.row[at], entries.col[at]
            if out[i] < 0 and not taken[j]:
                out[i], taken[j] = j, True
        return out

    def __repr__(self) -> str:
        n1, n2 = self.plan.shape
        mean, mutual = self.confidence.mean(), self.mutual.mean()
        return f"TransportPlan({n1} x {n2} cells, mean confidence {mean:.2f}, {mutual:.0%} mutual)"


def transport_plan(
    x: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: float = PLAN_EPSILON,
    relax: float = RELAX,
    n_landmarks: int = N_LANDMARKS,
    random_state: int = 0,
) -> TransportPlan:
    """Match cells of two modalities by their latents, in memory that grows with the number of cells.

    Dual potentials are computed between landmarks and extended to all cells: the plan is the entropic one, read off
    wherever it is asked for.

    Parameters
    ----------
    x, y
        ``(n_1, d)`` and ``(n_2, d)`` latents in one space.
    epsilon
        Regularisation, in units of the mean cost.
    relax
        Penalty on marginals, in units of the mean cost: the smaller, the more a cell without a counterpart may be left
        out.
    n_landmarks
        Cells of each side between which potentials are computed.
    random_state
        Seed of their choice.
    """
    u, v = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    rng = np.random.default_rng(random_state)
    at = [np.sort(rng.choice(len(z), min(n_landmarks, len(z)), replace=False)) for z in (u, v)]
    a, b = u[at[0]], v[at[1]]
    cost = squared_distances(a, b)
    unit = max(float(cost.mean()), 1e-300)
    mass = (np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)))
    f, g = dual_potentials(cost, mass, epsilon=epsilon, relax=relax)
    forward = _extend(u, b, g, unit * epsilon)
    backward = _extend(v, a, f, unit * epsilon)
    share = relax / (relax + epsilon)
    kept = np.exp(np.minimum((1 - share) * (forward.log_sum - np.quantile(forward.log_sum, 0.9)), 0.0))
    plan = _top(u, v, -share * backward.log_sum, unit * epsilon)
    partner = np.asarray(plan.argmax(axis=1)).ravel()
    back = _top(v, u, -share * forward.log_sum, unit * epsilon, 1)
    mutual = np.asarray(back.argmax(axis=1)).ravel()[partner] == np.arange(len(u))
    sharpness = 1 - forward.entropy / np.log(max(len(b), 2))
    return TransportPlan(
        plan=plan, partner=partner, confidence=np.clip(kept * np.clip(sharpness, 0, 1), 0, 1), mutual=mutual
    )


@dataclass(frozen=True)
class _Extended:
    log_sum: NDArray[np.float64]
    entropy: NDArray[np.float64]


def _extend(
    x: NDArray[np.float64], landmarks: NDArray[np.float64], potential: NDArray[np.float64], epsilon: float
) -> _Extended:
    """Return the log of the sum over landmarks of exp(potential - cost / epsilon), and the entropy of its terms."""
    log_sum, entropy = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), CHUNK):
        part = slice(start, start + CHUNK)
        logits = potential[None] - squared_distances(x[part], landmarks) / epsilon
        top = logits.max(axis=1, keepdims=True)
        p = np.exp(logits - top)
        total = p.sum(axis=1, keepdims=True)
        log_sum[part] = (top + np.log(total)).ravel()
        p /= total
        entropy[part] = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
    return _Extended(log_sum, entropy)


def _top(
    x: NDArray[np.float64], y: NDArray[np.float64], potential: NDArray[np.float64], epsilon: float, k: int = TOP
) -> sp.csr_matrix:
    """Return the largest entries of every row of the plan, normalised."""
    k = min(k, len(y))
    # |x - y|^2 - eps g is a squared distance once every y has one more coordinate
    lift = np.sqrt(np.maximum(epsilon * (potential.max() - potential), 0.0))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(np.column_stack([y, lift]).astype(np.float32))
    distance, at = search.kneighbors(np.column_stack([x, np.zeros(len(x))]).astype(np.float32))
    logits = -np.square(distance.astype(np.float64)) / epsilon
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    ends = np.arange(0, p.size + 1, k)
    return sp.csr_matrix((p.ravel(), at.ravel(), ends), shape=(len(x), len(y)))


@dataclass(frozen=True, kw_only=True)
class CellMatch:
    """A plan with the names of the cells."""

    plan: TransportPlan
    """Soft matching, hard matching and confidence."""
    source: pd.Index
    """``(n_1,)`` names of the cells that are matched."""
    target: pd.Index
    """``(n_2,)`` names of their candidates."""
    reliability: pd.DataFrame | None = None
    """Confidence against accuracy on known pairs that the confidence was not fitted to, in bins (``low``, ``high``,
    ``n``, ``confidence``, ``accuracy``), for :func:`smalti.pl.calibration`; ``None`` if it was not calibrated."""
    note: str = ""
    """What has to be known of the confidence."""

    def to_frame(self) -> pd.DataFrame:
        """Return the columns ``match``, ``confidence`` and ``mutual`` by cell of the source."""
        return pd.DataFrame(
            {
                "match": self.target.to_numpy()[self.plan.partner],
                "confidence": self.plan.confidence,
                "mutual": self.plan.mutual,
            },
            index=self.source,
        )

    def transfer(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return values of the target's cells averaged over partners, see :meth:`TransportPlan.transfer`."""
        return self.plan.transfer(values)

    def __repr__(self) -> str:
        text = f"CellMatch: {self.plan!r}"
        if self.reliability is not None:
            error, chance = error_of_curve(self.reliability), chance_error_of_curve(self.reliability)
            text += (
                f"; reliability error {error:.3f} on {int(self.reliability['n'].sum()):,} known pairs (a perfect "
                f"confidence would show {chance:.3f})"
            )
        return f"{text}; {self.note}" if self.note else text
