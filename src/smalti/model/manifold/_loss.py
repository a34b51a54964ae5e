"""The objective of OverlapManifold, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from scvi.module.base import LossOutput

if TYPE_CHECKING:
    from torch import Tensor

    from ._options import ManifoldWeights

SPLIT_BELOW = 20
"""Points of a burst below which its covariance is compared in halves: the estimate is biased otherwise."""
WIDE = 5
"""Dimensions beyond which the white term is divided by their number, or it would grow with their square."""


@dataclass(frozen=True)
class ChartOutputs:
    """What the network says of one minibatch; all the objective looks at."""

    points: dict[str, Tensor]
    """``(n, M, d)`` charts of the points of bursts, by modality."""
    exists: dict[str, Tensor]
    """``(n, M)`` bool, which points there are."""
    variance: dict[str, Tensor]
    """``(n,)`` wanted variance of each burst."""
    reconstruction: dict[str, Tensor]
    """``(n,)`` squared error, mean over the points of a burst, sum over components."""
    coordinates: dict[str, Tensor]
    """``(B, d)`` registered chart of the centre of each burst, zero where absent."""
    seen: dict[str, Tensor]
    """``(B,)`` bool, which cells have a burst in a modality."""
    crossed: dict[str, Tensor]
    """``(n,)`` squared error of decoding one modality from the chart of another, by pair; empty without that term."""
    ramp: float
    """Share of the registration term that counts at this step."""


def burst_covariance(points: Tensor, exists: Tensor) -> Tensor:
    """Return the unbiased covariance of every burst, ``(n, d, d)``, of points ``(n, M, d)`` that exist ``(n, M)``."""
    mask = exists.to(points.dtype)[..., None]
    count = mask.sum(dim=1, keepdim=True)
    centred = (points - (points * mask).sum(dim=1, keepdim=True) / count.clamp(min=1)) * mask
    return centred.transpose(1, 2) @ centred / (count - 1).clamp(min=1)


def whiteness(points: Tensor, exists: Tensor, variance: Tensor) -> Tensor:
    r"""Return how far each burst is from a ball of the wanted size.

    .. math:: \| C / s^2 - I \|_F^2

    With fewer than 20 points the inner product of two halves' deviations, which has no bias but may be negative.

    Parameters
    ----------
    points
        ``(n, M, d)``.
    exists
        ``(n, M)`` bool.
    variance
        ``(n,)`` wanted :math:`s^2`.

    Returns
    -------
    ``(n,)``.
    """
    eye = torch.eye(points.shape[2], dtype=points.dtype, device=points.device)
    scale = variance[:, None, None].clamp(min=1e-12)
    if points.shape[1] >= SPLIT_BELOW:
        off = burst_covariance(points, exists) / scale - eye
        return off.square().sum(dim=(1, 2))
    halves = [burst_covariance(points[:, at::2], exists[:, at::2]) / scale - eye for at in (0, 1)]
    return (halves[0] * halves[1]).sum(dim=(1, 2))


def white_floor(n_points: int, d: int) -> float:
    """Return the white term of a perfect chart: the sampling noise of covariances; 0 for the split estimate."""
    return d * (d + 1) / (n_points - 1) if n_points >= SPLIT_BELOW else 0.0


def manifold_loss(weights: ManifoldWeights, outputs: ChartOutputs, n_cells: int) -> LossOutput:
    """Compute every term on one minibatch."""
    zero = next(iter(outputs.coordinates.values())).sum() * 0.0
    parts: dict[str, Tensor] = {"white": zero, "data": zero}
    errors = {}
    for name, points in outputs.points.items():
        white, rec = zero, zero
        if len(points):
            white = whiteness(points, outputs.exists[name], outputs.variance[name]).mean()
            white = white / (points.shape[2] if points.shape[2] > WIDE else 1)
            rec = outputs.reconstruction[name].mean()
        parts[f"white_{name}"], parts[f"data_{name}"] = white, rec
        parts["white"], parts["data"] = parts["white"] + white, parts["data"] + rec
        errors[name] = rec.detach().expand(n_cells)
    total = weights.white * parts["white"] + weights.data * parts["data"]
    if weights.cross > 0:
        found = [error.mean() for error in outputs.crossed.values() if len(error)]
        parts["cross"] = torch.stack(found).mean() if found else zero
        total = total + weights.cross * parts["cross"]
    monitor = total.detach()
    if weights.registration > 0:
        parts["registration"] = outputs.ramp * _registration(outputs, zero)
        total = total + weights.registration * parts["registration"]
    return LossOutput(
        loss=total,
        reconstruction_loss=errors,
        kl_local=zero.detach().expand(n_cells),
        extra_metrics={**{key: value.detach() for key, value in parts.items()}, "monitor": monitor},
    )


def _registration(outputs: ChartOutputs, zero: Tensor) -> Tensor:
    """Return the squared distance of charts of co-observed cells over the variance of all, sum over pairs."""
    known = torch.cat([z[outputs.seen[name]] for name, z in outputs.coordinates.items()])
    if len(known) < 2:
        return zero
    spread = known.detach().var(dim=0).sum().clamp(min=1e-12)
    total = zero
    for a, b in combinations(outputs.coordinates, 2):
        both = outputs.seen[a] & outputs.seen[b]
        if bool(both.any()):
            gap = (outputs.coordinates[a] - outputs.coordinates[b])[both]
            total = total + gap.square().sum(dim=1).mean() / spread
    return total
