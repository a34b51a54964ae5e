"""The network of CLUE."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from smalti.losses import FAMILIES
from smalti.model.parts import Decoding, MosaicModule, spread_rows
from smalti.nn import (
    ByModality,
    Decoder,
    Discriminator,
    Gaussian,
    GaussianEncoder,
    fuse,
    masked_mean,
)

from ._aligned import AlignedBlock
from ._loss import CLUEOutputs, Profiles, clue_loss, discriminator_loss

if TYPE_CHECKING:
    from scvi.module.base import LossOutput
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes, Step

    from ._options import CLUEOptions, CLUEWeights


class CLUEModule(MosaicModule):
    """Encoders from every modality to every block, a decoder per block, and a block in which modalities are matched.

    Parameters
    ----------
    sizes
        What the data look like.
    options, weights
        See :class:`~smalti.model.CLUEOptions` and :class:`~smalti.model.CLUEWeights`.

    Attributes
    ----------
    balance
        ``(n_obs, M)`` weights of profiles in the modality game, or ``None``; set before training.
    """

    decoding: Decoding

    def __init__(self, sizes: MosaicSizes, options: CLUEOptions, weights: CLUEWeights) -> None:
        super().__init__(sizes, n_embed=options.n_hidden)
        self.options, self.weights = options, weights
        names = self.names
        hidden: dict[str, Any] = {
            "n_hidden": options.n_hidden,
            "n_layers": options.n_layers,
            "norm": options.norm,
            "activation": options.activation,
            "dropout_rate": options.dropout_rate,
            "norm_first": options.norm_first,
        }
        self.encoders = ByModality(
            {
                name: GaussianEncoder(
                    self.inputs.width(name), options.n_latent, len(names), share_trunk=options.share_trunk, **hidden
                )
                for name in names
            }
        )
        families = {name: FAMILIES[size.likelihood] for name, size in sizes.modalities.items()}
        decoders = {
            name: Decoder(
                options.n_latent,
                size.n_features,
                n_heads=families[name].n_heads,
                n_cov=sizes.n_cov,
                n_scales=sizes.n_batch if options.batch_dispersion else 1,
                mean_link=options.mean_link if families[name].uses_library else "log",
                **hidden,
            )
            for name, size in sizes.modalities.items()
        }
        self.decoding = Decoding(sizes, decoders, n_features_per_step=options.n_features_per_step)
        self.log_inverse_temperature = nn.Parameter(torch.tensor(2.3), requires_grad=weights.contrastive > 0)
        self.aligners: AlignedBlock | None = None
        if weights.contrastive > 0:
            self.aligners = AlignedBlock({name: self.inputs.width(name) for name in names}, options)
        width = options.n_latent * len(names)
        self.discriminator: Discriminator | None = None
        if weights.adversarial > 0:
            self.discriminator = Discriminator(
                width, len(names), n_hidden=options.n_hidden, spectral=options.spectral_norm
            )
        self.label_head = nn.Linear(width, sizes.n_labels) if sizes.n_labels and weights.label > 0 else None
        self.balance: Tensor | None = None

    def inference(self, minibatch: MosaicBatch) -> dict[str, Any]:
        """Encode every modality that the minibatch has.

        Returns
        -------
        ``latents``: name to :class:`~smalti.nn.Gaussian`, all ``K`` blocks side by side, ``(B, K d)``;
        ``aligned``: if the contrastive term is on, name to unit vectors of each alignment encoder,
        ``(B, n_aligners, n_align)``, and in evaluation with linear CCA's as the last; ``present``: name to ``(B,)``
        bool; ``cells``: the same as positions. Rows of absent cells are zero (scale 1).
        """
        present, cells = self.inputs.present(minibatch), minibatch["cells"]
        latents, aligned, n = {}, {}, len(minibatch["present"])
        for name, here in cells.having.items():
            x = self.inputs.encode(minibatch, name, here)
            latents[name] = self._posterior(name, x, here, n)
            if self.aligners is not None:
                read = self.aligners.networks_of if self.training else self.aligners
                aligned[name] = spread_rows(read(name, x), here, n=n)
        return {"latents": latents, "aligned": aligned, "present": present, "cells": cells}

    def posterior(self, minibatch: MosaicBatch, name: str) -> Gaussian:
        """Return what one modality says of all blocks, ``(B, K d)``, as :meth:`inference` does of every modality."""
        here = minibatch["cells"].having[name]
        return self._posterior(name, self.inputs.encode(minibatch, name, here), here, len(minibatch["present"]))

    def _posterior(self, name: str, x: Tensor, here: Tensor, n: int) -> Gaussian:
        latent = self.encoders[name](x)
        return Gaussian(spread_rows(latent.mean, here, n=n), spread_rows(latent.scale, here, 1.0, n=n))

    def generative(self, inferred: dict[str, Any]) -> dict[str, Any]:
        """Sample latents and fuse them: ``samples`` by modality and ``fused``, ``(B, K d)`` each."""
        latents, present = inferred["latents"], inferred["present"]
        samples = {name: self.normalise(latent.sample()) for name, latent in latents.items()}
        if self.options.fusion == "mean":
            fused = masked_mean(samples, present)
        else:
            fused = fuse(latents, present, self.options.fusion).sample()
        return {"samples": samples, "fused": self.normalise(fused)}

    def normalise(self, z: Tensor) -> Tensor:
        """Put latents where decoders expect them: on the unit sphere if ``normalize_latent``."""
        return F.normalize(z, dim=1, eps=1e-8) if self.options.normalize_latent else z

    def block(self, z: Tensor, name: str) -> Tensor:
        """Return the block of modality ``name`` of a full latent, ``(B, d)``."""
        start = self.inputs.position(name) * self.options.n_latent
        return z[:, start : start + self.options.n_latent]

    def reconstruct(self, step: Step, name: str, asked: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Return the losses of decoding one modality from full latents, ``(n,)`` each.

        All are decoded in one call, but for batch norm, which would mix them.

        Parameters
        ----------
        step
            The minibatch.
        name
            Modality.
        asked
            Latents ``(B, K d)``, each with the cells to decode, ``(n,)`` positions.
        """
        latents = [self.block(z, name)[rows] for z, rows in asked]
        if self.options.norm == "batch":
            return [self.decoding.nll(step, name, z, rows) for z, (_, rows) in zip(latents, asked, strict=True)]
        if not asked:
            return []
        rows = [each for _, each in asked]
        losses = self.decoding.nll(step, name, torch.cat(latents), torch.cat(rows))
        return list(losses.split([len(each) for each in rows]))

    def loss(
        self,
        minibatch: MosaicBatch,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms but the discriminator's own; every term is logged."""
        outputs = CLUEOutputs(
            **inference_outputs,
            **generative_outputs,
            n_features={name: size.n_features for name, size in self.sizes.modalities.items()},
            matched=self.sizes.pairs,
            log_inverse_temperature=self.log_inverse_temperature,
            labelled=self.label_logits(minibatch, inference_outputs),
            judged=None if self.discriminator is None else self.judge(minibatch, inference_outputs),
            gates=self.gate_price(),
        )
        reconstruct = partial(self.reconstruct, self.decoding.step(minibatch, self.inputs))
        smoothing = self.options.label_smoothing if self.training else 0.0
        return clue_loss(
            self.weights, self.options, outputs, reconstruct, kl_weight=kl_weight, label_smoothing=smoothing
        )

    def discriminator_loss(self, minibatch: MosaicBatch, outputs: dict[str, Any]) -> Tensor:
        """Return the loss of the discriminator on the minibatch, encoders detached."""
        return discriminator_loss(self.judge(minibatch, outputs, detach=True))

    def judge(self, minibatch: MosaicBatch, outputs: dict[str, Any], *, detach: bool = False) -> Profiles:
        """Return what the discriminator says of every profile of the minibatch, which modality it takes it for.

        Raises
        ------
        RuntimeError
            If the model has no discriminator.
        """
        if self.discriminator is None:
            raise RuntimeError("The model has no discriminator: its adversarial weight is 0.")
        z, codes, cells = [], [], []
        for code, (name, here) in enumerate(outputs["cells"].having.items()):
            mean = outputs["latents"][name].mean[here]
            z.append(self.noisy(mean))
            codes.append(torch.full((mean.shape[0],), code, device=mean.device))
            cells.append(minibatch["index"][here])
        latents, modality = torch.cat(z), torch.cat(codes)
        weight = None if self.balance is None else self.balance.to(modality.device)[torch.cat(cells), modality]
        return Profiles(self.discriminator(latents.detach() if detach else latents), modality, weight)

    def label_logits(self, minibatch: MosaicBatch, outputs: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]] | None:
        """Return logits and labels of the profiles of every modality; ``None`` without a label head."""
        if self.label_head is None:
            return None
        labels, found = minibatch["labels"].ravel(), {}
        for name, here in outputs["cells"].having.items():
            found[name] = (self.label_head(self.noisy(outputs["latents"][name].mean[here])), labels[here])
        return found

    def noisy(self, mean: Tensor) -> Tensor:
        """Add burn-in noise in units of the spread of the minibatch to what discriminator and label head see."""
        if not self.training or self.noise_level <= 0 or mean.shape[0] < 2:
            return mean
        return mean + self.noise_level * mean.detach().std(dim=0, keepdim=True) * torch.randn_like(mean)
