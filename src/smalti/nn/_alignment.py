"""The encoder of the block in which modalities are matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ._mlp import MLP, Activation, Norm

if TYPE_CHECKING:
    from torch import Tensor


class AlignmentEncoder(nn.Module):
    r"""Linear map plus a small network, on the unit sphere.

    .. math:: a(x) = \frac{A x + f(x)}{\|A x + f(x)\|}, \qquad f(x) = V\, \mathrm{MLP}(x) + v

    :math:`A` starts from canonical correlation analysis (:meth:`warm_start`) and :math:`V` small, so training departs
    from the linear solution and needs few steps. Both see the same dropped-out input.

    Parameters
    ----------
    n_in
        Width of the encoder input.
    n_out
        Width of the embedding.
    input_dropout
        Share of input components dropped in training: the regulariser that matters most with few pairs.
    n_hidden, n_layers, norm, activation, dropout_rate
        As in :class:`~smalti.nn.MLP`.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        input_dropout: float = 0.2,
        n_hidden: int = 256,
        n_layers: int = 1,
        norm: Norm = "layer",
        activation: Activation = "gelu",
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(input_dropout)
        self.linear = nn.Linear(n_in, n_out, bias=False)
        self.body = MLP(n_in, n_hidden, n_layers, norm=norm, activation=activation, dropout_rate=dropout_rate)
        self.head = nn.Linear(n_hidden, n_out)
        with torch.no_grad():
            self.head.weight.mul_(0.1)

    @torch.no_grad()
    def warm_start(self, weight: Tensor, mean: Tensor) -> None:
        """Start at :math:`(x - m) W` with any number of columns; further outputs start at zero.

        Parameters
        ----------
        weight
            ``(n_in, k)``.
        mean
            ``(n_in,)``.
        """
        k = min(weight.shape[1], self.linear.out_features)
        self.linear.weight.zero_()
        self.linear.weight[:k] = weight[:, :k].T.to(self.linear.weight)
        self.head.bias.zero_()
        self.head.bias[:k] = -(mean @ weight[:, :k]).to(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, n_in)`` to ``(B, n_out)`` of unit length."""
        x = self.input_dropout(x)
        return F.normalize(self.linear(x) + self.head(self.body(x)), dim=1, eps=1e-8)
