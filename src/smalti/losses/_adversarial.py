"""Modality games with a relativistic discriminator, and its gradient penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Player = Literal["discriminator", "encoder"]
"""Whose loss: the discriminator tells modalities apart, the encoders want it to fail."""
Game = Literal["ovr", "pairwise", "ce", "uniform"]
"""Rules of a modality game, see :func:`modality_game`."""
GAMES: tuple[Game, ...] = get_args(Game)


def modality_game(
    game: Game,
    player: Player,
    logits: Tensor,
    modality: Tensor,
    group: Tensor | None = None,
    *,
    parts: Sequence[slice] | None = None,
    n_groups: int | None = None,
) -> Tensor:
    r"""Return the loss of one player of a modality game.

    With :math:`f` the softplus, :math:`A_i(z)` the logit of modality :math:`i`, :math:`z_i` a latent that came from
    modality :math:`i`, and means over all pairs of rows that may be compared:

    ``"ovr"``
        one against the rest: :math:`r = A_i(z_i) - A_i(z_j)` for every :math:`j \ne i`.
    ``"pairwise"``
        :math:`r = c_{ij}(z_i) - c_{ij}(z_j)` with :math:`c_{ij} = A_i - A_j`. For two modalities this is the
        relativistic pairing GAN (Jolicoeur-Martineau 2019; Huang et al. 2024).

    For both the discriminator minimises :math:`E f(-r)` and the encoders :math:`E f(r)`. The mean stands outside
    :math:`f`, so that terms of opposite sign cannot cancel (see :func:`published_relativistic`).

    ``"ce"``
        cross-entropy of the true modality; the encoders minimise that of all wrong ones.
    ``"uniform"``
        the same discriminator; the encoders minimise the cross-entropy to the uniform distribution.

    Parameters
    ----------
    game
        Rules.
    player
        Whose loss.
    logits
        ``(N, M)`` of all rows of all modalities.
    modality
        ``(N,)`` int64, where each row came from.
    group
        ``(N,)`` int64. Only rows of one group are compared, such as samples of one class; rows with -1 stay out of the
        game, and so do groups found in one modality only. By default all rows are one group.
    parts, n_groups
        Where the rows of each modality lie, if they lie together, and a number above all groups: without them the rows
        are looked at, for which a GPU has to be waited for.

    Returns
    -------
    A scalar; 0 with a gradient of 0 where nothing can be compared.
    """
    group = torch.zeros_like(modality) if group is None else group
    if game in ("ce", "uniform"):
        return _classified(game, player, logits, modality, group, n_groups)
    sign = -1.0 if player == "discriminator" else 1.0
    total, n_terms = logits.sum() * 0.0, logits.new_zeros(())
    n_modalities = logits.shape[1]
    for i in range(n_modalities):
        for j in range(n_modalities):
            if i == j or (game == "pairwise" and j < i):
                continue
            a, b = (modality == i, modality == j) if parts is None else (parts[i], parts[j])
            score = logits[:, i] if game == "ovr" else logits[:, i] - logits[:, j]
            same = (group[a][:, None] == group[b][None, :]) & (group[a] >= 0)[:, None]
            loss = F.softplus(sign * (score[a][:, None] - score[b][None, :]))
            # each group counts by its rows, not by its pairs
            weight = same / same.sum(dim=1, keepdim=True).clamp(min=1)
            n_rows = weight.sum()
            total = total + (loss * weight).sum() / n_rows.clamp(min=1)  # rows that may be compared, a whole number
            n_terms = n_terms + (n_rows > 0)
    return total / n_terms.clamp(min=1)


def _classified(
    game: Game, player: Player, logits: Tensor, modality: Tensor, group: Tensor, n_groups: int | None
) -> Tensor:
    """Cross-entropy games on the rows whose group occurs in more than one modality."""
    n_modalities = logits.shape[1]
    if n_groups is None:
        n_groups = int(group.max()) + 1 if len(group) else 0
    inside, group = group >= 0, group.clamp(min=0)
    seen = torch.zeros(max(n_groups, 1), n_modalities, device=logits.device)
    seen = seen.index_put((group, modality), inside.to(seen), accumulate=True) > 0
    rows = inside & (seen[group].sum(dim=1) > 1)
    log_p = F.log_softmax(logits, dim=1)
    own = (modality[:, None] == torch.arange(n_modalities, device=modality.device)).to(log_p.dtype)
    if player == "discriminator":
        each = -(log_p * own).sum(dim=1)
    elif game == "uniform":
        each = -log_p.mean(dim=1)
    else:
        each = -(log_p * (1 - own)).sum(dim=1) / max(n_modalities - 1, 1)
    return (each * rows).sum() / rows.sum().clamp(min=1)


def published_relativistic(logits: Tensor, player: Player) -> Tensor:
    r"""Return the relativistic loss as MODIS published it; kept to show that it is no game.

    .. math:: L_D = f\Big(-\sum_i \big(A_i - \sum_{j \ne i} A_j\big)\Big), \qquad
              L_E = f\Big(-\sum_i \sum_{j \ne i} (A_j - A_i)\Big)

    Every :math:`A_i` occurs in the argument of :math:`L_E` as often with one sign as with the other, so that it is
    :math:`\log 2` whatever the logits are; :math:`L_D = f((M - 2) \sum_i A_i)` does not depend on which modality a row
    came from.

    Parameters
    ----------
    logits
        ``(M, B)``, one logit per modality and row.
    player
        Whose loss.

    Returns
    -------
    A scalar, mean over rows.
    """
    total = logits.sum(dim=0)
    per_modality = 2 * logits - total if player == "discriminator" else total - len(logits) * logits
    return F.softplus(-per_modality.sum(dim=0)).mean()


def gradient_penalty(logits: Tensor, latents: Tensor) -> Tensor:
    r"""Return the zero-centred penalty :math:`\tfrac12 E \|\partial A / \partial z\|_F^2` on a discriminator.

    The norm of the Jacobian is estimated without bias by one random sign vector :math:`v` per row:
    :math:`E_v \|\partial (v \cdot A) / \partial z\|^2`. Nothing flows back into encoders.

    Parameters
    ----------
    logits
        ``(N, M)``.
    latents
        ``(N, L)``, a leaf that requires gradients and that ``logits`` were computed from.

    Returns
    -------
    A scalar, at least 0; multiply it by gamma.
    """
    signs = torch.randint(0, 2, logits.shape, device=logits.device, dtype=torch.int8).to(logits.dtype) * 2 - 1
    (gradient,) = torch.autograd.grad((signs * logits).sum(), latents, create_graph=True)
    return 0.5 * gradient.square().sum(dim=1).mean()
