"""Distance between the latents of modalities, group by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def energy_distance(
    latents: Tensor,
    modality: Tensor,
    n_modalities: int,
    group: Tensor | None = None,
    *,
    n_groups: int | None = None,
) -> Tensor:
    r"""Return the mean energy distance between modalities within groups (Székely and Rizzo 2013).

    .. math:: 2 E\|x - y\| - E\|x - x'\| - E\|y - y'\|

    for rows :math:`x, x'` of one modality and :math:`y, y'` of another, of the same group; unbiased, and 0 in
    expectation if and only if the two distributions are equal. Its gradient has the same size at every scale, so that
    it still acts where groups have become narrow clusters and a smooth discriminator no longer sees a difference.

    Parameters
    ----------
    latents
        ``(N, L)``.
    modality
        ``(N,)`` int64 in ``0..n_modalities - 1``.
    n_modalities
        Number of modalities.
    group
        ``(N,)`` int64; only rows of one group are compared, rows with -1 with none. By default all rows are one group.

    n_groups
        A number above all groups; without it a GPU has to be waited for.

    Returns
    -------
    A scalar in units of the latents, weighted by rows over groups and pairs of modalities with at least two rows each;
    0 where there is none. Estimates may be slightly negative.
    """
    n_groups = 1 if group is None else n_groups
    group = torch.zeros_like(modality) if group is None else group
    if len(group) == 0:
        return latents.sum() * 0.0
    if n_groups is None:
        n_groups = max(int(group.max()) + 1, 1)
    inside, group = group >= 0, group.clamp(min=0)
    distance = torch.cdist(latents, latents, compute_mode="donot_use_mm_for_euclid_dist")
    member = torch.zeros(len(latents), n_groups * n_modalities, dtype=latents.dtype, device=latents.device)
    member.scatter_(1, (group * n_modalities + modality)[:, None], inside.to(member)[:, None])
    count = member.sum(dim=0).view(n_groups, n_modalities)
    total = (member.T @ distance @ member).view(n_groups, n_modalities, n_groups, n_modalities)
    at = torch.arange(n_groups, device=latents.device)
    total = total[at, :, at, :]  # (groups, M, M): only pairs within a group
    between = total / (count[:, :, None] * count[:, None, :]).clamp(min=1)
    within = total.diagonal(dim1=1, dim2=2) / (count * (count - 1)).clamp(min=1)
    statistic = 2 * between - within[:, :, None] - within[:, None, :]
    enough = count >= 2
    pairs = enough[:, :, None] & enough[:, None, :]
    pairs = pairs & torch.ones_like(pairs).triu(diagonal=1)
    weight = pairs * (count[:, :, None] + count[:, None, :])
    return (statistic * weight).sum() / weight.sum().clamp(min=1)
