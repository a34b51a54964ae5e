"""Attention inside modalities and from fusion channels that follows what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ._channels import ChannelFusion, Stream, with_one
from ._transformer import Wiring, attend, linear_parts, split_heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SMALL = 0.02
"""Standard deviation of learned tokens at the start: what they read soon outweighs what they are."""


class ChannelTransformer(ChannelFusion):
    r"""Transformer over modalities and fusion channels with modal channel attention :cite:p:`Bjorgaard2024`.

    Tokens of a modality look at tokens of the same modality. Fusion tokens of channel :math:`c`, a set of modalities,
    look at those of the modalities in :math:`c` that are present and at each other. Instead of masking one matrix of
    all tokens, each modality attends to itself for the cells that have it, and fusion tokens attend to keys and
    values that the modalities computed anyway, one call per presence pattern. Results are those of the masked matrix.

    Parameters
    ----------
    n_modalities
        Number of modalities ``M``.
    channels
        Positions of modalities, a tuple per channel.
    width
        Width of tokens and embeddings.
    n_layers, n_heads
        Depth and heads; heads must divide the width.
    n_fusion
        Fusion tokens per channel.
    dropout_rate, readout_dropout
        Share of units dropped at the end of attention and feed-forward parts, and of what is read off the tokens.
    wiring
        Where norms and residuals are; ``"reference"`` also starts learned tokens at unit variance.
    """

    membership: Tensor

    def __init__(
        self,
        n_modalities: int,
        channels: Sequence[tuple[int, ...]],
        width: int,
        *,
        n_fusion: int = 4,
        wiring: Wiring = "pre_norm",
        **options: Any,
    ) -> None:
        super().__init__(n_modalities, channels, width, wiring=wiring, **options)
        self.n_fusion = n_fusion
        membership = torch.zeros(len(self.channels), n_modalities, dtype=torch.bool)
        for row, channel in enumerate(self.channels):
            membership[row, list(channel)] = True
        self.register_buffer("membership", membership, persistent=False)
        std = SMALL if wiring == "pre_norm" else 1.0
        self.fusion = nn.Parameter(torch.randn(len(self.channels), n_fusion, width) * std)
        self.queries = nn.Parameter(torch.randn(n_modalities + len(self.channels), width) * std)
        self.pool_q = nn.Linear(width, width, bias=False)
        self.pool_kv = nn.Linear(width, 2 * width, bias=False)
        self.pool_out = nn.Linear(width, width, bias=False)
        if wiring == "pre_norm":  # a skip that starts from a solution is not drowned
            with torch.no_grad():
                self.pool_out.weight.mul_(0.1)

    def encode(self, position: int, tokens: Tensor, mask: Tensor | None = None, skip: Tensor | None = None) -> Stream:
        """Run the tokens of one modality, ``(n, T, width)``, of the cells that have it.

        Parameters
        ----------
        position
            Position of the modality.
        tokens
            Its tokens.
        mask
            ``(n, T)`` bool, tokens with something measured.
        skip
            ``(n, width)``, added to the embedding; a channel gets the mean over those of its modalities.
        """
        mask = with_one(mask)
        x = tokens
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for block in self._blocks():
            residual, q, k, v = block.project(x)
            x = block.finish(residual, attend(q, k, v, None if mask is None else mask[:, None, None]))
            keys, values = [*keys, k], [*values, v]
        pooled = self._pool(x, self.queries[position].expand(x.shape[0], -1), mask)
        return Stream(keys, values, mask, pooled if skip is None else pooled + skip, skip)

    def _learned_tokens(self) -> list[Tensor]:
        return [self.fusion, self.queries]

    def _fuse_pattern(
        self, streams: Sequence[Stream | None], rows: dict[int, Tensor], chosen: list[int], n: int
    ) -> Tensor:
        """Fuse ``n`` cells that have the same modalities, at ``rows`` of their streams; ``(n, C, width)``."""
        parts: list[tuple[Stream, Tensor | slice]] = []
        for m, cells in rows.items():
            stream = cast("Stream", streams[m])
            parts.append((stream, cells if len(cells) < len(stream.pooled) else slice(None)))  # all rows: no copy
        mask = self._mask(chosen, rows, parts, n)
        channels = torch.tensor(chosen, device=self.fusion.device)
        x = self.fusion[channels].flatten(0, 1).expand(n, -1, -1)
        for layer, block in enumerate(self._blocks()):
            residual, q, k, v = block.project(x)
            k = torch.cat([k, *(stream.keys[layer][at] for stream, at in parts)], dim=2)
            v = torch.cat([v, *(stream.values[layer][at] for stream, at in parts)], dim=2)
            x = block.finish(residual, attend(q, k, v, mask))
        x = x.reshape(n * len(channels), self.n_fusion, self.width)
        queries = self.queries[self.n_modalities + channels].repeat(n, 1)
        out = self._pool(x, queries).reshape(n, len(channels), self.width)
        member = self.membership[channels][:, list(rows)].to(out.dtype)
        for share, (stream, at) in zip((member / member.sum(1, keepdim=True)).T, parts, strict=True):
            if stream.skip is not None:
                out = out + share[:, None] * stream.skip[at][:, None]
        return out

    def _mask(
        self, chosen: list[int], rows: dict[int, Tensor], parts: Sequence[tuple[Stream, Tensor | slice]], n: int
    ) -> Tensor | None:
        """Return who may look at whom, fusion tokens first among the keys; ``None`` if all may look at all."""
        device = self.fusion.device
        sizes = [stream.keys[0].shape[2] for stream, _ in parts]
        owner = torch.arange(len(chosen), device=device).repeat_interleave(
            self.n_fusion, output_size=len(chosen) * self.n_fusion
        )
        member = self.membership[torch.tensor(chosen, device=device)]
        sees = torch.cat([member[:, [m]].expand(-1, size) for m, size in zip(rows, sizes, strict=True)], dim=1)[owner]
        mask = torch.cat([owner[:, None] == owner[None], sees], dim=1)
        if any(stream.mask is not None for stream, _ in parts):
            tokens = [
                mask.new_ones(n, size) if stream.mask is None else stream.mask[at]
                for (stream, at), size in zip(parts, sizes, strict=True)
            ]
            measured = torch.cat([mask.new_ones(n, len(owner)), *tokens], dim=1)
            return (mask & measured[:, None])[:, None]
        everything = len(chosen) == 1 and set(rows) <= set(self.channels[chosen[0]])
        return None if everything else mask

    def _pool(self, x: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read ``(n, T, width)`` with a learned query per row, ``(n, width)``; its residual is the query."""
        k, v = linear_parts(self.norm(x), self.pool_kv, 2)
        q, k, v = (split_heads(part, self.n_heads) for part in (self.pool_q(queries)[:, None], k, v))
        read = attend(q, k, v, None if mask is None else mask[:, None, None])
        return queries + cast("Tensor", self.pool_out(self.readout_dropout(read[:, 0])))
