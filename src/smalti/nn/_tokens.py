"""Tokens: what a transformer sees of the profile of one cell in one modality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import nn

from smalti._validate import check_choice, check_count

from ._inputs import log_normalise
from ._sparse import SparseLinear, SparseRows, sparse_matmul

if TYPE_CHECKING:
    from torch import Tensor

    from ._feature_gate import DrawnGate

TokenKind = Literal["patches", "columns", "vector"]
"""Groups of columns, a token each; a token per column; one token for all columns."""


class LogNormalised(nn.Module):
    r"""Values for tokens: counts as :math:`\log(1 + 10^4 x / N)` with their sum :math:`N`, reals as they are.

    Sparse rows stay sparse, and there is nothing to train.

    Parameters
    ----------
    counts
        Whether values are counts.
    """

    def __init__(self, *, counts: bool) -> None:
        super().__init__()
        self.counts = counts

    def forward(
        self, x: SparseRows | Tensor, batch: Tensor | None = None, gate: DrawnGate | None = None
    ) -> SparseRows | Tensor:
        """Map ``B`` rows to ``B`` rows, through gates if any; ``batch`` changes nothing, other input layers need it."""
        x = log_normalise(x) if self.counts else x
        return x if gate is None else gate(x)


class PatchTokens(nn.Module):
    r"""A token per group of neighbouring columns, :math:`t_g = x_g W_g + b_g`.

    Sparse rows stay sparse: the work is proportional to the stored values.

    Parameters
    ----------
    n_in
        Number of columns.
    width
        Width of a token.
    n_tokens
        Number of groups, as equal in size as can be; fewer if there are fewer columns.
    """

    group: Tensor
    slot: Tensor

    def __init__(self, n_in: int, width: int, n_tokens: int) -> None:
        super().__init__()
        self.n_tokens = min(check_count(n_tokens, "n_tokens"), n_in)
        group = torch.arange(n_in) * self.n_tokens // n_in
        starts = torch.searchsorted(group, torch.arange(self.n_tokens))
        largest = int(torch.bincount(group).max())
        # a slot is a place in the groups padded to equal size, and a row of the weights
        self.register_buffer("group", group, persistent=False)
        self.register_buffer("slot", torch.arange(n_in) - starts[group] + group * largest, persistent=False)
        bound = largest**-0.5
        self.weight = nn.Parameter(torch.empty(self.n_tokens, largest, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.randn(self.n_tokens, width) * 0.02)

    def forward(self, x: SparseRows | Tensor) -> Tensor:
        """Map ``B`` rows to ``(B, T, width)``."""
        n, largest, width = self.weight.shape
        if isinstance(x, SparseRows):
            bag = x.row_index() * n + self.group[x.indices]
            order = torch.argsort(bag, stable=True)  # columns of a row may be stored in any order
            counts = bag.new_zeros(x.n_rows * n).index_add_(0, bag, torch.ones_like(bag))
            indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            rows = SparseRows(indptr, self.slot[x.indices][order], x.values[order])
            return sparse_matmul(rows, self.weight.view(n * largest, width)).view(x.n_rows, n, width) + self.bias
        padded = x.new_zeros(x.shape[0], n * largest)
        padded[:, self.slot] = x
        return torch.einsum("btg,tgd->btd", padded.view(-1, n, largest), self.weight) + self.bias

    def token_mask(self, measured: Tensor) -> Tensor:
        """Return which tokens have a measured column, ``(B, T)`` bool, given which columns have, ``(B, n_in)`` bool."""
        out = measured.new_zeros(measured.shape[0], self.n_tokens, dtype=torch.int64)
        return out.index_add_(1, self.group, measured.long()) > 0


class ColumnTokens(nn.Module):
    r"""A token per column, :math:`t_j = \mathrm{LN}(\mathrm{MLP}(x_j)) + e_j` :cite:p:`Bjorgaard2024`.

    The network is the same for all columns; :math:`e_j` tells them apart. Values and identities start at the same
    scale (in the authors' code an identity is 4 % of a token). For a few hundred columns at most: attention
    costs the square of their number.

    Parameters
    ----------
    n_in
        Number of columns, and of tokens.
    width
        Width of a token.
    """

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.n_tokens = n_in
        self.body = nn.Sequential(
            nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width, bias=False)
        )
        self.identity = nn.Parameter(torch.randn(n_in, width))

    def forward(self, x: SparseRows | Tensor) -> Tensor:
        """Map ``B`` rows to ``(B, n_in, width)``."""
        if isinstance(x, SparseRows):
            dense = x.values.new_zeros(x.n_rows, self.n_tokens)
            x = dense.index_put_((x.row_index(), x.indices), x.values, accumulate=True)
        return cast("Tensor", self.body(x[:, :, None])) + self.identity

    def token_mask(self, measured: Tensor) -> Tensor:
        """Return ``measured``, ``(B, n_in)`` bool: a token is a column."""
        return measured


class VectorToken(nn.Module):
    """One token for all columns, from a small network.

    Parameters
    ----------
    n_in
        Number of columns.
    width
        Width of the token and of the hidden layer.
    """

    n_tokens = 1

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.first = SparseLinear(n_in, width)
        self.body = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: SparseRows | Tensor) -> Tensor:
        """Map ``B`` rows to ``(B, 1, width)``."""
        return cast("Tensor", self.body(self.first(x)))[:, None]

    def token_mask(self, measured: Tensor) -> Tensor:
        """Return ones, ``(B, 1)`` bool: the token stands for whatever was measured."""
        return measured.new_ones(measured.shape[0], 1)


Tokens = PatchTokens | ColumnTokens | VectorToken


def make_tokens(kind: TokenKind, n_in: int, width: int, *, n_tokens: int = 16) -> Tokens:
    """Return the token encoder of a modality with ``n_in`` columns; ``n_tokens`` matters for ``"patches"`` only."""
    check_choice(kind, get_args(TokenKind), "tokens")
    if kind == "patches":
        return PatchTokens(n_in, width, n_tokens)
    return ColumnTokens(n_in, width) if kind == "columns" else VectorToken(n_in, width)


def activation_bytes(n_tokens: int, width: int, n_layers: int, batch_size: int) -> int:
    """Estimate the memory that training keeps for the backward pass of a transformer, in bytes.

    A layer keeps about 20 numbers of 4 bytes per token and unit of width: norms, queries, keys, values, output of the
    attention, and the hidden layer of the feed-forward part.
    """
    return math.ceil(4 * 20 * n_tokens * width * n_layers * batch_size)
