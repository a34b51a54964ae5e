"""The network of MCA."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from scvi.module.base import LossOutput, auto_move_data
from torch import nn

from smalti.data import COUNT_LIKELIHOODS, INDEX
from smalti.losses import FAMILIES
from smalti.model.base import MosaicInputs, MosaicModule
from smalti.nn import ByModality, ChannelTransformer, Decoder, LinearSkip, LogNormalised, SparseRows, make_tokens

from ._loss import mca_loss
from ._options import make_channels

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor

    from smalti.model.base import MosaicSizes
    from smalti.nn import Stream

    from ._options import MCAOptions, MCAWeights, Variant

INITIAL_LOG_SCALE = math.log(1 / 0.07)
"""Log of the inverse temperature at the start: that of the authors' code, and of CLIP."""


class MCAModule(MosaicModule):
    """Tokens of every modality, a transformer with fusion channels, and decoders if asked for.

    Parameters
    ----------
    sizes
        What the data look like.
    variant
        ``"mca"`` or ``"mma"``.
    options, weights
        See :class:`~smalti.model.MCAOptions` and :class:`~smalti.model.MCAWeights`.
    """

    def __init__(self, sizes: MosaicSizes, variant: Variant, options: MCAOptions, weights: MCAWeights) -> None:
        super().__init__()
        self.sizes, self.variant, self.options, self.weights = sizes, variant, options, weights
        self.names = list(sizes.modalities)
        self.channels = make_channels(len(self.names), variant, options.cardinalities)
        self.inputs = MosaicInputs(sizes)
        layers = {name: self.inputs.layers[name] for name in self.names}
        widths = {name: self.inputs.width(name) for name in self.names}
        for name, size in sizes.modalities.items():
            if size.input_kind == "counts":  # tokens are the first layer, so the values themselves are handed on
                layers[name], widths[name] = LogNormalised(counts=size.likelihood in COUNT_LIKELIHOODS), size.n_features
        self.inputs.layers = ByModality(layers)
        self.tokens = ByModality(
            {
                name: make_tokens(options.tokens_of(name), widths[name], options.n_latent, n_tokens=options.n_tokens)
                for name in self.names
            }
        )
        self.skips: ByModality[LinearSkip] | None = None
        if options.skip:
            self.skips = ByModality({name: LinearSkip(widths[name], options.n_latent) for name in self.names})
        self.input_dropout = nn.Dropout(options.input_dropout)
        self.transformer = ChannelTransformer(
            len(self.names),
            self.channels,
            options.n_latent,
            n_layers=options.n_layers,
            n_heads=options.n_heads,
            n_fusion=options.n_fusion,
            dropout_rate=options.dropout_rate,
            wiring=options.wiring,
            readout_dropout=options.readout_dropout,
        )
        self.families = {name: FAMILIES[size.likelihood] for name, size in sizes.modalities.items()}
        self.decoders: ByModality[Decoder] | None = None
        if weights.reconstruction > 0:
            self.decoders = ByModality({name: self._decoder(name) for name in self.names})
        trained = bool(weights.rows(variant))
        self.log_inverse_temperature = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE), requires_grad=trained)

    def _decoder(self, name: str) -> Decoder:
        decoder = Decoder(
            self.options.n_latent,
            self.sizes.modalities[name].n_features,
            n_heads=self.families[name].n_heads,
            n_cov=self.inputs.n_cov,
            n_hidden=self.options.n_hidden,
            dropout_rate=self.options.dropout_rate,
        )
        decoder.log_scale.requires_grad_(self.families[name].uses_scale)
        return decoder

    @torch.no_grad()
    def initialise(self, rates: dict[str, Tensor]) -> None:
        """Start decoders at the mean of every feature, ``(G,)`` by modality (share of the library for counts)."""
        for name, rate in rates.items():
            if self.decoders is not None:
                self.decoders[name].bias.copy_(self.families[name].initial_head(rate))

    def channel(self, names: Collection[str]) -> int | None:
        """Return the number of the channel over the modalities ``names``, or ``None`` if there is none."""
        wanted = tuple(sorted(self.names.index(name) for name in set(names)))
        return self.channels.index(wanted) if wanted in self.channels else None

    def _get_inference_input(self, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"tensors": tensors}

    def _get_generative_input(self, tensors: dict[str, Any], inference_outputs: dict[str, Any]) -> dict[str, Any]:
        return {"inferred": inference_outputs}

    def encode(self, tensors: dict[str, Any], keep: Tensor | None = None) -> tuple[list[Stream | None], Tensor]:
        """Run the tokens of every modality of the batch for the cells that have it.

        Parameters
        ----------
        tensors
            The minibatch.
        keep
            ``(B, M)`` bool, modalities to look at; all by default.

        Returns
        -------
        A stream per modality, ``None`` for those that the data do not have, and the cells of each, ``(B, M)`` bool.
        """
        streams: list[Stream | None] = [None] * len(self.names)
        present, where = self.inputs.present(tensors), self.presence(tensors)
        there, where = where, where if keep is None else where & keep
        for i, name in enumerate(self.names):
            if name not in present:
                continue
            x = self.inputs.encode(tensors, name, present[name])
            if isinstance(x, SparseRows):
                x = x.map_values(self.input_dropout(x.values))
            else:
                x = self.input_dropout(x)
            skip = None if self.skips is None else self.skips[name](x)
            parts = [self.tokens[name](x), self._token_mask(tensors, name, present[name]), skip]
            if keep is not None:
                parts = [None if part is None else part[where[there[:, i], i]] for part in parts]
            streams[i] = self.transformer.encode(i, *parts)
        return streams, where

    def presence(self, tensors: dict[str, Any]) -> Tensor:
        """Return ``(B, M)`` bool, false for modalities that the data do not have."""
        present = self.inputs.present(tensors)
        nobody = torch.zeros_like(next(iter(present.values())))
        return torch.stack([present.get(name, nobody) for name in self.names], dim=1)

    def _token_mask(self, tensors: dict[str, Any], name: str, here: Tensor) -> Tensor | None:
        """Return which tokens have a measured feature; components of fixed transforms know the mask themselves."""
        if self.sizes.modalities[name].input_kind not in ("counts", "scaled"):
            return None
        measured = self.inputs.feature_mask(name, self.inputs.batch(tensors)[here], None)
        return None if measured is None else self.tokens[name].token_mask(measured)

    @auto_move_data
    def inference(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Embed every modality and every channel.

        Returns
        -------
        ``unimodal``: ``(B, M, d)``; ``fused``: ``(B, C, d)``, the root first; ``present``: ``(B, M)`` bool;
        ``partial``, with decoders: root channel over a random part of what each cell has, ``(B, d)``. Rows of what is
        absent are zero.
        """
        keep, rate = None, self.options.modality_dropout
        if self.training and rate > 0:
            here = self.presence(tensors)
            keep = some_of(here, torch.rand(here.shape, device=here.device) >= rate)
        streams, where = self.encode(tensors, keep)
        out = {
            "unimodal": self.place(self.transformer.pooled(streams, where)),
            "fused": self.place(self.transformer.fuse(streams, where)),
            "present": where,
        }
        if self.decoders is not None:
            part = self._part(tensors, where)
            out["partial"] = self.place(self.transformer.fuse(streams, where, part, channels=[0]))[:, 0]
        return out

    def _part(self, tensors: dict[str, Any], where: Tensor) -> Tensor:
        """Choose what decoders see: in training at random, in validation all but one modality, always the same."""
        if self.training:
            return some_of(where, torch.rand(where.shape, device=where.device) < 0.5)
        left_out = F.one_hot(tensors[INDEX] % len(self.names), len(self.names)).bool()
        return torch.where((where & ~left_out).any(1, keepdim=True), where & ~left_out, where)

    @auto_move_data
    def generative(self, inferred: dict[str, Any]) -> dict[str, Any]:
        """Do nothing: the loss decodes the features it looks at."""
        return {}

    def place(self, x: Tensor) -> Tensor:
        """Put embeddings on the unit sphere if ``normalize``."""
        return F.normalize(x.float(), dim=-1, eps=1e-8) if self.options.normalize else x.float()

    def embed(self, tensors: dict[str, Any], channel: Sequence[str] | str, only: str | None = None) -> Tensor:
        """Embed one minibatch, ``(B, d)``; NaN where a cell has nothing that the channel reads.

        Parameters
        ----------
        tensors
            The minibatch.
        channel
            ``"root"``, ``"observed"`` or the modalities of a channel.
        only
            Modality to look at; all by default.
        """
        keep = self.presence(tensors)
        if only is not None:
            keep = keep & torch.tensor([name == only for name in self.names], device=keep.device)
        streams, where = self.encode(tensors, None if only is None else keep)
        if channel == "observed":
            z = self._observed(streams, where)
        else:
            z = self._fused(streams, where, self.names if channel == "root" else channel)
        at = [i for i, name in enumerate(self.names) if isinstance(channel, str) or name in channel]
        return torch.where(where[:, at].any(1)[:, None], self.place(z), torch.nan)

    def _fused(self, streams: list[Stream | None], where: Tensor, names: Collection[str]) -> Tensor:
        """Return the embedding of a channel; that of a single modality is its own."""
        number = self.channel(names)
        if number is None:
            return self.transformer.pooled(streams, where)[:, self.names.index(next(iter(names)))]
        return self.transformer.fuse(streams, where, channels=[number])[:, 0]

    def _observed(self, streams: list[Stream | None], where: Tensor) -> Tensor:
        """Return the embedding of the channel of exactly what each cell has, else of the root."""
        out = where.new_zeros(where.shape[0], self.options.n_latent, dtype=torch.float32)
        for pattern in torch.unique(where, dim=0):
            rows = (where == pattern).all(1)
            names = [name for name, here in zip(self.names, pattern.tolist(), strict=True) if here]
            known = len(names) == 1 or self.channel(names) is not None
            found = self._fused(streams, where, names if known else self.names)
            out = torch.where(rows[:, None], found.float(), out)
        return out

    def decode(
        self, z: Tensor, name: str, codes: Tensor, log_library: Tensor | None, features: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Decode embeddings into modality ``name``.

        Parameters
        ----------
        z
            ``(B, d)`` embeddings.
        name
            Modality to predict.
        codes
            ``(B,)`` batch codes, -1 for an average batch.
        log_library
            ``(B,)`` log library sizes, for likelihoods that have one.
        features
            ``(S,)`` features to decode; all by default.

        Returns
        -------
        Heads ``(n_heads, B, S)`` with the library size, and log scales.
        """
        if self.decoders is None:
            raise RuntimeError("The model has no decoders: its reconstruction weight is 0.")
        decoder = self.decoders[name]
        if self.options.normalize:  # units of unit vectors are small
            z = z * self.options.n_latent**0.5
        heads = decoder(z, self.inputs.covariates(codes), features)
        if log_library is not None:
            heads = torch.cat([heads[:1] + log_library[None, :, None], heads[1:]])
        return heads, decoder.scales(codes, features)

    def loss(
        self,
        tensors: dict[str, Any],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms; every term is logged."""
        return mca_loss(self, tensors, inference_outputs)

    @torch.inference_mode()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not offered: use ``translate`` of the model, which decodes expectations."""
        raise NotImplementedError("MCA does not draw samples of the data; `model.translate` returns expected values.")


def some_of(where: Tensor, chosen: Tensor) -> Tensor:
    """Return ``where & chosen``, ``(B, M)`` bool, but leave one modality at random to cells that would have none."""
    left = where & chosen
    spare = torch.rand(where.shape, device=where.device).masked_fill(~where, -1.0).argmax(dim=1)
    lonely = where.any(1) & ~left.any(1)
    return left | (F.one_hot(spare, where.shape[1]).bool() & lonely[:, None])
