"""The one encoder that starts from a closed form: a linear map with a small network beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import nn

from ._dropout import Dropout
from ._mlp import MLP, Activation, Block, Norm
from ._sparse import SparseLinear, SparseRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

HEAD_START = 0.1
"""Size of the network's share at the start, relative to the usual initial weights."""


class WarmEncoder(nn.Module):
    r"""Linear map of the encoder input, which may start from a closed form, plus what a network adds to it.

    .. math:: a(x) = A x + b + V\, \mathrm{MLP}(x), \qquad \text{divided by its length if } \mathtt{unit}

    :math:`A` can start from canonical correlation analysis (:meth:`warm_start`) and :math:`V` starts small, so that
    training departs from the linear solution and needs few steps. Both see the same dropped-out input.

    Parameters
    ----------
    n_in
        Width of the encoder input.
    n_out
        Width of the embedding.
    n_hidden, n_layers
        Hidden layers of the network, as in :class:`~smalti.nn.MLP`; ``None`` for the linear map alone.
    unit
        Whether rows are put on the unit sphere.
    sparse
        Whether the input may be :class:`~smalti.nn.SparseRows`, which only a map without a network can read.
    input_dropout
        Share of input columns dropped in training: the regulariser that matters most with few pairs.
    norm, activation, dropout_rate
        As in :class:`~smalti.nn.MLP`.

    Raises
    ------
    ValueError
        If sparse input is wanted for a network.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_hidden: int | Sequence[int] | None = 256,
        n_layers: int = 1,
        unit: bool = False,
        sparse: bool = False,
        input_dropout: float = 0.0,
        norm: Norm = "layer",
        activation: Activation = "gelu",
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if sparse and n_hidden is not None:
            raise ValueError("Sparse rows are read by a linear map alone: pass `n_hidden=None`, or dense input.")
        self.unit, self.n_out = unit, n_out
        self.input_dropout = Dropout(input_dropout)
        self.linear = SparseLinear(n_in, n_out) if sparse else nn.Linear(n_in, n_out, bias=n_hidden is None)
        self.body: MLP | None = None
        self.head: nn.Linear | None = None
        if n_hidden is not None:
            self.body = MLP(n_in, n_hidden, n_layers, norm=norm, activation=activation, dropout_rate=dropout_rate)
            self.head = nn.Linear(self.body.n_out, n_out)
            with torch.no_grad():
                self.head.weight.mul_(HEAD_START)

    @property
    def bias(self) -> Tensor:
        """The constant part, ``(n_out,)``: that of the network's head, or of the linear map where there is none."""
        layer = self.linear if self.head is None else self.head
        return layer.bias

    @torch.no_grad()
    def warm_start(self, weight: Tensor, mean: Tensor) -> None:
        """Start at :math:`(x - m) W` with any number of columns; further outputs start at zero.

        Weights that are not finite are left as they are, for whoever checks losses.

        Parameters
        ----------
        weight
            ``(n_in, k)``.
        mean
            ``(n_in,)``.
        """
        if not bool(torch.isfinite(self.linear.weight).all()):
            return
        k = min(weight.shape[1], self.n_out)
        # SparseLinear stores inputs by rows, nn.Linear by columns
        table = self.linear.weight if isinstance(self.linear, SparseLinear) else self.linear.weight.T
        table.zero_()
        table[:, :k] = weight[:, :k].to(table)
        self.bias.zero_()
        self.bias[:k] = -(mean @ weight[:, :k]).to(self.bias)

    def forward(self, x: Tensor | SparseRows) -> Tensor:
        """Map ``(B, n_in)`` to ``(B, n_out)``."""
        if isinstance(x, SparseRows):
            z = self.linear(x.map_values(self.input_dropout(x.values)))
        else:
            x = self.input_dropout(x)
            z = self.linear(x)
            if self.body is not None and self.head is not None:
                z = z + self.head(self.body(x))
        return F.normalize(z.float(), dim=1, eps=1e-8) if self.unit else z


def run_together(encoders: Sequence[WarmEncoder], x: Tensor) -> Tensor:
    """Return what encoders of one shape make of the same input, ``(B, J, n_out)``, in fewer operations than one by one.

    Parameters
    ----------
    encoders
        ``J`` encoders that differ in nothing but their weights, with one hidden layer and layer norm.
    x
        ``(B, n_in)``.
    """
    first = encoders[0]
    if len(encoders) == 1 or first.body is None or first.head is None or not _is_plain(first.body):
        return torch.stack([encoder(x) for encoder in encoders], dim=1)
    blocks = [cast("Block", cast("MLP", encoder.body).blocks[0]) for encoder in encoders]
    heads = [cast("nn.Linear", encoder.head) for encoder in encoders]
    dropped = first.input_dropout(x.expand(len(encoders), -1, -1))
    both = torch.stack([torch.cat([e.linear.weight, b.linear.weight]) for e, b in zip(encoders, blocks, strict=True)])
    linear, hidden = torch.split(torch.bmm(dropped, both.mT), [first.n_out, both.shape[1] - first.n_out], dim=2)
    norms = [cast("nn.LayerNorm", block.norm) for block in blocks]
    hidden = F.layer_norm(hidden + _rows([b.linear.bias for b in blocks]), hidden.shape[2:], eps=norms[0].eps)
    hidden = hidden * _rows([norm.weight for norm in norms]) + _rows([norm.bias for norm in norms])
    hidden = blocks[0].dropout(blocks[0].activation(hidden))
    weight = torch.stack([head.weight for head in heads])
    z = linear + torch.baddbmm(_rows([head.bias for head in heads]), hidden, weight.mT)
    z = z.transpose(0, 1)
    return F.normalize(z.float(), dim=2, eps=1e-8) if first.unit else z


def _is_plain(body: MLP) -> bool:
    block = cast("Block", body.blocks[0])
    return len(body.blocks) == 1 and block.norm_first and isinstance(block.norm, nn.LayerNorm)


def _rows(vectors: Sequence[Tensor]) -> Tensor:
    """Return vectors as ``(J, 1, n)``."""
    return torch.stack(list(vectors))[:, None]
