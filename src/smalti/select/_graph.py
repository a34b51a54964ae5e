"""Graphs of the cells of a batch, and how smooth features are on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

NORM_STEPS = 15


def affinity(x: Tensor, n_neighbors: int, bandwidth: float) -> Tensor:
    r"""Return the kernel :math:`K_{ij} = \exp(-\lVert x_i - x_j \rVert^2 / (f s))`, ``(B, B)``.

    :math:`s` is the median over cells of the ``n_neighbors``-th smallest squared distance, the cell itself counted,
    and has no gradient :cite:p:`Lindenbaum2021`.
    """
    square = x.square().sum(dim=1)
    distance = (square[:, None] + square[None] - 2 * x @ x.T).clamp(min=0)
    k = min(n_neighbors, len(x))
    scale = distance.detach().kthvalue(k, dim=1).values.median()
    scale = torch.where(scale < 1e-8, torch.ones_like(scale), scale)
    return torch.exp(-distance / (bandwidth * scale))


def symmetric(kernel: Tensor) -> Tensor:
    r"""Return :math:`D^{-1/2} K D^{-1/2}`, ``(B, B)``, eigenvalues in ``[0, 1]``."""
    root = kernel.sum(dim=1).rsqrt()
    return kernel * root[:, None] * root[None]


def smoothness(x: Tensor, n_neighbors: int, bandwidth: float, n_steps: int, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\frac1B \mathrm{Tr}[X^T P^t X]` with the random walk :math:`P` on the graph of ``x`` itself.

    Parameters
    ----------
    x
        ``(B, D)`` gated values.
    n_neighbors, bandwidth
        See :func:`affinity`.
    n_steps
        Steps :math:`t` of the walk.
    weight
        ``(B,)`` weights of cells with mean 1; equal by default.
    """
    kernel = affinity(x, n_neighbors, bandwidth)
    walk = kernel / kernel.sum(dim=1, keepdim=True)
    y = x
    for _ in range(n_steps):
        y = walk @ y
    rows = (x * y).sum(dim=1)
    return (rows if weight is None else rows * weight).mean()


def shared_smoothness(x: Tensor, y: Tensor, n_neighbors: int, bandwidth: float, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\frac1B \mathrm{Tr}[X^T P X] + \frac1B \mathrm{Tr}[Y^T P Y]`, :math:`P = L_x L_y + L_y L_x`.

    Large for features that are smooth on the graphs of both modalities :cite:p:`Yang2023`.

    Parameters
    ----------
    x, y
        ``(B, D)`` gated values of the same cells.
    n_neighbors, bandwidth
        See :func:`affinity`.
    weight
        ``(B,)`` weights of cells with mean 1; equal by default.
    """
    lx, ly = (symmetric(affinity(v, n_neighbors, bandwidth)) for v in (x, y))
    total = x.new_zeros(())
    for v in (x, y):
        rows = 2 * ((lx @ v) * (ly @ v)).sum(dim=1)
        total = total + (rows if weight is None else rows * weight).mean()
    return total


def inverse_operator(y: Tensor, n_neighbors: int, bandwidth: float, ridge: float) -> Tensor:
    r"""Return :math:`(L_y + c I)^{-1}`, ``(B, B)``: large where ``y``, with all its features, has no structure."""
    ly = symmetric(affinity(y, n_neighbors, bandwidth))
    return torch.linalg.inv(ly + ridge * torch.eye(len(y), dtype=y.dtype, device=y.device))


def differential_smoothness(
    x: Tensor, inverse: Tensor, n_neighbors: int, bandwidth: float, weight: Tensor | None = None
) -> Tensor:
    r"""Return :math:`\frac1B \mathrm{Tr}[X^T Q X]`, :math:`Q = A L_x A / \lVert A L_x A \rVert`.

    :math:`A` is :func:`inverse_operator` of the other modality. Large for features that are smooth on their own graph
    and rough on the other one :cite:p:`Yang2023`.

    Parameters
    ----------
    x
        ``(B, D)`` gated values.
    inverse
        ``(B, B)``, symmetric.
    n_neighbors, bandwidth
        See :func:`affinity`.
    weight
        ``(B,)`` weights of cells with mean 1; equal by default.
    """
    lx = symmetric(affinity(x, n_neighbors, bandwidth))
    ax = inverse @ x
    rows = (ax * (lx @ ax)).sum(dim=1) / _norm(lx.detach(), inverse)
    return (rows if weight is None else rows * weight).mean()


@torch.no_grad()
def _norm(lx: Tensor, inverse: Tensor) -> Tensor:
    """Return the spectral norm of a positive semi-definite operator, by power iteration."""
    v = torch.ones(len(lx), dtype=lx.dtype, device=lx.device)
    norm = v.norm()
    for _ in range(NORM_STEPS):
        v = inverse @ (lx @ (inverse @ (v / norm)))
        norm = v.norm().clamp(min=1e-12)
    return norm
