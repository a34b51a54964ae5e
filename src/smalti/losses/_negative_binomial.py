"""The negative binomial in float32, at any mean and dispersion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from . import _look

if TYPE_CHECKING:
    from torch import Tensor

LOG_MEAN_RANGE = (-18.0, 16.0)
"""Log means are kept between 1.5e-8 and 9e6 counts; beyond, exponentials lose precision in float32."""
LOG_THETA_RANGE = (-18.0, 18.0)
"""The same for inverse dispersions; from about 10 on a negative binomial cannot be told from a Poisson."""
STIRLING_FROM = 20.0
"""Argument from which the two first terms of Stirling's series are exact in float32 (next one: 1 / 360 z^3)."""


def clamp_log_mean(log_mean: Tensor) -> Tensor:
    """Keep a log mean where float32 can take its exponential."""
    return F.hardtanh(log_mean, *LOG_MEAN_RANGE)  # a clamp whose gradient is one operation


def log_rising(x: Tensor, theta: Tensor) -> Tensor:
    r"""Return :math:`\log \Gamma(x + \theta) - \log \Gamma(\theta)`.

    For large theta the two are so large that their difference is lost in float32 (17 nats at theta = e^17, and a
    gradient that is noise), so there the difference of their Stirling series is taken instead.
    """
    if _look.may_look(theta) and not bool((theta > STIRLING_FROM).any()):
        return torch.lgamma(x + theta) - torch.lgamma(theta)
    small, large = theta.clamp(max=STIRLING_FROM), theta.clamp(min=STIRLING_FROM)
    stirling = (x + large - 0.5) * torch.log1p(x / large) + x * (large.log() - 1)
    stirling = stirling + (1 / (x + large) - 1 / large) / 12
    return torch.where(theta <= STIRLING_FROM, torch.lgamma(x + small) - torch.lgamma(small), stirling)


def nb_nll(x: Tensor, log_mean: Tensor, log_theta: Tensor, constant: Tensor | None = None) -> Tensor:
    r"""Return :math:`-\log \mathrm{NB}(x; \mu, \theta)`, elementwise.

    Parameters
    ----------
    x, log_mean, log_theta
        Broadcast against each other.
    constant
        What does not depend on the mean, of :func:`nb_constant`, where it is known already.
    """
    log_theta = log_theta.clamp(*LOG_THETA_RANGE)
    constant = nb_constant(x, log_theta) if constant is None else constant
    return constant + log_theta.exp() * F.softplus(log_mean - log_theta) + x * F.softplus(log_theta - log_mean)


def nb_constant(x: Tensor, log_theta: Tensor) -> Tensor:
    r"""Return :math:`\log x! - \log \Gamma(x + \theta) + \log \Gamma(\theta)`, the part of the loss without a mean.

    Parameters
    ----------
    x
        ``(B, S)``, or values at any features with the ``log_theta`` of each.
    log_theta
        Broadcasts to ``x``: per feature it is cheaper than per value.
    """
    return torch.lgamma(x + 1) - log_rising(x, log_theta.clamp(*LOG_THETA_RANGE).exp())


def nb_zero_nll(log_mean: Tensor, log_theta: Tensor) -> Tensor:
    r"""Return the same for zeros, :math:`\theta \log(1 + \mu / \theta)`."""
    log_theta = log_theta.clamp(*LOG_THETA_RANGE)
    return log_theta.exp() * F.softplus(log_mean - log_theta)
