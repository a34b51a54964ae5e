r"""Graphs of the cells of a batch, and how smooth features are on them.

All of it follows from the Gram matrix of the gated values, cells by cells: distances, kernels, and the trace
:math:`\mathrm{Tr}[X^T P X] = \sum_{ij} P_{ij} (X X^T)_{ij}`. Features enter once, so a step costs two products with
them, one there and one for the gradient, however many operators are applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

NORM_STEPS = 15
FEW = 4
"""Neighbours up to which a partial sort is faster than the search for the k-th smallest."""
MOSTLY_OPEN = 0.8
"""Share of open features from which leaving out the closed ones is not worth the copy."""


def gated_gram(x: Tensor, z: Tensor) -> Tensor:
    r"""Return :math:`X \mathrm{diag}(z^2) X^T`, ``(B, B)``, the inner products of gated cells.

    Closed features are left out of the product: they add nothing, and a gate at zero has no gradient.

    Parameters
    ----------
    x
        ``(B, D)`` values.
    z
        ``(D,)`` gates in ``[0, 1]``.
    """
    is_open = z.detach() > 0
    if float(is_open.float().mean()) < MOSTLY_OPEN:
        at = torch.nonzero(is_open).ravel()
        x, z = x[:, at], z[at]
    return (x * z.square()) @ x.T


def affinity(gram: Tensor, n_neighbors: int, bandwidth: float) -> Tensor:
    r"""Return the kernel :math:`K_{ij} = \exp(-\lVert x_i - x_j \rVert^2 / (f s))`, ``(B, B)``.

    :math:`s` is the median over cells of the ``n_neighbors``-th smallest squared distance, the cell itself counted,
    and has no gradient :cite:p:`Lindenbaum2021`.

    Parameters
    ----------
    gram
        ``(B, B)`` inner products of the cells.
    n_neighbors, bandwidth
        Which neighbour sets the width, and the factor :math:`f`.
    """
    square = gram.diagonal()
    distance = (square[:, None] + square[None] - 2 * gram).clamp(min=0)
    k = min(n_neighbors, len(gram))
    near = distance.detach()
    scale = (near.topk(k, dim=1, largest=False).values[:, -1] if k <= FEW else near.kthvalue(k, dim=1).values).median()
    scale = torch.where(scale < 1e-8, torch.ones_like(scale), scale)
    return torch.exp(-distance / (bandwidth * scale))


def symmetric(kernel: Tensor) -> Tensor:
    r"""Return :math:`D^{-1/2} K D^{-1/2}`, ``(B, B)``, eigenvalues in ``[0, 1]``."""
    root = kernel.sum(dim=1).rsqrt()
    return kernel * root[:, None] * root[None]


def smoothness(gram: Tensor, n_neighbors: int, bandwidth: float, n_steps: int, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\frac1B \mathrm{Tr}[X^T P^t X]` with the random walk :math:`P` on the graph of the values itself.

    Parameters
    ----------
    gram
        ``(B, B)`` inner products of gated cells.
    n_neighbors, bandwidth
        See :func:`affinity`.
    n_steps
        Steps :math:`t` of the walk.
    weight
        ``(B,)`` weights of cells with mean 1; equal by default.
    """
    kernel = affinity(gram, n_neighbors, bandwidth)
    walk = kernel / kernel.sum(dim=1, keepdim=True)
    y = walk
    for _ in range(n_steps - 1):
        y = walk @ y
    return _mean((y * gram).sum(dim=1), weight)


def shared_smoothness(
    gram_x: Tensor, gram_y: Tensor, n_neighbors: int, bandwidth: float, weight: Tensor | None = None
) -> Tensor:
    r"""Return :math:`\frac1B \mathrm{Tr}[X^T P X] + \frac1B \mathrm{Tr}[Y^T P Y]`, :math:`P = L_x L_y + L_y L_x`.

    Large for features that are smooth on the graphs of both modalities :cite:p:`Yang2023`.

    Parameters
    ----------
    gram_x, gram_y
        ``(B, B)`` inner products of gated values of the same cells.
    n_neighbors, bandwidth
        See :func:`affinity`.
    weight
        ``(B,)`` weights of cells with mean 1; equal by default.
    """
    lx, ly = (symmetric(affinity(gram, n_neighbors, bandwidth)) for gram in (gram_x, gram_y))
    return _mean(2 * ((lx @ (gram_x + gram_y)) * ly).sum(dim=1), weight)


def inverse_operator(gram: Tensor, n_neighbors: int, bandwidth: float, ridge: float) -> Tensor:
    r"""Return :math:`(L_y + c I)^{-1}`, ``(B, B)``: large where a modality, with all its features, has no structure."""
    ly = symmetric(affinity(gram, n_neighbors, bandwidth))
    return torch.linalg.inv(ly + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))


def differential_smoothness(
    gram: Tensor, inverse: Tensor, n_neighbors: int, bandwidth: float, weight: Tensor | None = None
) -> Tensor:
    r"""Return :math:`\frac1B \mathrm{Tr}[X^T Q X]`, :math:`Q = A L_x A / \lVert A L_x A \rVert`.

    :math:`A` is :func:`inverse_operator` of the other modality. Large for features that are smooth on their own graph
    and rough on the other one :cite:p:`Yang2023`.

    Parameters
    ----------
    gram
        ``(B, B)`` inner products of gated values.
    inverse
        ``(B, B)``, symmetric.
    n_neighbors, bandwidth
        See :func:`affinity`.
    weight
        ``(B,)`` weights of cells with mean 1; equal by default.
    """
    lx = symmetric(affinity(gram, n_neighbors, bandwidth))
    rows = ((inverse @ gram @ inverse) * lx).sum(dim=1) / _norm(lx.detach(), inverse)
    return _mean(rows, weight)


def _mean(rows: Tensor, weight: Tensor | None) -> Tensor:
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
