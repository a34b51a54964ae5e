"""Fully connected blocks with one-hot covariates at every layer."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import nn

from ._dropout import Dropout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Norm = Literal["layer", "batch", "none"]
"""Normalisation of hidden layers."""
Activation = Literal["gelu", "leaky_relu", "tanh"]
"""Activation of hidden layers; ``"leaky_relu"`` has slope 0.2."""


def make_norm(norm: Norm, width: int) -> nn.Module:
    """Return the normalisation layer for ``width`` units."""
    if norm == "layer":
        return nn.LayerNorm(width)
    return nn.BatchNorm1d(width) if norm == "batch" else nn.Identity()


def make_activation(activation: Activation) -> nn.Module:
    """Return the activation."""
    if activation == "tanh":
        return nn.Tanh()
    return nn.GELU() if activation == "gelu" else nn.LeakyReLU(0.2)


class Block(nn.Module):
    """One hidden layer: linear, then norm and activation in either order, then dropout.

    Parameters
    ----------
    n_in, n_out
        Widths.
    norm, activation
        Kinds.
    dropout_rate
        Share of units dropped in training, in ``[0, 1)``.
    norm_first
        Whether the norm comes before the activation.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        norm: Norm = "layer",
        activation: Activation = "gelu",
        dropout_rate: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = make_norm(norm, n_out)
        self.activation = make_activation(activation)
        self.dropout = Dropout(dropout_rate)
        self.norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, n_in)`` to ``(B, n_out)``; ``B`` may be 0, and 1 even with batch norm."""
        x = self.linear(x)
        if self.norm_first:
            return self.dropout(self.activation(self._normalise(x)))
        return self.dropout(self._normalise(self.activation(x)))

    def _normalise(self, x: Tensor) -> Tensor:
        # batch statistics of fewer than two rows do not exist: fall back on the running ones
        if isinstance(self.norm, nn.BatchNorm1d) and self.training and x.shape[0] < 2:
            norm = self.norm
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self.norm(x)


class MLP(nn.Module):
    """A stack of hidden layers, optionally with covariates concatenated to the input of each.

    Parameters
    ----------
    n_in
        Width of the input.
    n_hidden
        Width of every hidden layer, and of the output; or one width per layer, the last being that of the output.
    n_layers
        Number of hidden layers, at least 1; left out where ``n_hidden`` says it.
    n_cov
        Width of the covariates given to each layer; 0 for none.
    norm, activation, dropout_rate, norm_first
        As in :class:`Block`.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int | Sequence[int],
        n_layers: int = 1,
        *,
        n_cov: int = 0,
        norm: Norm = "layer",
        activation: Activation = "gelu",
        dropout_rate: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.n_cov = n_cov
        hidden = [n_hidden] * n_layers if isinstance(n_hidden, int) else list(n_hidden)
        self.n_out = hidden[-1] if hidden else n_in
        self.blocks = nn.ModuleList(
            Block(
                width + n_cov,
                n_out,
                norm=norm,
                activation=activation,
                dropout_rate=dropout_rate,
                norm_first=norm_first,
            )
            for width, n_out in pairwise([n_in, *hidden])
        )

    def forward(self, x: Tensor, cov: Tensor | None = None) -> Tensor:
        """Map ``(B, n_in)`` and covariates ``(B, n_cov)`` to ``(B, n_hidden)``."""
        for block in self.blocks:
            x = block(torch.cat([x, cov], dim=1) if self.n_cov and cov is not None else x)
        return x
