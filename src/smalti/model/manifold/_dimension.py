"""The dimension of a continuum: the smallest whose charts keep distances and lose nothing that one more would keep."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ._bursts import burst_share
from ._loss import WIDE, manifold_loss, white_floor
from ._module import INPUT_SPREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ._bursts import Bursts
    from ._module import ManifoldModule

logger = logging.getLogger(__name__)

MOST = 5
"""Largest dimension that is tried."""
N_CELLS = 600
"""Cells that charts are tried on; half of them to train, half to judge."""
N_STEPS, N_PER_STEP, RATE = 400, 64, 5e-3
MAX_WHITE = 0.5
"""White term above its floor at which a chart does not keep distances; a direction without any burst adds 1."""
GAIN, LEAST_GAIN = 0.05, 0.01
"""A dimension counts if it explains this share of what one less leaves, and this share of all variance."""
COLUMNS = ("n_latent", "white", "unexplained")


def scale_of(bursts: Mapping[str, Bursts], d: int, given: float | None) -> float:
    """Return the standard deviation of bursts in charts of ``d`` dimensions whose variance is about 1."""
    if given is not None:
        return given
    shares = [burst_share(each, d) for each in bursts.values()]
    share = float(np.nanmedian(shares)) if np.isfinite(shares).any() else 1.0
    return min(max(share, 1e-3), 1.0)


def choose_dimension(
    make: Callable[[int], ManifoldModule], bursts: Mapping[str, Bursts], random_state: int = 0
) -> tuple[int, pd.DataFrame]:
    """Try charts of growing dimension, shortly, each modality by itself.

    A dimension too few leaves components unexplained that one more explains. One too many has no burst to fill it, so
    that the white term stays above its floor, even if training finds a use for it. The smallest dimension is taken
    whose white term is at the floor and whose successor either is not, or explains at most 5 % of what is left.

    Parameters
    ----------
    make
        From a dimension to an untrained network without bursts.
    bursts
        By modality.
    random_state
        Seed of initial weights, of the cells and of the steps.

    Returns
    -------
    The dimension, and one row per dimension tried: ``n_latent``; ``white``, white term above its floor, of the modality
    where it is largest; ``unexplained``, share of the variance of components that charts lose, mean over modalities.
    """
    rng = np.random.default_rng(random_state)
    with_burst = np.flatnonzero(np.column_stack([each.seen for each in bursts.values()]).any(axis=1))
    cells = rng.permutation(with_burst)[:N_CELLS]
    training, held = cells[: (len(cells) + 1) // 2], cells[len(cells) // 2 :]
    rows: list[tuple[int, float, float]] = []
    for d in range(1, MOST + 1):
        with torch.random.fork_rng():
            torch.manual_seed(random_state)
            module = make(d)
        module.bursts = dict(bursts)
        module.burst_scale.fill_(scale_of(bursts, d, module.options.burst_scale))
        _train(module, training, rng)
        rows.append((d, *_judge(module, held)))
        if len(rows) > 1 and _enough(rows[-2], rows[-1]):
            break
    found = _chosen(rows)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    logger.info("Charts of %d dimensions are trained; tried were:\n%s", found, table.round(3).to_string(index=False))
    return found, table


def _enough(this: tuple[int, float, float], more: tuple[int, float, float]) -> bool:
    """Whether a dimension keeps distances, and one more would not, or would explain little."""
    gain = this[2] - more[2]
    return this[1] <= MAX_WHITE and (more[1] > MAX_WHITE or gain <= max(GAIN * this[2], LEAST_GAIN))


def _chosen(rows: list[tuple[int, float, float]]) -> int:
    if len(rows) > 1 and _enough(rows[-2], rows[-1]):
        return rows[-2][0]
    white = [d for d, white, _ in rows if white <= MAX_WHITE]
    if white:
        logger.warning(
            "Up to %d dimensions every one explained more: %d are used, the continuum may have more. Compare several "
            "`n_latent`.",
            *(rows[-1][0], white[-1]),
        )
        return white[-1]
    logger.warning(
        "Charts keep distances in no dimension up to %d, so that 1 is used: bursts may not be balls of the given size, "
        "or the continuum may be curved. Compare several `n_latent`.",
        rows[-1][0],
    )
    return 1


def _train(module: ManifoldModule, cells: NDArray[np.int64], rng: np.random.Generator) -> None:
    module.train()
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, N_STEPS)
    for _ in range(N_STEPS):
        some = torch.from_numpy(rng.choice(cells, min(N_PER_STEP, len(cells)), replace=False))
        loss = manifold_loss(module.weights, module.outputs(some), len(some)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def _judge(module: ManifoldModule, cells: NDArray[np.int64]) -> tuple[float, float]:
    """Return the largest white term above its floor, and the mean share of variance that is lost."""
    module.eval()
    at, d = torch.from_numpy(cells), module.n_latent
    extra = manifold_loss(module.weights, module.outputs(at), len(at)).extra_metrics
    white, lost = [], []
    for name, bursts in module.bursts.items():
        points, exists, _ = bursts.of(at, module.shift.device)
        if int(exists[:, 0].sum()) < 2:
            continue
        own = points[exists]
        variance = (own / INPUT_SPREAD).var(dim=0).sum().clamp(min=1e-12)
        white.append(float(extra[f"white_{name}"]) * (d if d > WIDE else 1) - white_floor(points.shape[1], d))
        lost.append(float(extra[f"data_{name}"] / variance))
    return (max(white), float(np.mean(lost))) if white else (np.inf, 1.0)
