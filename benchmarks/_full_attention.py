"""Modal channel attention as one full masked matrix over all tokens: what the structured attention is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smalti.nn import ChannelTransformer


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Masked attention by the kernel of torch, which holds no matrix of scores."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def matrix_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Masked attention with the matrix of scores written out, as in the authors' code."""
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v


def full_attention(
    model: ChannelTransformer,
    tokens: list[Tensor],
    present: Tensor,
    *,
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = fused_attention,
) -> tuple[Tensor, Tensor]:
    """Unimodal and channel embeddings, ``(B, M, d)`` and ``(B, C, d)``, with the weights of ``model``.

    Every cell carries the tokens of every modality, and a mask ``(B, 1, N, N)`` says who may look at whom.
    """
    n_cells, n_channels, device = len(present), len(model.channels), present.device
    sizes = torch.tensor([part.shape[1] for part in tokens], device=device)
    owner = torch.arange(len(tokens), device=device).repeat_interleave(sizes)
    channel = torch.arange(n_channels, device=device).repeat_interleave(model.n_fusion)
    n = len(owner)
    allowed = torch.zeros(n + len(channel), n + len(channel), dtype=torch.bool, device=device)
    allowed[:n, :n] = owner[:, None] == owner[None]
    allowed[n:, :n] = model.membership[channel][:, owner]
    allowed[n:, n:] = channel[:, None] == channel[None]
    real = torch.cat([present[:, owner], present.new_ones(n_cells, len(channel))], dim=1)
    mask = (allowed[None] & real[:, None])[:, None]
    mask = mask | torch.eye(mask.shape[-1], dtype=torch.bool, device=device)  # no row without a key
    x = torch.cat([*tokens, model.fusion.flatten(0, 1).expand(n_cells, -1, -1)], dim=1)
    for block in model.blocks:
        residual, q, k, v = block.project(x)
        x = block.finish(residual, attend(q, k, v, mask).transpose(1, 2).flatten(2))
    parts = x.split([*sizes.tolist(), len(channel)], dim=1)
    unimodal = [model._pool(part, model.queries[m].expand(n_cells, -1)) for m, part in enumerate(parts[:-1])]
    fusion = parts[-1].reshape(n_cells * n_channels, model.n_fusion, -1)
    fused = model._pool(fusion, model.queries[len(tokens) :].repeat(n_cells, 1)).reshape(n_cells, n_channels, -1)
    some = torch.stack([present[:, list(c)].any(1) for c in model.channels], dim=1)
    return torch.stack(unimodal, dim=1) * present[:, :, None], fused * some[:, :, None]
