"""Transformer blocks, and attention inside modalities and from fusion channels that follows what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from ._dropout import Dropout
from ._transformer import TransformerBlock, Wiring, attend, linear_parts, split_heads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

SMALL = 0.02
"""Standard deviation of learned tokens at the start: what they read soon outweighs what they are."""


class Stream(NamedTuple):
    """What the tokens of one modality offer: keys and values of every layer, and the pooled embedding."""

    keys: list[Tensor]
    """``(n, heads, T, width / heads)`` per layer, ``n`` cells that have the modality."""
    values: list[Tensor]
    """The same shape."""
    mask: Tensor | None
    """``(n, T)`` bool, tokens with something measured; ``None`` if all are."""
    pooled: Tensor
    """``(n, width)``, the skip included."""
    skip: Tensor | None = None
    """``(n, width)``, what embeddings have from the modality past the transformer."""


class ChannelTransformer(nn.Module):
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
        n_layers: int = 3,
        n_heads: int = 4,
        n_fusion: int = 4,
        dropout_rate: float = 0.0,
        wiring: Wiring = "pre_norm",
        readout_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_modalities, self.channels, self.width = n_modalities, tuple(channels), width
        self.n_heads, self.n_fusion = n_heads, n_fusion
        membership = torch.zeros(len(self.channels), n_modalities, dtype=torch.bool)
        for row, channel in enumerate(self.channels):
            membership[row, list(channel)] = True
        self.register_buffer("membership", membership, persistent=False)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, n_heads, dropout_rate=dropout_rate, wiring=wiring) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width, bias=False)
        std = SMALL if wiring == "pre_norm" else 1.0
        self.fusion = nn.Parameter(torch.randn(len(self.channels), n_fusion, width) * std)
        self.queries = nn.Parameter(torch.randn(n_modalities + len(self.channels), width) * std)
        self.pool_q = nn.Linear(width, width, bias=False)
        self.pool_kv = nn.Linear(width, 2 * width, bias=False)
        self.pool_out = nn.Linear(width, width, bias=False)
        self.readout_dropout = Dropout(readout_dropout)
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
        if mask is not None:  # a cell whose panel measured nothing keeps one token: attention over nothing is undefined
            mask = mask | (~mask.any(1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0))
        x = tokens
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for block in self._blocks():
            residual, q, k, v = block.project(x)
            x = block.finish(residual, attend(q, k, v, None if mask is None else mask[:, None, None]))
            keys, values = [*keys, k], [*values, v]
        pooled = self._pool(x, self.queries[position].expand(x.shape[0], -1), mask)
        return Stream(keys, values, mask, pooled if skip is None else pooled + skip, skip)

    def pooled(
        self, streams: Sequence[Stream | None], where: Tensor, cells: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """Return the embedding of every modality, ``(B, M, width)``; zero where a cell does not have it.

        ``cells`` are the positions of what is in ``where``, ``(n,)`` by modality; without them a GPU is waited for.
        """
        out = self.queries.new_zeros(*where.shape, self.width)
        for m, stream in enumerate(streams):
            if stream is not None:
                rows = torch.nonzero(where[:, m]).ravel() if cells is None else cells[m]
                out = out.index_put((rows, torch.full_like(rows, m)), stream.pooled.to(out.dtype))
        return out

    def fuse(
        self,
        streams: Sequence[Stream | None],
        where: Tensor,
        use: Tensor | None = None,
        channels: Sequence[int] | None = None,
        patterns: Mapping[tuple[int, ...], Tensor] | None = None,
    ) -> Tensor:
        """Return the embedding of every channel, ``(B, C, width)``; zero where a cell has none of its modalities.

        Parameters
        ----------
        streams
            One per modality, ``None`` for those that the batch does not have.
        where
            ``(B, M)`` bool, cells of the streams, in order.
        use
            ``(B, M)`` bool, modalities to look at, among those in ``where``; all of them by default.
        channels
            Channels to compute; all by default. Channels do not depend on each other.
        patterns
            Positions of the cells that have exactly some modalities of ``use``; without them a GPU is waited for.
        """
        use, chosen = where if use is None else use, list(range(len(self.channels)) if channels is None else channels)
        row = torch.cumsum(where, 0) - 1
        patterns = self._patterns(use) if patterns is None else patterns
        out = self.queries.new_zeros(use.shape[0], len(chosen), self.width)
        out = out + 0.0 * (self.fusion.sum() + self.queries.sum())  # every process knows every parameter
        for here, cells in patterns.items():
            live = [i for i, channel in enumerate(chosen) if set(here) & set(self.channels[channel])]
            if live and len(cells):
                found = self._fuse_pattern(
                    streams, {m: row[cells, m] for m in here}, [chosen[i] for i in live], len(cells)
                )
                at = torch.tensor(live, device=out.device)
                out = out.index_put((cells[:, None], at[None]), found.to(out.dtype))
        return out

    def _patterns(self, use: Tensor) -> dict[tuple[int, ...], Tensor]:
        """Return the positions of the cells of every pattern, which a device has to be asked for."""
        code = use.long() @ (1 << torch.arange(self.n_modalities, device=use.device))
        return {
            tuple(m for m in range(self.n_modalities) if pattern >> m & 1): torch.nonzero(code == pattern).ravel()
            for pattern in torch.unique(code).tolist()
        }

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

    def _blocks(self) -> list[TransformerBlock]:
        return cast("list[TransformerBlock]", list(self.blocks))
