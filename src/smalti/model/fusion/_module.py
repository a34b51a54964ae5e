"""The network of FusionClustering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from smalti.losses import CCAState
from smalti.model.parts import Decoding, MosaicModule, spread_rows
from smalti.nn import MLP, ByModality, Decoder, WarmEncoder

from ._loss import FusionOutputs, fuse_units, fusion_loss

if TYPE_CHECKING:
    from scvi.module.base import LossOutput
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes

    from ._options import FusionOptions, FusionWeights


class FusionModule(MosaicModule):
    """Encoders and decoders per modality, and one head that reads the embedding of any of them and of their fusion.

    Parameters
    ----------
    sizes
        What the data look like.
    n_clusters
        Clusters; ``None`` if they are still to be counted.
    options, weights
        See :class:`~smalti.model.FusionOptions` and :class:`~smalti.model.FusionWeights`.

    Attributes
    ----------
    stage
        1, 2 or 3; set before every epoch.
    n_used
        Number of outputs of the head that are clusters.
    n_axes
        Canonical correlations that are summed.
    started
        Whether the head has been started.
    starved
        ``(max_clusters,)`` epochs for which a cluster has had hardly any cells.
    cca
        Failures and running covariances of deep CCA.
    first_clusters
        ``(n_obs,)`` cluster of every cell of the data when the head started, -1 where there is none; not stored.
    """

    decoding: Decoding
    n_used: Tensor
    n_axes: Tensor
    started: Tensor
    starved: Tensor

    def __init__(
        self, sizes: MosaicSizes, n_clusters: int | None, options: FusionOptions, weights: FusionWeights
    ) -> None:
        super().__init__(sizes, n_embed=options.n_hidden)
        self.options, self.weights = options, weights
        hidden = [options.n_hidden] * options.n_layers
        widths = {name: self.inputs.width(name) for name in self.names}
        self.encoders = ByModality(
            {
                name: WarmEncoder(width, options.n_latent, n_hidden=hidden, dropout_rate=options.dropout_rate)
                for name, width in widths.items()
            }
        )
        decoders = {
            name: Decoder(options.n_latent, width, n_cov=sizes.n_cov, skip=True, n_hidden=options.n_hidden)
            for name, width in widths.items()
        }
        self.decoding = Decoding(sizes, decoders, space="components")
        for _, decoder in self.decoding.decoders.items():
            decoder.log_scale.requires_grad_(False)  # a squared error: leading components matter most
        width = n_clusters or options.max_clusters
        self.head_body = MLP(options.n_latent, options.n_hidden)
        self.head_out = nn.Linear(options.n_hidden, width)
        self.modality_logits = nn.Parameter(torch.zeros(len(self.names)))
        self.stage = 1
        self.first_clusters: Tensor | None = None
        self._seen: dict[str, tuple[tuple[int, int] | None, int]] = {}
        self.cca = CCAState(momentum=options.momentum)
        self.register_buffer("n_used", torch.tensor(width))
        self.register_buffer("n_axes", torch.tensor(options.n_correlated or max(1, min(width - 1, 10))))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("starved", torch.zeros(width, dtype=torch.long))

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self._known("n_used")

    def _known(self, name: str) -> int:
        """Return a number that is stored with the weights; a GPU is asked again only after it was changed."""
        buffer: Tensor = getattr(self, name)
        now = (id(buffer), buffer._version)
        if self._seen.get(name, (None, 0))[0] != now:
            self._seen[name] = (now, int(buffer))
        return self._seen[name][1]

    @property
    def label_head(self) -> nn.Module:
        """What tells clusters apart."""
        return self.head_out

    def head(self, units: Tensor) -> Tensor:
        """Map unit embeddings, ``(n, m)``, to logits of the clusters, ``(n, K)``."""
        return cast("Tensor", self.head_out(self.head_body(units)))[:, : self.n_clusters]

    def modality_weights(self) -> dict[str, Tensor]:
        """Return the weight of every modality in the fusion; they sum to 1, and are learnt from stage III on."""
        logits = self.modality_logits if self.stage >= 3 else self.modality_logits.detach()
        return dict(zip(self.names, torch.softmax(logits, dim=0), strict=True))

    def inference(self, minibatch: MosaicBatch) -> dict[str, Any]:
        """Encode every modality of the minibatch: ``present`` and ``embeddings``, ``(B, m)``, zero where absent."""
        n = len(minibatch["index"])
        embeddings = {
            name: spread_rows(self.encoders[name](self.inputs.encode(minibatch, name, here)), here, n=n)
            for name, here in self.inputs.having(minibatch).items()
        }
        return {"present": self.inputs.present(minibatch), "embeddings": embeddings}

    def fused(self, out: dict[str, Any], modality: str | None = None) -> Tensor:
        """Return the fusion over the modalities of each cell, or the unit embedding of one, ``(B, m)``."""
        names = list(out["present"]) if modality is None else [modality]
        return fuse_units(
            {name: out["embeddings"][name] for name in names},
            {name: out["present"][name] for name in names},
            self.modality_weights(),
        )

    def loss(
        self,
        minibatch: MosaicBatch,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of the terms of this stage; every term is logged."""
        step = self.decoding.step(minibatch, self.inputs)
        embeddings, n = inference_outputs["embeddings"], len(minibatch["index"])
        reconstruction = {
            name: spread_rows(self.decoding.nll(step, name, embeddings[name][here], here), here, n=n)
            for name, here in self.inputs.having(minibatch).items()
        }
        outputs = FusionOutputs(
            **inference_outputs,
            pairs=minibatch["cells"].pairs,
            weights=self.modality_weights(),
            reconstruction=reconstruction,
            head=self.head,
            n_clusters=self.n_clusters,
            n_correlated=self._known("n_axes"),
            stage=self.stage,
            first=None if self.first_clusters is None else self.first_clusters[minibatch["index"].ravel()],
            cca=self.cca if self.training else CCAState(max_failures=1_000_000),
        )
        return fusion_loss(self.weights, self.options, outputs)
