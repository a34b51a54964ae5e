"""The network of MCA."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from smalti.data import COUNT_LIKELIHOODS
from smalti.losses import FAMILIES, gather_rows
from smalti.model.parts import Decoding, MosaicModule
from smalti.nn import (
    ByModality,
    ChannelTransformer,
    Decoder,
    Dropout,
    EverythingAtOnce,
    LogNormalised,
    SparseRows,
    WarmEncoder,
    make_tokens,
)

from ._loss import MCAOutputs, mca_loss
from ._options import make_channels

if TYPE_CHECKING:
    from collections.abc import Collection

    from scvi.module.base import LossOutput
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes, Step
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
        ``"mca"``, ``"mma"`` or ``"eao"``.
    options, weights
        See :class:`~smalti.model.MCAOptions` and :class:`~smalti.model.MCAWeights`.
    """

    def __init__(self, sizes: MosaicSizes, variant: Variant, options: MCAOptions, weights: MCAWeights) -> None:
        super().__init__(sizes)
        self.variant, self.options, self.weights = variant, options, weights
        self.channels = make_channels(len(self.names), variant, options.cardinalities)
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
        self.skips: ByModality[WarmEncoder] | None = None
        if options.skip:
            self.skips = ByModality(
                {name: WarmEncoder(widths[name], options.n_latent, n_hidden=None, sparse=True) for name in self.names}
            )
        self.input_dropout = Dropout(options.input_dropout)
        make = EverythingAtOnce if variant == "eao" else partial(ChannelTransformer, n_fusion=options.n_fusion)
        self.transformer = make(
            len(self.names),
            self.channels,
            options.n_latent,
            n_layers=options.n_layers,
            n_heads=options.n_heads,
            dropout_rate=options.dropout_rate,
            wiring=options.wiring,
            readout_dropout=options.readout_dropout,
        )
        if weights.reconstruction > 0:
            decoders = {name: self._decoder(name) for name in self.names}
            self.decoding = Decoding(sizes, decoders, n_features_per_step=options.n_features_per_step)
        trained = bool(weights.rows(variant))
        self.log_inverse_temperature = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE), requires_grad=trained)

    def _decoder(self, name: str) -> Decoder:
        size = self.sizes.modalities[name]
        return Decoder(
            self.options.n_latent,
            size.n_features,
            n_heads=FAMILIES[size.likelihood].n_heads,
            n_cov=self.sizes.n_cov,
            n_hidden=self.options.n_hidden,
            dropout_rate=self.options.dropout_rate,
        )

    def channel(self, names: Collection[str]) -> int | None:
        """Return the number of the channel over the modalities ``names``, or ``None`` if there is none."""
        wanted = tuple(sorted(self.names.index(name) for name in set(names)))
        return self.channels.index(wanted) if wanted in self.channels else None

    def encode(self, minibatch: MosaicBatch, keep: Tensor | None = None) -> tuple[list[Stream | None], Tensor]:
        """Run the tokens of every modality of the batch for the cells that have it.

        Parameters
        ----------
        minibatch
            The minibatch.
        keep
            ``(B, M)`` bool, modalities to look at; all by default.

        Returns
        -------
        A stream per modality, ``None`` for those that the data do not have, and the cells of each, ``(B, M)`` bool.
        """
        streams: list[Stream | None] = [None] * len(self.names)
        cells, where = self.inputs.having(minibatch), self.measured(minibatch)
        there, where = where, where if keep is None else where & keep
        for i, name in enumerate(self.names):
            if name not in cells:
                continue
            x = self.inputs.encode(minibatch, name, cells[name])
            if isinstance(x, SparseRows):
                x = x.map_values(self.input_dropout(x.values))
            else:
                x = self.input_dropout(x)
            skip = None if self.skips is None else self.skips[name](x)
            parts = [self.tokens[name](x), self._token_mask(minibatch, name, cells[name]), skip]
            if keep is not None:
                parts = [None if part is None else part[where[there[:, i], i]] for part in parts]
            streams[i] = self.transformer.encode(i, *parts)
        return streams, where

    def measured(self, minibatch: MosaicBatch) -> Tensor:
        """Return ``(B, M)`` bool, false for modalities that the data do not have."""
        present = self.inputs.present(minibatch)
        nobody = torch.zeros_like(next(iter(present.values())))
        return torch.stack([present.get(name, nobody) for name in self.names], dim=1)

    def _token_mask(self, minibatch: MosaicBatch, name: str, here: Tensor) -> Tensor | None:
        """Return which tokens have a measured feature; components of fixed transforms know the mask themselves."""
        if self.sizes.modalities[name].input_kind not in ("counts", "scaled"):
            return None
        measured = self.inputs.feature_mask(name, self.inputs.batch(minibatch)[here], None)
        return None if measured is None else self.tokens[name].token_mask(measured)

    def inference(self, minibatch: MosaicBatch) -> dict[str, Any]:
        """Embed every modality and every channel.

        Returns
        -------
        ``unimodal``: ``(B, M, d)``; ``fused``: ``(B, C, d)``, the root first; ``patterns``: positions of the cells that
        have exactly some modalities, ``None`` if some were dropped; ``present``: name to ``(B,)`` bool, what
        the model looked at; ``partial``: root channel over a random part of what each cell has, ``(B, d)``, ``None``
        without decoders. Rows of what is absent are zero.
        """
        keep, rate = None, self.options.modality_dropout
        if self.training and rate > 0:
            here = self.measured(minibatch)
            keep = keep_one(here, torch.rand(here.shape, device=here.device) >= rate)
        streams, where = self.encode(minibatch, keep)
        cells, patterns = (None, None) if keep is not None else self._positions(minibatch)
        out = {
            "unimodal": self.normalise(self.transformer.pooled(streams, where, cells)),
            "fused": self.normalise(self.transformer.fuse(streams, where, patterns=patterns)),
            "patterns": patterns,
            "present": {name: where[:, i] for i, name in enumerate(self.names)},
            "partial": None,
        }
        if self.decoding is not None:
            part = self._visible_part(minibatch, where)
            out["partial"] = self.normalise(self.transformer.fuse(streams, where, part, channels=[0]))[:, 0]
        return out

    def _positions(self, minibatch: MosaicBatch) -> tuple[dict[int, Tensor], dict[tuple[int, ...], Tensor]]:
        """Return the cells of each modality, and of each presence pattern, by numbers of modalities."""
        having, patterns = self.inputs.having(minibatch), minibatch["cells"].patterns
        cells = {self.names.index(name): at for name, at in having.items()}
        return cells, {tuple(sorted(self.names.index(n) for n in names)): at for names, at in patterns.items()}

    def _visible_part(self, minibatch: MosaicBatch, where: Tensor) -> Tensor:
        """Choose what decoders see: in training at random, in validation all but one modality, always the same."""
        if self.training:
            return keep_one(where, torch.rand(where.shape, device=where.device) < 0.5)
        left_out = (minibatch["index"] % len(self.names))[:, None] == torch.arange(len(self.names), device=where.device)
        return torch.where((where & ~left_out).any(1, keepdim=True), where & ~left_out, where)

    def normalise(self, x: Tensor) -> Tensor:
        """Put embeddings on the unit sphere if ``normalize``."""
        return F.normalize(x.float(), dim=-1, eps=1e-8) if self.options.normalize else x.float()

    def embed(self, minibatch: MosaicBatch, channel: Collection[str] | str, only: str | None = None) -> Tensor:
        """Embed one minibatch, ``(B, d)``; NaN where a cell has nothing that the channel reads.

        Parameters
        ----------
        minibatch
            The minibatch.
        channel
            ``"root"``, ``"observed"`` or the modalities of a channel.
        only
            Modality to look at; all by default.
        """
        keep = self.measured(minibatch)
        if only is not None:
            keep = keep & torch.tensor([name == only for name in self.names], device=keep.device)
        streams, where = self.encode(minibatch, None if only is None else keep)
        if channel == "observed":
            z = self._observed(streams, where)
        else:
            z = self._fused(streams, where, self.names if channel == "root" else channel)
        at = [i for i, name in enumerate(self.names) if isinstance(channel, str) or name in channel]
        return torch.where(where[:, at].any(1)[:, None], self.normalise(z), torch.nan)

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

    def decoded_from(self, z: Tensor) -> Tensor:
        """Return embeddings in the units that decoders expect: those of unit vectors are small."""
        return z * self.options.n_latent**0.5 if self.options.normalize else z

    def reconstruct(self, decoding: Decoding, step: Step, name: str, z: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of decoding one modality from embeddings ``(B, d)``, of the cells ``rows``."""
        return decoding.nll(step, name, self.decoded_from(z[rows]), rows)

    def loss(
        self,
        minibatch: MosaicBatch,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms; every term is logged.

        In distributed training the contrastive rows see the embeddings of all processes; validation batches stay
        apart.
        """
        present = inference_outputs["present"]
        unimodal, fused = inference_outputs["unimodal"], inference_outputs["fused"]
        where = torch.stack(list(present.values()), dim=1)
        if self.training:
            unimodal, fused, where = gather_rows(unimodal), gather_rows(fused), gather_rows(where)
        outputs = MCAOutputs(
            unimodal=unimodal,
            fused=fused,
            present=dict(zip(self.names, where.unbind(1), strict=True)),
            measured=self.inputs.present(minibatch),
            partial=inference_outputs["partial"],
            channels=self.channels,
            log_inverse_temperature=self.log_inverse_temperature,
            gates=self.gate_price(),
            patterns=inference_outputs["patterns"] if len(where) == len(minibatch["index"]) else None,
        )
        reconstruct = None
        if self.decoding is not None:
            reconstruct = partial(self.reconstruct, self.decoding, self.decoding.step(minibatch, self.inputs))

        return mca_loss(self.weights, self.options, outputs, reconstruct, rows=self.weights.rows(self.variant))


def keep_one(where: Tensor, chosen: Tensor) -> Tensor:
    """Return ``where & chosen``, ``(B, M)`` bool, but leave one modality at random to cells that would have none."""
    left = where & chosen
    spare = torch.rand(where.shape, device=where.device).masked_fill(~where, -1.0).argmax(dim=1)
    lonely = where.any(1) & ~left.any(1)
    return left | ((spare[:, None] == torch.arange(where.shape[1], device=where.device)) & lonely[:, None])
