"""Fusion of what several modalities say about the same latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from ._encoder import Gaussian

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Fusion = Literal["mean", "poe", "poe_prior"]
"""How several sources become one: mean, product of experts, product that includes the prior as an expert."""


def masked_mean(values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
    r"""Return the mean over present modalities, :math:`\bar e_r = \sum_k o_{rk} e_{k,r} / \sum_k o_{rk}`.

    Parameters
    ----------
    values
        Modality to ``(B, d)``; rows of absent cells are ignored whatever they hold.
    present
        Modality to ``(B,)`` bool.

    Returns
    -------
    ``(B, d)``; zero where no modality is present.
    """
    total: Tensor | None = None
    count: Tensor | None = None
    for name, value in values.items():
        here = present[name][:, None]
        part, one = torch.where(here, value, torch.zeros_like(value)), here.to(value.dtype)
        total = part if total is None else total + part
        count = one if count is None else count + one
    if total is None or count is None:
        raise ValueError("Expected at least one modality to fuse, found none.")
    return total / count.clamp(min=1)


def product_of_experts(experts: Mapping[str, Gaussian], present: Mapping[str, Tensor], *, prior: bool) -> Gaussian:
    r"""Return the product of the present Gaussians in precision form.

    .. math:: \tau = [1 +] \sum_k o_k \sigma_k^{-2}, \qquad \mu = \tau^{-1} \sum_k o_k \sigma_k^{-2} \mu_k

    Parameters
    ----------
    experts
        Modality to distribution, ``(B, d)``.
    present
        Modality to ``(B,)`` bool.
    prior
        Whether the standard normal prior counts as an expert (the ``1`` above).

    Returns
    -------
    The product; where no modality is present, the standard normal.
    """
    first = next(iter(experts.values()))
    precision = torch.ones_like(first.mean) if prior else torch.zeros_like(first.mean)
    weighted = torch.zeros_like(first.mean)
    for name, expert in experts.items():
        here = present[name][:, None]
        # absent rows are replaced before the power: the gradient of what `where` discards must be finite, too
        scale = torch.where(here, expert.scale, torch.ones_like(expert.scale))
        tau = scale.pow(-2) * here
        precision = precision + tau
        weighted = weighted + tau * torch.where(here, expert.mean, torch.zeros_like(expert.mean))
    precision = torch.where(precision > 0, precision, torch.ones_like(precision))
    return Gaussian(weighted / precision, precision.rsqrt())


def fuse(experts: Mapping[str, Gaussian], present: Mapping[str, Tensor], fusion: Fusion) -> Gaussian:
    """Fuse the distributions of present modalities into one, ``(B, d)``.

    ``"mean"`` averages means and standard deviations; ``"poe"`` and ``"poe_prior"`` multiply densities.
    """
    if fusion == "mean":
        return Gaussian(
            masked_mean({k: e.mean for k, e in experts.items()}, present),
            masked_mean({k: e.scale for k, e in experts.items()}, present).clamp(min=1e-12),
        )
    return product_of_experts(experts, present, prior=fusion == "poe_prior")
