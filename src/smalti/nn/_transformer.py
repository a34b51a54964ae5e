"""Attention with several heads, and transformer blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import nn

from smalti._validate import check_choice

from ._dropout import Dropout

if TYPE_CHECKING:
    from torch import Tensor

Wiring = Literal["pre_norm", "reference"]
"""``"pre_norm"``: two norms, residuals around them. ``"reference"``: that of the authors' code of MCA, one norm shared
by both parts, residuals from the normalised stream."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return scaled dot-product attention, heads side by side.

    Parameters
    ----------
    q, k, v
        ``(B, heads, T, width / heads)``.
    mask
        Boolean, broadcastable to ``(B, heads, T_q, T_k)``, true where a query may look. Every query needs a key.

    Returns
    -------
    ``(B, T_q, width)``.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Return ``(B, T, width)`` as ``(B, heads, T, width / heads)``."""
    return x.reshape(*x.shape[:2], n_heads, x.shape[2] // n_heads).transpose(1, 2)


def linear_parts(x: Tensor, layer: nn.Linear, n: int) -> list[Tensor]:
    """Return the output of a layer without bias in ``n`` equal parts.

    The weight is split instead of the output, whose gradient would be put together in memory.
    """
    return [F.linear(x, weight) for weight in layer.weight.chunk(n)]


class TransformerBlock(nn.Module):
    """Attention and a gated feed-forward part (GEGLU), without biases.

    The block does not attend by itself: the caller takes queries, keys and values of a stream (:meth:`project`),
    decides who looks at whom, and hands back what was read (:meth:`finish`).

    Parameters
    ----------
    width
        Width of tokens.
    n_heads
        Attention heads; must divide the width.
    dropout_rate
        Share of units dropped at the end of both parts.
    wiring
        Where norms and residuals are.
    """

    def __init__(self, width: int, n_heads: int, *, dropout_rate: float = 0.0, wiring: Wiring = "pre_norm") -> None:
        super().__init__()
        self.n_heads, self.wiring = n_heads, check_choice(wiring, ("pre_norm", "reference"), "wiring")
        inner = int(width * 4 * 2 / 3)
        if wiring == "pre_norm":  # matrix products are a fifth faster at a round width
            inner = -(-inner // 16) * 16
        self.norm = nn.LayerNorm(width, bias=False)
        self.second_norm = nn.LayerNorm(width, bias=False) if wiring == "pre_norm" else self.norm
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.widen = nn.Linear(width, 2 * inner, bias=False)
        self.narrow = nn.Linear(inner, width, bias=False)
        self.dropout = Dropout(dropout_rate)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the residual of a stream ``(B, T, width)`` and its queries, keys and values, with heads."""
        h = self.norm(x)
        q, k, v = (split_heads(part, self.n_heads) for part in linear_parts(h, self.qkv, 3))
        return (x if self.wiring == "pre_norm" else h), q, k, v

    def finish(self, residual: Tensor, read: Tensor) -> Tensor:
        """Return the stream after attention that read ``(B, T, width)``, and after the feed-forward part."""
        x = residual + self.dropout(self.out(read))
        h = self.second_norm(x)
        value, gate = linear_parts(h, self.widen, 2)
        return (x if self.wiring == "pre_norm" else h) + self.dropout(self.narrow(F.gelu(gate) * value))
