"""Training by correlation: encoders of two modalities, covariances of a batch or running over batches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from smalti._batch_rule import check_batch_size
from smalti.losses import cholesky_root, whitened_cross
from smalti.nn import SIGMA, GlobalGate

from ._estimators import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RIDGE = 1e-3
GATE_PRICE = 0.004


class Trained(NamedTuple):
    """Encoders, and what training them took."""

    encoders: tuple[nn.Module, nn.Module]
    gates: tuple[GlobalGate, GlobalGate] | None
    losses: Floats
    """``(n_steps,)`` minus the mean correlation of each batch."""
    seconds: float

    def encode(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the outputs, ``(n, d)`` each."""
        with torch.no_grad():
            return tuple(  # type: ignore[return-value]
                f(torch.from_numpy(np.asarray(z, dtype=np.float32)) * g).double().numpy()
                for f, z, g in zip(self.encoders, (x, y), self._open(), strict=True)
            )

    def _open(self) -> list[torch.Tensor]:
        if self.gates is None:
            return [torch.ones(()), torch.ones(())]
        return [gate.mu.detach().clamp(0, 1) for gate in self.gates]


class CorrelationLoss(nn.Module):
    r"""Minus the mean canonical correlation of two encodings of the same cells.

    .. math:: -\frac1d \left\| (C_{uu} + r I)^{-1/2} C_{uv} (C_{vv} + r I)^{-1/2} \right\|_*

    With ``decay``, covariances run over batches, :math:`C_t = \delta\, \bar C_{t-1} + (1 - \delta) C_\text{batch}`, the
    past without gradient, and the loss is divided by :math:`1 - \delta`, which the gradient is smaller by.

    Parameters
    ----------
    decay
        :math:`\delta` in [0, 1); ``None``: covariances of the batch.
    ridge
        :math:`r`.
    """

    def __init__(self, decay: float | None = None, *, ridge: float = RIDGE) -> None:
        super().__init__()
        self.decay, self.ridge = decay, ridge
        self._past: list[torch.Tensor] | None = None

    def forward(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the loss of ``(B, d)`` encodings."""
        n, d = u.shape
        u, v = u - u.mean(dim=0), v - v.mean(dim=0)
        now = [a.T @ b / (n - 1) for a, b in ((u, u), (v, v), (u, v))]
        scale = 1.0
        if self.decay is not None:
            if self._past is not None:
                now = [self.decay * old + (1 - self.decay) * new for old, new in zip(self._past, now, strict=True)]
                scale = 1 / (1 - self.decay)
            self._past = [c.detach() for c in now]
        first, second = (cholesky_root(c, self.ridge) for c in now[:2])
        return -scale * torch.linalg.matrix_norm(whitened_cross(now[2], first, second), "nuc") / d


def train_correlation(
    x: Floats,
    y: Floats,
    *,
    n_outputs: int,
    n_hidden: Sequence[int] = (),
    batch_size: int | None = None,
    n_steps: int = 600,
    lr: float = 0.01,
    decay: float | None = None,
    gated: bool = False,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> Trained:
    """Train encoders of the same cells to correlate.

    Parameters
    ----------
    x, y
        ``(n, p)`` standardised values.
    n_outputs
        Outputs ``d`` of each encoder.
    n_hidden
        Widths of hidden layers; none: linear encoders.
    batch_size
        Cells per step, all by default.
    n_steps, lr
        Steps of Adam, and their size.
    decay
        See :class:`CorrelationLoss`.
    gated
        Put a gate in front of each feature.
    weight_decay
        Of Adam, decoupled.
    seed
        Of weights and batches.
    """
    check_batch_size(batch_size or len(x), n_outputs)
    start, rng = time.perf_counter(), np.random.default_rng(seed)
    inputs = [torch.from_numpy(np.asarray(z, dtype=np.float32)) for z in (x, y)]
    whole = batch_size is None or batch_size >= len(x)
    losses = np.zeros(n_steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = tuple(make_encoder(z.shape[1], n_hidden, n_outputs) for z in inputs)
        gates = tuple(GlobalGate(z.shape[1]) for z in inputs) if gated else None
        modules = nn.ModuleList([*encoders, *(gates or ())])
        optimizer = torch.optim.AdamW(modules.parameters(), lr=lr, weight_decay=weight_decay)
        criterion = CorrelationLoss(decay)
        for step in range(n_steps):
            cells = slice(None) if whole else rng.choice(len(x), batch_size, replace=False)
            batch = [z[cells] for z in inputs]
            if gates is not None:
                batch = [z * gate.gates() for z, gate in zip(batch, gates, strict=True)]
            loss = criterion(*(f(z) for f, z in zip(encoders, batch, strict=True)))
            losses[step] = float(loss.detach()) * (1 - decay if decay is not None and step else 1)
            if gates is not None:
                loss = loss + GATE_PRICE * sum(torch.special.ndtr(gate.mu / SIGMA).sum() for gate in gates)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for gate in gates or ():
                gate.project()
    return Trained(encoders, gates, losses, time.perf_counter() - start)  # type: ignore[arg-type]


def make_encoder(n_in: int, n_hidden: Sequence[int], n_out: int) -> nn.Module:
    """Return a linear map, or layers with hyperbolic tangents between them."""
    widths = [n_in, *n_hidden, n_out]
    layers: list[nn.Module] = []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def total_correlation(train: tuple[Floats, Floats], test: tuple[Floats, Floats], *, ridge: float = RIDGE) -> float:
    """Return the sum of canonical correlations that axes found on ``train`` encodings keep on ``test`` encodings."""
    means = [z.mean(axis=0) for z in train]
    u, v = (z - m for z, m in zip(train, means, strict=True))
    axes = _axes(u, v, ridge)
    a, b = ((z - m) @ w for z, m, w in zip(test, means, axes, strict=True))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    sizes = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return float((np.einsum("ij,ij->j", a, b) / np.maximum(sizes, 1e-12)).sum())


def deep_pair(
    x: Floats, y: Floats, *, n_hidden: Sequence[int] = (128, 64), n_steps: int = 400, seed: int = 0
) -> Trained:
    """Return deep CCA with one output, weights decayed, as the phase diagram compares it."""
    return train_correlation(
        x, y, n_outputs=1, n_hidden=n_hidden, n_steps=n_steps, lr=1e-3, weight_decay=0.1, seed=seed
    )


def _axes(u: Floats, v: Floats, ridge: float) -> Pair:
    n = len(u)
    whiten = []
    for z in (u, v):
        covariance = z.T @ z / n
        values, vectors = np.linalg.eigh(
            covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        )
        whiten.append(vectors / np.sqrt(np.maximum(values, 1e-12)))
    left, _, right = np.linalg.svd(whiten[0].T @ (u.T @ v / n) @ whiten[1])
    d = min(len(left), len(right))
    return Pair(whiten[0] @ left[:, :d], whiten[1] @ right[:d].T)
