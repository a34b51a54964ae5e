"""Encoders that start from a closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._mlp import MLP

if TYPE_CHECKING:
    from torch import Tensor


class PlannedEncoder(nn.Module):
    """Linear map, which starts from the closed form and keeps a copy of it, and maybe a small network beside it.

    Parameters
    ----------
    n_in, n_out
        Widths.
    deep
        Whether there is a network.
    n_hidden, dropout_rate
        Of the network.
    """

    start_weight: Tensor
    start_bias: Tensor

    def __init__(self, n_in: int, n_out: int, *, deep: bool, n_hidden: int = 128, dropout_rate: float = 0.2) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(dropout_rate if deep else 0.0)
        self.linear = nn.Linear(n_in, n_out)
        self.register_buffer("start_weight", self.linear.weight.detach().clone())
        self.register_buffer("start_bias", self.linear.bias.detach().clone())
        self.body = MLP(n_in, n_hidden, 1, dropout_rate=dropout_rate) if deep else None
        self.head = nn.Linear(n_hidden, n_out) if deep else None
        if self.head is not None:
            with torch.no_grad():
                self.head.weight.mul_(0.1)
                self.head.bias.zero_()

    @torch.no_grad()
    def set_closed_form(self, weight: Tensor, mean: Tensor, *, start: bool) -> None:
        """Set the closed form :math:`(x - m) W`, ``(n_in, k)`` and ``(n_in,)``; missing axes are zero.

        Parameters
        ----------
        weight, mean
            The map.
        start
            Whether training starts from it.
        """
        k = min(weight.shape[1], len(self.start_bias))
        self.start_weight.zero_()
        self.start_bias.zero_()
        self.start_weight[:k] = weight[:, :k].T.to(self.start_weight)
        self.start_bias[:k] = -(mean @ weight[:, :k]).to(self.start_bias)
        # weights that are not finite are left to whoever checks losses
        if start and bool(torch.isfinite(self.linear.weight).all()):
            self.linear.weight.copy_(self.start_weight)
            self.linear.bias.copy_(self.start_bias)

    def closed_form(self, x: Tensor) -> Tensor:
        """Map ``(n, n_in)`` by the closed form."""
        return nn.functional.linear(x, self.start_weight, self.start_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, n_in)`` to ``(n, n_out)``."""
        x = self.input_dropout(x)
        z = self.linear(x)
        return z if self.body is None or self.head is None else z + self.head(self.body(x))
