"""What is common to networks with a channel per set of modalities: streams of tokens, and cells by what they have."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from ._dropout import Dropout
from ._transformer import TransformerBlock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ._transformer import Wiring


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


class ChannelFusion(nn.Module):
    """Transformer blocks, an embedding per modality, and one per channel; subclasses say how channels read tokens.

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
        n_layers: int = 3,
        n_heads: int = 4,
        dropout_rate: float = 0.0,
        wiring: Wiring = "pre_norm",
        readout_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_modalities, self.channels, self.width = n_modalities, tuple(channels), width
        self.n_heads = n_heads
        self.blocks = nn.ModuleList(
            TransformerBlock(width, n_heads, dropout_rate=dropout_rate, wiring=wiring) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width, bias=False)
        self.readout_dropout = Dropout(readout_dropout)

    @abstractmethod
    def encode(self, position: int, tokens: Tensor, mask: Tensor | None = None, skip: Tensor | None = None) -> Stream:
        """Run the tokens of one modality, ``(n, T, width)``, of the cells that have it."""

    @abstractmethod
    def _fuse_pattern(
        self, streams: Sequence[Stream | None], rows: dict[int, Tensor], chosen: list[int], n: int
    ) -> Tensor:
        """Fuse ``n`` cells that have the same modalities, at ``rows`` of their streams; ``(n, C, width)``."""

    def _learned_tokens(self) -> list[Tensor]:
        """Return parameters that no cell of a minibatch may need."""
        return []

    def pooled(
        self, streams: Sequence[Stream | None], where: Tensor, cells: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """Return the embedding of every modality, ``(B, M, width)``; zero where a cell does not have it.

        ``cells`` are the positions of what is in ``where``, ``(n,)`` by modality; without them a GPU is waited for.
        """
        out = self.norm.weight.new_zeros(*where.shape, self.width)
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
        out = self.norm.weight.new_zeros(use.shape[0], len(chosen), self.width)
        out = out + 0.0 * sum(p.sum() for p in self._learned_tokens())  # every process knows every parameter
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

    def _blocks(self) -> list[TransformerBlock]:
        return cast("list[TransformerBlock]", list(self.blocks))


def with_one(mask: Tensor | None) -> Tensor | None:
    """Leave one token to cells whose panel measured nothing: attention over nothing is undefined."""
    if mask is None:
        return None
    return mask | (~mask.any(1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0))
