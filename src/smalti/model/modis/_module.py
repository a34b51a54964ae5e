"""The network of MODIS."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from smalti.data import UNLABELED
from smalti.losses import FAMILIES, gradient_penalty
from smalti.model.parts import Decoding, MosaicModule
from smalti.nn import ByModality, Decoder, Gaussian, SharedDiscriminator, SkipEncoder

from ._class_reference import ClassReference
from ._label_floor import LabelFloor
from ._loss import JudgedProfiles, MODISOutputs, Profiles, discriminator_loss, modis_loss

if TYPE_CHECKING:
    from scvi.module.base import LossOutput
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicSizes, Step

    from ._options import MODISOptions, MODISWeights

MSE_LOG_SCALE = -0.3466
"""Half the log of one half: with it the Gaussian log-likelihood is the squared error, up to a constant."""


class MODISModule(MosaicModule):
    """An encoder and a decoder per modality around one shared latent, which one discriminator judges.

    Parameters
    ----------
    sizes
        What the data look like.
    options, weights
        See :class:`~smalti.model.MODISOptions` and :class:`~smalti.model.MODISWeights`.
    """

    decoding: Decoding
    frequency: Tensor
    temperature: Tensor

    def __init__(self, sizes: MosaicSizes, options: MODISOptions, weights: MODISWeights) -> None:
        super().__init__(sizes, n_embed=options.widths[0])
        self.options, self.weights = options, weights
        self.n_labels = sizes.n_labels or options.n_classes or 0
        self.n_latent = n_latent = options.latent_width(self.n_labels)
        hidden: dict[str, Any] = {
            "norm": options.norm,
            "activation": options.activation,
            "dropout_rate": options.dropout_rate,
        }
        encoders, decoders = {}, {}
        for name, size in sizes.modalities.items():
            widths, bottleneck = options.layers(name, size.n_features)
            encoders[name] = SkipEncoder(
                self.inputs.width(name),
                n_latent + options.n_private,
                widths,
                n_bottleneck=bottleneck,
                skip=options.skip,
                input_dropout=options.input_dropout,
                **hidden,
            )
            decoders[name] = Decoder(
                n_latent + options.n_private,
                size.n_features,
                n_heads=FAMILIES[size.likelihood].n_heads,
                n_cov=sizes.n_cov,
                skip=options.skip,
                n_hidden=[*([bottleneck] if bottleneck else []), *reversed(widths)],
                **hidden,
            )
        self.encoders = ByModality(encoders)
        self.decoding = Decoding(sizes, decoders, n_features_per_step=options.n_features_per_step, standardize=True)
        for name, family in self.decoding.families.items():
            if options.reconstruction == "mse" and family.name == "gaussian":
                nn.init.constant_(self.decoding.decoders[name].log_scale.requires_grad_(False), MSE_LOG_SCALE)
        # what the shared latent leaves open is wider than what remains after the private one
        learned = options.n_private > 0 and (weights.shared > 0 or weights.cross > 0)
        self.shared_log_scales = nn.ParameterList(
            nn.Parameter(
                torch.zeros(1, size.n_features), requires_grad=learned and self.decoding.families[name].uses_scale
            )
            for name, size in sizes.modalities.items()
        )
        n_judged = len(self.names) if options.adversary != "none" and weights.adversarial > 0 else 0
        self.discriminator = SharedDiscriminator(n_latent, n_judged, self.n_labels, widths=options.discriminator_widths)
        self.references = ByModality(
            {
                name: ClassReference(sizes.n_labels, self.inputs.width(name))
                for name, size in sizes.modalities.items()
                if size.input_kind != "counts" and sizes.n_labels
            }
        )
        uniform = torch.full((len(self.names), self.n_labels), 1 / max(self.n_labels, 1))
        self.floor = LabelFloor()
        self.cluster_share = 1.0
        self.register_buffer("frequency", uniform)
        self.register_buffer("temperature", torch.ones(len(self.names)))

    @property
    def label_head(self) -> nn.Module | None:
        """The class head, if there is one."""
        return self.discriminator.label_head

    @property
    def has_game(self) -> bool:
        """Whether modalities are told apart at all."""
        return self.discriminator.modality_head is not None

    @property
    def detaches(self) -> bool:
        """Whether reconstruction leaves the shared latent alone."""
        return self.options.detach_shared and self.options.n_private > 0 and self.sizes.n_labels > 0

    def inference(self, minibatch: MosaicBatch) -> dict[str, Any]:
        """Encode every modality that the minibatch has.

        Returns
        -------
        ``latents``: name to :class:`~smalti.nn.Gaussian` of the ``n`` cells that have it,
        ``(n, n_latent + n_private)``; ``present``: name to ``(B,)`` bool; ``cells``: the same as positions;
        ``borrowed``: name to ``(n,)`` bool, rows of small classes that were given the variation of a larger one.
        """
        cells, labels = self.inputs.having(minibatch), self.labels(minibatch)
        latents, borrowed = {}, {}
        for name, here in cells.items():
            x = self.inputs.encode(minibatch, name, here)
            borrowed[name] = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            if self.training and name in self.references and self.options.augment_below:
                x, borrowed[name] = self.references[name].borrow_variation(x, labels[here], self.options.augment_below)
            latents[name] = self.encoders[name](x)
        present = self.inputs.present(minibatch)
        return {"latents": latents, "present": present, "cells": cells, "borrowed": borrowed}

    def generative(self, inferred: dict[str, Any]) -> dict[str, Any]:
        """Sample latents, ``(n, n_latent + n_private)`` by modality."""
        return {"samples": {name: latent.sample() for name, latent in inferred["latents"].items()}}

    def labels(self, minibatch: MosaicBatch) -> Tensor:
        """Return labels of the minibatch, ``(B,)``; -1 where not known."""
        codes = minibatch["labels"].ravel()
        return codes if self.sizes.n_labels else torch.full_like(codes, UNLABELED)

    def profiles(self, minibatch: MosaicBatch, latents: dict[str, Gaussian], samples: dict[str, Tensor]) -> Profiles:
        """Return the shared latents of all modalities, one under another."""
        d, cells, labels = self.n_latent, self.inputs.having(minibatch), self.labels(minibatch)
        parts, end = [slice(0, 0)] * len(self.names), 0
        for name in latents:
            start, end = end, end + len(cells[name])
            parts[self.inputs.position(name)] = slice(start, end)
        return Profiles(
            torch.cat([latent.mean[:, :d] for latent in latents.values()]),
            torch.cat([sample[:, :d] for sample in samples.values()]),
            torch.cat([torch.full_like(labels[cells[n]], self.inputs.position(n)) for n in latents]),
            torch.cat([labels[cells[n]] for n in latents]),
            tuple(parts),
        )

    def judge(self, rows: Profiles) -> JudgedProfiles:
        """Return what the discriminator says of profiles, and how often each class is expected among them."""
        judged = self.discriminator(rows.sample if self.options.judge_samples else rows.mean)
        return JudgedProfiles(judged, rows, self.frequency, self.sizes.n_labels > 0)

    def without_private(self, shared: Tensor) -> Tensor:
        """Return full latents whose private part is the mean of its prior."""
        return torch.cat([shared, shared.new_zeros(len(shared), self.options.n_private)], dim=1)

    def reconstruct(self, step: Step, name: str, z: Tensor, rows: Tensor, *, shared_only: bool = False) -> Tensor:
        """Return the loss of decoding one modality, ``(n,)``.

        Parameters
        ----------
        step
            The minibatch.
        name
            Modality.
        z
            ``(n, n_latent + n_private)``, or the shared part alone, ``(n, n_latent)``, with ``shared_only``.
        rows
            ``(n,)`` positions of the cells.
        shared_only
            Whether to decode the shared part alone, which leaves more open.
        """
        log_scale = None
        if shared_only:
            z = self.without_private(z)
            own = self.shared_log_scales[self.inputs.position(name)]
            log_scale = own if own.requires_grad else None
        return self.decoding.nll(step, name, z, rows, log_scale=log_scale)

    def loss(
        self,
        minibatch: MosaicBatch,
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of the encoders' and decoders' terms; every term is logged."""
        step = self.decoding.step(minibatch, self.inputs)

        def reconstruct(name: str, z: Tensor, rows: Tensor, shared_only: bool = False) -> Tensor:
            return self.reconstruct(step, name, z, rows, shared_only=shared_only)

        latents, samples = inference_outputs["latents"], generative_outputs["samples"]
        outputs = MODISOutputs(
            **inference_outputs,
            pairs=minibatch["cells"].pairs,
            samples=samples,
            n_latent=self.n_latent,
            n_features={name: size.n_features for name, size in self.sizes.modalities.items()},
            detach_shared=self.detaches,
            judged=lambda: self.judge(self.profiles(minibatch, latents, samples)),
            gates=self.gate_price(),
        )
        return modis_loss(
            self.class_weights(), self.options, outputs, reconstruct, kl_weight=kl_weight, game_ramp=self.game_ramp
        )

    def discriminator_loss(self, minibatch: MosaicBatch, outputs: dict[str, Any]) -> Tensor:
        """Return the loss of the discriminator on the minibatch, encoders detached."""
        latents = {
            name: Gaussian(latent.mean.detach(), latent.scale.detach()) for name, latent in outputs["latents"].items()
        }
        rows = self.profiles(minibatch, latents, self.generative({"latents": latents})["samples"])
        z = (rows.sample if self.options.judge_samples else rows.mean).clone().requires_grad_(self.has_game)
        judged = JudgedProfiles(self.discriminator(z), rows, self.frequency, self.sizes.n_labels > 0)
        penalty = None
        if self.has_game and self.options.gamma > 0 and self.options.adversary in ("ovr", "pairwise"):
            penalty = gradient_penalty(judged.said.modality, z)
        return discriminator_loss(self.class_weights(), self.options, judged, penalty)

    def class_weights(self) -> MODISWeights:
        """Return the weights, those of the clustering terms by how far clusters follow the labels."""
        if self.cluster_share == 1:
            return self.weights
        own = {name: getattr(self.weights, name) * self.cluster_share for name in ("separation", "corners", "usage")}
        return replace(self.weights, **own)
