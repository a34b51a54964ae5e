"""Correlation under a transport plan, plans with gradients, and distances between what two modalities look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from . import _look
from ._deep_cca import cholesky_root, whitened_cross

if TYPE_CHECKING:
    from torch import Tensor

KERNELS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths of :func:`mmd`, in units of the median squared distance."""
ASCENT_STEPS = 5


def plan_correlation(u: Tensor, v: Tensor, plan: Tensor, *, ridge: float = 0.05) -> Tensor:
    r"""Return the mean correlation of two latents, axis by axis, under a plan.

    .. math:: \frac1d \operatorname{tr}\big(L_1^{-1}\, U^\top T V\, L_2^{-\top}\big), \qquad
              L_1 L_1^\top = U^\top \operatorname{diag}(T 1)\, U + r I

    with centred latents, :math:`L_2` alike, and the plan divided by its sum. The trace, instead of the sum of singular
    values, keeps axis :math:`k` of one modality with axis :math:`k` of the other.

    Parameters
    ----------
    u, v
        ``(n_1, d)`` and ``(n_2, d)``.
    plan
        ``(n_1, n_2)``, at least 0.
    ridge
        Added to the diagonals, in units of their mean.

    Returns
    -------
    A scalar, at most 1; 0 with a gradient of 0 where the plan is empty. A high value is no evidence for the plan.
    """
    total = plan.sum()
    if len(u) == 0 or len(v) == 0 or (_look.may_look(total) and not bool(total > 0)):
        return (u.sum() + v.sum()) * 0.0
    plan = plan.to(u) / total.to(u).clamp(min=1e-30)
    a, b = plan.sum(dim=1, keepdim=True), plan.sum(dim=0)[:, None]
    u, v = u - (a * u).sum(dim=0), v - (b * v).sum(dim=0)
    cross = u.T @ plan @ v
    if _look.may_look(cross) and not bool(torch.isfinite(cross).all()):
        return cross.sum()  # for whoever checks losses; a factorisation would raise an error of its own
    first, second = _root((a * u).T @ u, ridge), _root((b * v).T @ v, ridge)
    return whitened_cross(cross, first, second).diagonal().mean()


def _root(covariance: Tensor, ridge: float) -> Tensor:
    """Return the Cholesky factor with a ridge in units of the mean diagonal."""
    return cholesky_root(covariance, ridge * covariance.diagonal().mean().detach() + 1e-6)


def gumbel_sinkhorn(
    logits: Tensor, tau: float | Tensor, *, n_iterations: int = 20, n_samples: int = 5, noise: float = 1.0
) -> Tensor:
    r"""Return doubly stochastic matrices with gradients: Sinkhorn of logits plus noise.

    The plan is that of :math:`(\mathrm{logits} + \mathrm{Gumbel})/\tau_{ij}`. The temperature adapts to how undecided
    rows and columns are: with :math:`H` their entropy relative to the largest possible, it is
    :math:`\tau (1 + 0.1\, \mathrm{clip}((H - 0.7)/0.3, 0, 1))`, mean of row and column; no gradient goes through that
    factor :cite:p:`Mena2018`.

    Parameters
    ----------
    logits
        ``(n_1, n_2)``.
    tau
        Temperature, above 0. It divides with and without noise.
    n_iterations
        Of Sinkhorn, in logs, unrolled.
    n_samples
        Draws of noise.
    noise
        Size of the noise; with 0 there is one sample.

    Returns
    -------
    ``(n_samples, n_1, n_2)``, rows of sum 1 and columns of sum ``n_1 / n_2``.
    """
    n_rows, n_columns = logits.shape
    with torch.no_grad():
        scale = 0.5 * (_undecided(logits, 1) + _undecided(logits, 0))
    samples = max(n_samples, 1) if noise > 0 else 1
    x = logits.expand(samples, n_rows, n_columns)
    if noise > 0:
        uniform = torch.rand(x.shape, device=x.device, dtype=x.dtype).clamp(1e-10, 1 - 1e-7)
        x = x - noise * torch.log(-torch.log(uniform))
    x = x / (tau * scale)
    column = torch.log(torch.tensor(n_rows / n_columns, dtype=x.dtype, device=x.device))
    for _ in range(n_iterations):
        x = x - x.logsumexp(dim=1, keepdim=True) + column
        x = x - x.logsumexp(dim=2, keepdim=True)
    return x.exp()


def _undecided(logits: Tensor, dim: int) -> Tensor:
    """Return the factor of the temperature of each row (``dim=1``) or column (``dim=0``), kept broadcastable."""
    p = logits.softmax(dim=dim)
    n = max(logits.shape[dim], 2)
    entropy = -(p * p.clamp(min=1e-12).log()).sum(dim=dim, keepdim=True) / torch.log(torch.tensor(float(n)))
    return 1 + 0.1 * ((entropy - 0.7) / 0.3).clamp(0, 1)


def plan_entropy(plan: Tensor) -> Tensor:
    """Return the mean entropy of the rows of plans ``(..., n_1, n_2)`` whose rows sum to 1, in nats."""
    return -(plan * plan.clamp(min=1e-12).log()).sum(dim=-1).mean()


def mmd(u: Tensor, v: Tensor) -> Tensor:
    """Return the maximum mean discrepancy with a mean of five Gaussian kernels, unbiased (Gretton et al. 2012).

    Bandwidths are a quarter to four times the median squared distance of both together.

    Parameters
    ----------
    u, v
        ``(n_1, d)`` and ``(n_2, d)``.

    Returns
    -------
    A scalar, 0 in expectation for equal distributions and maybe slightly negative; 0 below two rows.
    """
    n, m = len(u), len(v)
    if n < 2 or m < 2:
        return (u.sum() + v.sum()) * 0.0
    z = torch.cat([u, v])
    d = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()
    off = ~torch.eye(n + m, dtype=torch.bool, device=d.device)
    median = d.detach()[off].median().clamp(min=1e-12)
    k = torch.stack([torch.exp(-d / (2 * factor * median)) for factor in KERNELS]).mean(dim=0) * off
    return k[:n, :n].sum() / (n * (n - 1)) + k[n:, n:].sum() / (m * (m - 1)) - 2 * k[:n, n:].mean()


def max_sliced_wasserstein(u: Tensor, v: Tensor) -> Tensor:
    """Return the squared Wasserstein distance along the direction in which it is largest (Deshpande et al. 2019).

    The direction starts at the difference of the means and takes five normalised steps of gradient ascent. Quantiles of
    the smaller set are interpolated.

    Parameters
    ----------
    u, v
        ``(n_1, d)`` and ``(n_2, d)``.

    Returns
    -------
    A scalar, at least 0; 0 if one of them is empty.
    """
    if len(u) == 0 or len(v) == 0:
        return (u.sum() + v.sum()) * 0.0
    a, b = u.detach(), v.detach()
    direction = a.mean(dim=0) - b.mean(dim=0) + 1e-6
    direction = direction / direction.norm()
    with torch.enable_grad():
        for _ in range(ASCENT_STEPS):
            direction = direction.requires_grad_()
            (gradient,) = torch.autograd.grad(_along(a, b, direction), direction)
            direction = direction.detach() + gradient / gradient.norm().clamp(min=1e-12)
            direction = direction / direction.norm()
    return _along(u, v, direction)


def _along(u: Tensor, v: Tensor, direction: Tensor) -> Tensor:
    x, y = (u @ direction).sort().values, (v @ direction).sort().values
    if len(x) != len(y):
        n = max(len(x), len(y))
        levels = (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) / n
        x, y = _quantiles(x, levels), _quantiles(y, levels)
    return (x - y).square().mean()


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Interpolate sorted values at levels in (0, 1)."""
    at = (levels * len(values) - 0.5).clamp(0, len(values) - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def structural_similarity(u: Tensor, v: Tensor, plan: Tensor) -> Tensor:
    r"""Return how unlike the similarities within two modalities are under a plan.

    One minus the mean over rows of :math:`\frac{2 \sigma_{xy} + c}{\sigma_x^2 + \sigma_y^2 + c}`, the structural
    part of SSIM, between rows of the Gaussian kernel of ``u`` and of that of ``v`` carried over by the plan. It sees
    which cell goes with which, unlike distances between distributions.

    Parameters
    ----------
    u, v
        ``(n_1, d)`` and ``(n_2, d)``.
    plan
        ``(n_1, n_2)``; rows without mass are left out.

    Returns
    -------
    A scalar in [0, 2], lower is better; 0 where nothing can be compared.
    """
    if len(u) == 0 or len(v) == 0:
        return (u.sum() + v.sum()) * 0.0
    mass = plan.sum(dim=1)
    kept = (mass > 0).to(u)
    n = kept.sum().clamp(min=1)
    rows = plan / mass.clamp(min=1e-30)[:, None]
    x, y = _kernel(u), rows @ _kernel(v) @ rows.T
    x, y = ((z - (z @ kept / n)[:, None]) * kept for z in (x, y))
    cross, variances = (x * y).sum(dim=1) / n, (x.square() + y.square()).sum(dim=1) / n
    likeness = ((2 * cross + 1e-4) / (variances + 1e-4)) @ kept / n
    return torch.where(kept.sum() >= 3, 1 - likeness, 0.0)


def _kernel(z: Tensor) -> Tensor:
    d = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.exp(-d / (2 * d.detach().mean().clamp(min=1e-12)))


def covariance_drift(latent: Tensor, variance: Tensor) -> Tensor:
    """Return how far the mean of latents is from 0, and their covariance from a diagonal one; 0 below two rows.

    Parameters
    ----------
    latent
        ``(n, d)``.
    variance
        ``(d,)`` wanted on the diagonal.

    Returns
    -------
    Squared distances relative to the wanted covariance, at least 0.
    """
    if len(latent) < 2:
        return latent.sum() * 0.0
    mean = latent.mean(dim=0)
    centred = latent - mean
    difference = centred.T @ centred / (len(latent) - 1) - variance.diag()
    drift = difference.square().sum() / variance.square().sum().clamp(min=1e-12)
    return drift + mean.square().sum() / variance.sum().clamp(min=1e-12)
