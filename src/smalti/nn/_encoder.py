"""Gaussian encoders: one source, one or several latent blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ._dropout import Dropout
from ._mlp import MLP, Activation, Norm
from ._warm_encoder import WarmEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SCALE_FLOOR = 1e-4
"""Smallest standard deviation of a posterior; keeps its logarithm finite."""


class Gaussian(NamedTuple):
    """A diagonal normal distribution per row."""

    mean: Tensor
    """``(B, d)``."""
    scale: Tensor
    """``(B, d)``, positive."""

    def sample(self) -> Tensor:
        """Draw one reparametrised sample per row, ``(B, d)``."""
        return self.mean + self.scale * torch.randn_like(self.scale)


class GaussianEncoder(nn.Module):
    r"""Encoders from one source to all latent blocks, :math:`q(z_j \mid x) = N(\mu_j, \mathrm{diag}\,\sigma_j^2)`.

    Parameters
    ----------
    n_in
        Width of the encoder input.
    n_latent
        Width ``d`` of a block.
    n_blocks
        Number of blocks ``K``.
    share_trunk
        One trunk with ``K`` heads (cost of one network) instead of ``K`` separate networks.
    n_hidden, n_layers, norm, activation, dropout_rate, norm_first
        As in :class:`~smalti.nn.MLP`.
    """

    def __init__(
        self,
        n_in: int,
        n_latent: int,
        n_blocks: int,
        *,
        share_trunk: bool = True,
        n_hidden: int = 128,
        n_layers: int = 1,
        norm: Norm = "layer",
        activation: Activation = "gelu",
        dropout_rate: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.n_latent, self.n_blocks = n_latent, n_blocks
        n_trunks = 1 if share_trunk else n_blocks
        self.trunks = nn.ModuleList(
            MLP(
                n_in,
                n_hidden,
                n_layers,
                norm=norm,
                activation=activation,
                dropout_rate=dropout_rate,
                norm_first=norm_first,
            )
            for _ in range(n_trunks)
        )
        width = n_blocks // n_trunks * n_latent
        self.mean_heads = nn.ModuleList(nn.Linear(n_hidden, width) for _ in range(n_trunks))
        self.scale_heads = nn.ModuleList(nn.Linear(n_hidden, width) for _ in range(n_trunks))

    def forward(self, x: Tensor) -> Gaussian:
        """Map ``(B, n_in)`` to the distribution of all blocks side by side, ``(B, K d)``."""
        hidden = [trunk(x) for trunk in self.trunks]
        mean = torch.cat([head(h) for head, h in zip(self.mean_heads, hidden, strict=True)], dim=1)
        raw = torch.cat([head(h) for head, h in zip(self.scale_heads, hidden, strict=True)], dim=1)
        return Gaussian(mean, F.softplus(raw) + SCALE_FLOOR)


class SkipEncoder(nn.Module):
    r"""Gaussian encoder of one latent, hidden layers of any widths beside a linear map of the input.

    .. math:: \mu = A\, h(x) + W x, \qquad \sigma = \mathrm{softplus}(B\, h(x)) + 10^{-4}

    Parameters
    ----------
    n_in
        Width of the input.
    n_latent
        Width of the latent.
    widths
        Widths of hidden layers.
    n_bottleneck
        Width of a last layer without norm and activation (MODIS); none by default.
    skip
        Whether there is the linear map :math:`W`. Without it a network needs many times as many steps to reconstruct
        what a principal component analysis does.
    input_dropout, dropout_rate
        Share of inputs and hidden units dropped in training.
    norm, activation
        As in :class:`~smalti.nn.MLP`.
    """

    def __init__(
        self,
        n_in: int,
        n_latent: int,
        widths: Sequence[int],
        *,
        n_bottleneck: int | None = None,
        skip: bool = True,
        input_dropout: float = 0.0,
        dropout_rate: float = 0.0,
        norm: Norm = "layer",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        self.input_dropout = Dropout(input_dropout)
        self.body = MLP(n_in, widths, norm=norm, activation=activation, dropout_rate=dropout_rate)
        width = self.body.n_out
        self.bottleneck = nn.Linear(width, n_bottleneck) if n_bottleneck else nn.Identity()
        width = n_bottleneck or width
        self.mean_head, self.scale_head = nn.Linear(width, n_latent), nn.Linear(width, n_latent)
        self.linear = WarmEncoder(n_in, n_latent, n_hidden=None) if skip else None

    def forward(self, x: Tensor) -> Gaussian:
        """Map ``(B, n_in)`` to the distribution of the latent, ``(B, n_latent)``."""
        x = self.input_dropout(x)
        hidden = self.bottleneck(self.body(x))
        mean = self.mean_head(hidden)
        if self.linear is not None:
            mean = mean + self.linear(x)
        return Gaussian(mean, F.softplus(self.scale_head(hidden)) + SCALE_FLOOR)
