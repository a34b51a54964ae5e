"""Bursts: repeated observations of one state, by modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

PAD = -1


@dataclass
class Bursts:
    """Bursts of one modality.

    Parameters
    ----------
    values
        ``(R, width)`` encoder inputs that bursts are made of.
    members
        ``(n_obs, M)`` rows of ``values`` by cell, -1 where a burst has fewer points; all -1 where there is no burst.
    centre_first
        Whether the first member is the cell itself; otherwise the centre of a burst is its mean.
    variance
        ``(n_obs,)`` variance of the burst of each cell, relative to the common scale.
    """

    values: Tensor
    members: Tensor
    centre_first: bool
    variance: Tensor

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which cells have a burst, ``(n_obs,)``."""
        seen: NDArray[np.bool_] = (self.members[:, 0] >= 0).numpy()
        return seen

    def of(self, cells: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return points ``(n, M, width)``, which of them exist ``(n, M)``, and relative variances ``(n,)``."""
        at = self.members[cells.cpu()]
        points = self.values[at.clamp(min=0)].to(device)
        return points, (at >= 0).to(device), self.variance[cells.cpu()].to(device)


def from_arrays(values: NDArray[np.float32], cells: NDArray[np.int64], n_obs: int, n_points: int) -> Bursts:
    """Return bursts of points that lie one after another, ``n_points`` for each of ``cells``."""
    members = np.full((n_obs, n_points), PAD)
    members[cells] = np.arange(len(cells) * n_points).reshape(len(cells), n_points)
    return Bursts(torch.from_numpy(values), torch.from_numpy(members), False, torch.ones(n_obs))


def from_states(
    values: NDArray[np.float32], rows: NDArray[np.int64], states: NDArray[np.int64], most: int, rng: np.random.Generator
) -> Bursts:
    """Return bursts of all profiles of one state; every cell of the state has it, whatever it was measured in.

    Parameters
    ----------
    values
        ``(R, width)``.
    rows
        ``(n_obs,)`` row of every cell, -1 where absent.
    states
        ``(n_obs,)`` codes, -1 for cells of no state.
    most
        Largest burst; of more points a random sample is taken.
    rng
        Of the sample.
    """
    n_states = int(states.max(initial=-1)) + 1
    table = np.full((max(n_states, 1), most), PAD)
    known = np.flatnonzero((rows >= 0) & (states >= 0))
    known = rng.permutation(known)
    order = known[np.argsort(states[known], kind="stable")]
    start = np.searchsorted(states[order], np.arange(n_states))
    size = np.bincount(states[order], minlength=n_states)
    within = np.arange(len(order)) - start[states[order]]
    kept = within < most
    table[states[order][kept], within[kept]] = rows[order][kept]
    table[size < 2] = PAD  # one point has no covariance
    members = np.where((states >= 0)[:, None], table[np.maximum(states, 0)], PAD)
    return Bursts(torch.from_numpy(values), torch.from_numpy(members), False, torch.ones(len(rows)))


def from_neighbours(
    values: NDArray[np.float32], rows: NDArray[np.int64], place: NDArray[np.float32], n_points: int, *, local: bool
) -> Bursts:
    """Return bursts of each cell and its nearest neighbours among the cells that have the modality.

    Parameters
    ----------
    values
        ``(R, width)``.
    rows
        ``(n_obs,)`` row of every cell, -1 where absent.
    place
        ``(n_obs, k)`` coordinates in which neighbours are sought, the same for all modalities.
    n_points
        Cells of a burst, itself included.
    local
        Whether variances are those of the neighbourhoods.
    """
    from sklearn.neighbors import NearestNeighbors

    here = np.flatnonzero(rows >= 0)
    n_points = min(n_points, len(here))
    distance, near = NearestNeighbors(n_neighbors=n_points).fit(place[here]).kneighbors(place[here])
    near[:, 1:] = np.where(near[:, 1:] == np.arange(len(here))[:, None], near[:, :1], near[:, 1:])
    near[:, 0] = np.arange(len(here))  # of cells at one point the own one comes first
    members = np.full((len(rows), n_points), PAD)
    members[here] = rows[here][near]
    variance = np.ones(len(rows), dtype=np.float32)
    if local:
        own = np.square(distance).mean(axis=1)
        variance[here] = np.maximum(own / max(own.mean(), 1e-12), 1e-3)
    return Bursts(torch.from_numpy(values), torch.from_numpy(members), True, torch.from_numpy(variance))


def burst_share(bursts: Bursts, n_latent: int) -> float:
    """Return the standard deviation of bursts over that of all points, per dimension, in the leading components."""
    cells = np.flatnonzero(bursts.seen)[:2000]
    if len(cells) == 0:
        return float("nan")
    at = bursts.members[cells]
    x = bursts.values[at.clamp(min=0)][..., :n_latent].double()
    mask = (at >= 0)[..., None].double()
    n = mask.sum(dim=1).clamp(min=2)
    mean = (x * mask).sum(dim=1) / n
    within = (((x - mean[:, None]) * mask).square().sum(dim=1) / (n - 1)).mean(dim=0).sum()
    return float((within / mean.var(dim=0).add(1e-12).sum()).sqrt())
