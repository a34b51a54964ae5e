"""Fusion without fusion tokens: the tokens of all modalities of a channel in one sequence, and their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ._channels import ChannelFusion, Stream, with_one
from ._transformer import attend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ._transformer import Wiring


class EverythingAtOnce(ChannelFusion):
    r"""Transformer that reads the tokens of a channel's modalities as one sequence :cite:p:`Shvetsova2022`.

    Every token looks at all tokens of the channel; the embedding is the mean over what comes out, mapped linearly. That
    of one modality is the same with its own tokens alone. A channel of which a cell has one modality has that
    modality's embedding. Every channel runs all blocks again, so the cost is that of its tokens, squared.

    Parameters
    ----------
    n_modalities, channels, width, n_layers, n_heads, dropout_rate, readout_dropout, wiring
        See :class:`ChannelTransformer`.
    """

    def __init__(
        self,
        n_modalities: int,
        channels: Sequence[tuple[int, ...]],
        width: int,
        *,
        wiring: Wiring = "pre_norm",
        **options: Any,
    ) -> None:
        super().__init__(n_modalities, channels, width, wiring=wiring, **options)
        self.out = nn.Linear(width, width, bias=False)
        if wiring == "pre_norm":  # a skip that starts from a solution is not drowned
            with torch.no_grad():
                self.out.weight.mul_(0.1)

    def encode(self, position: int, tokens: Tensor, mask: Tensor | None = None, skip: Tensor | None = None) -> Stream:
        """Run the tokens of one modality, ``(n, T, width)``, of the cells that have it; see the base class."""
        mask = with_one(mask)
        pooled = self._read(tokens, mask)
        return Stream([], [tokens], mask, pooled if skip is None else pooled + skip, skip)

    def _fuse_pattern(
        self, streams: Sequence[Stream | None], rows: dict[int, Tensor], chosen: list[int], n: int
    ) -> Tensor:
        """Fuse ``n`` cells that have the same modalities, at ``rows`` of their streams; ``(n, C, width)``."""
        found: dict[tuple[int, ...], Tensor] = {}
        for channel in chosen:
            members = tuple(m for m in self.channels[channel] if m in rows)
            if members and members not in found:
                found[members] = self._fuse_members([(cast("Stream", streams[m]), rows[m]) for m in members])
        members_of = [tuple(m for m in self.channels[channel] if m in rows) for channel in chosen]
        return torch.stack([found[members] for members in members_of], dim=1)

    def _fuse_members(self, parts: list[tuple[Stream, Tensor]]) -> Tensor:
        if len(parts) == 1:
            stream, at = parts[0]
            return stream.pooled[at]
        tokens = torch.cat([stream.values[0][at] for stream, at in parts], dim=1)
        mask = None
        if any(stream.mask is not None for stream, _ in parts):
            every = [s.values[0].new_ones(s.values[0].shape[:2], dtype=torch.bool) for s, _ in parts]
            masks = [all_ if s.mask is None else s.mask for (s, _), all_ in zip(parts, every, strict=True)]
            mask = torch.cat([one[at] for one, (_, at) in zip(masks, parts, strict=True)], dim=1)
        out = self._read(tokens, mask)
        skips = [stream.skip[at] for stream, at in parts if stream.skip is not None]
        return out if not skips else out + torch.stack(skips).mean(dim=0)

    def _read(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Run the blocks over ``(n, T, width)`` and return the mean over measured tokens, mapped, ``(n, width)``."""
        x = tokens
        for block in self._blocks():
            residual, q, k, v = block.project(x)
            x = block.finish(residual, attend(q, k, v, None if mask is None else mask[:, None, None]))
        x = self.norm(x)
        if mask is None:
            mean = x.mean(dim=1)
        else:
            mean = (x * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return cast("Tensor", self.out(self.readout_dropout(mean)))
