"""Decoders: latent and covariates to the raw outputs of a likelihood, for all or for chosen features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import nn

from ._mlp import MLP, Activation, Norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MeanLink = Literal["log", "softmax"]
"""``"log"``: the log mean of a feature is a linear map of the last hidden layer, independent of other features;
``"softmax"``: features compete, so all of them must be decoded."""


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

    def forward(
        self,
        z: Tensor,
        cov: Tensor | None = None,
        features: Tensor | None = None,
        mask: Tensor | None = None,
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
        """
        hidden = self.body(z, cov)
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        cov_weight: Tensor | None = self.cov_weight
        if features is not None:
            weight, bias = weight[:, features], bias[:, features]
            cov_weight = None if cov_weight is None else cov_weight[:, features]
        if cov_weight is not None and cov is not None:
            hidden, weight = torch.cat([hidden, cov], dim=1), torch.cat([weight, cov_weight], dim=2)
        heads = torch.stack([F.linear(hidden, w, b) for w, b in zip(weight, bias, strict=True)])
        if self.skip_weight is not None:
            skip_weight: Tensor = self.skip_weight
            linear = F.linear(z, skip_weight if features is None else skip_weight[features])
            heads = torch.cat([heads[:1] + linear, heads[1:]])
        if self.mean_link == "softmax":
            logits = heads[0] if mask is None else heads[0].masked_fill(~mask, -1e9)
            heads = torch.cat([torch.log_softmax(logits, dim=1)[None], heads[1:]])
        return heads

    def scales(self, batch: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the log scale parameters, ``(1, S)`` or, if they are per batch, ``(B, S)``.

        Parameters
        ----------
        batch
            ``(B,)`` int64; -1 for an average batch.
        features
            ``(S,)`` int64; all by default.
        """
        scale = self.log_scale if features is None else self.log_scale[:, features]
        if self.n_scales == 1:
            return scale
        average = scale.mean(dim=0, keepdim=True)
        return torch.where((batch < 0)[:, None], average, scale[batch.clamp(min=0)])
