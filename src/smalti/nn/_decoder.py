"""Decoders: latent and covariates to the raw outputs of a likelihood, for all or for chosen features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ._mlp import MLP, Activation, Norm
from ._rows import take_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MeanLink = Literal["log", "softmax"]
"""``"log"``: the log mean of a feature is a linear map of the last hidden layer, independent of other features;
``"softmax"``: features compete, so all of them must be decoded."""


class OutputLayer(NamedTuple):
    """The last layer of a decoder at ``S`` features, as one minibatch uses it."""

    weight: Tensor
    """``(n_heads, S, n_hidden)``."""
    bias: Tensor
    """``(n_heads, S)``."""
    cov_weight: Tensor | None
    """``(n_heads, S, n_cov)``."""
    skip_weight: Tensor | None
    """``(S, n_latent)``."""
    log_scale: Tensor
    """``(n_scales, S)``."""


class Decoder(nn.Module):
    r"""Decoder of one modality.

    .. math:: h = \mathrm{MLP}(z, c), \qquad \mathrm{head}_{qg} = w_{qg}^\top h + v_{qg}^\top c + b_{qg}

    for head :math:`q`, feature :math:`g` and covariates :math:`c`, which enter every layer. The last layer can be
    evaluated for a subset of features at a cost proportional to the subset.

    Parameters
    ----------
    n_latent
        Width of the latent.
    n_features
        Number of features ``G``.
    n_heads
        Outputs per feature, as the likelihood needs.
    n_cov
        Width of the covariates; 0 for none.
    n_scales
        Rows of the per-feature scale parameter: 1, or the number of batches.
    mean_link
        Meaning of the first head.
    skip
        Whether the first head also has a linear map of the latent itself, which learns what is linear in a few steps.
    n_hidden, n_layers, norm, activation, dropout_rate, norm_first
        As in :class:`~smalti.nn.MLP`.
    """

    def __init__(
        self,
        n_latent: int,
        n_features: int,
        *,
        n_heads: int = 1,
        n_cov: int = 0,
        n_scales: int = 1,
        mean_link: MeanLink = "log",
        skip: bool = False,
        n_hidden: int | Sequence[int] = 128,
        n_layers: int = 1,
        norm: Norm = "layer",
        activation: Activation = "gelu",
        dropout_rate: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.n_features, self.n_cov, self.n_scales, self.mean_link = n_features, n_cov, n_scales, mean_link
        self.body = MLP(
            n_latent,
            n_hidden,
            n_layers,
            n_cov=n_cov,
            norm=norm,
            activation=activation,
            dropout_rate=dropout_rate,
            norm_first=norm_first,
        )
        bound = self.body.n_out**-0.5
        self.weight = nn.Parameter(torch.empty(n_heads, n_features, self.body.n_out).uniform_(-bound, bound) * 0.5)
        self.skip_weight = None
        if skip:
            bound = n_latent**-0.5
            self.skip_weight = nn.Parameter(torch.empty(n_features, n_latent).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_heads, n_features))
        self.cov_weight = nn.Parameter(torch.zeros(n_heads, n_features, n_cov)) if n_cov else None
        self.log_scale = nn.Parameter(torch.zeros(n_scales, n_features))

    def output(self, features: Tensor | None = None, *, row_gradients: bool = False) -> OutputLayer:
        """Return the last layer at some features; gather it once per minibatch, whatever is decoded with it.

        Parameters
        ----------
        features
            ``(S,)`` int64, sorted and distinct; all by default.
        row_gradients
            Whether the gradient of the large matrices has these rows only, as a sparse tensor, which
            :class:`~smalti.train.RowAdamW` understands.
        """
        if features is None:
            return OutputLayer(self.weight, self.bias, self.cov_weight, self.skip_weight, self.log_scale)
        return OutputLayer(
            take_features(self.weight, features, axis=1, row_gradients=row_gradients),
            take_features(self.bias, features, axis=1),
            None if self.cov_weight is None else take_features(self.cov_weight, features, axis=1),
            None
            if self.skip_weight is None
            else take_features(self.skip_weight, features, axis=0, row_gradients=row_gradients),
            take_features(self.log_scale, features, axis=1),
        )

    def forward(
        self,
        z: Tensor,
        cov: Tensor | None = None,
        features: Tensor | None = None,
        mask: Tensor | None = None,
        output: OutputLayer | None = None,
    ) -> Tensor:
        """Return heads ``(n_heads, B, S)``, without library size.

        Parameters
        ----------
        z
            ``(B, d)``.
        cov
            ``(B, n_cov)``.
        features
            ``(S,)`` int64; all by default. The softmax link needs all.
        mask
            ``(B, S)`` bool, measured features: with the softmax link only they share the total.
        output
            The last layer at ``features``, where it was gathered before.
        """
        hidden = self.body(z, cov)
        layer = self.output(features) if output is None else output
        with torch.autocast(z.device.type, enabled=False):  # of a log mean, half precision leaves two digits
            return self._heads(z.float(), hidden.float(), cov, layer, mask)

    def _heads(self, z: Tensor, hidden: Tensor, cov: Tensor | None, layer: OutputLayer, mask: Tensor | None) -> Tensor:
        weight, bias = layer.weight, layer.bias
        if layer.cov_weight is not None and cov is not None:
            hidden, weight = torch.cat([hidden, cov.float()], dim=1), torch.cat([weight, layer.cov_weight], dim=2)
        n_heads, n_out = bias.shape
        heads = F.linear(hidden, weight.flatten(0, 1), bias.flatten()).view(-1, n_heads, n_out).transpose(0, 1)
        if layer.skip_weight is not None:
            heads = add_to_first(heads, F.linear(z, layer.skip_weight))
        if self.mean_link == "softmax":
            logits = heads[0] if mask is None else heads[0].masked_fill(~mask, -1e9)
            heads = torch.cat([torch.log_softmax(logits, dim=1)[None], heads[1:]])
        return heads

    def scales(self, batch: Tensor, features: Tensor | None = None, output: OutputLayer | None = None) -> Tensor:
        """Return the log scale parameters, ``(1, S)`` or, if they are per batch, ``(B, S)``.

        Parameters
        ----------
        batch
            ``(B,)`` int64; -1 for an average batch.
        features
            ``(S,)`` int64; all by default.
        output
            The last layer at ``features``, where it was gathered before.
        """
        scale = (self.output(features) if output is None else output).log_scale
        if self.n_scales == 1:
            return scale
        average = scale.mean(dim=0, keepdim=True)
        return torch.where((batch < 0)[:, None], average, scale[batch.clamp(min=0)])


def add_to_first(heads: Tensor, x: Tensor) -> Tensor:
    """Return ``heads``, ``(n_heads, B, S)``, with ``x`` added to the first one; ``x`` broadcasts to ``(B, S)``."""
    if not torch.is_grad_enabled():  # heads are nobody else's
        heads[0] += x
        return heads
    return heads + x if heads.shape[0] == 1 else torch.cat([heads[:1] + x, heads[1:]])
