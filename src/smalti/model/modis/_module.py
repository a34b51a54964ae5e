"""The network of MODIS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput, auto_move_data
from torch import nn

from smalti.data import UNLABELED
from smalti.losses import FAMILIES, gradient_penalty, make_target, modality_game
from smalti.model.base import ClassReference, MosaicInputs, MosaicModule
from smalti.nn import ByModality, Decoder, Gaussian, ScaledInput, SharedDiscriminator, SkipEncoder, SparseRows

from ._loss import class_terms, modis_loss

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.model.base import MosaicSizes
    from smalti.nn import JudgedLatent

    from ._options import MODISOptions, MODISWeights

MSE_LOG_SCALE = -0.3466
"""Half the log of one half: with it the Gaussian log-likelihood is the squared error, up to a constant."""


class Profiles(NamedTuple):
    """The shared latents of all modalities of a batch, one row per measured profile."""

    mean: Tensor
    """``(N, n_latent)``."""
    sample: Tensor
    """``(N, n_latent)``."""
    modality: Tensor
    """``(N,)`` position of the modality."""
    labels: Tensor
    """``(N,)``, -1 where not known."""


class MODISModule(MosaicModule):
    """An encoder and a decoder per modality around one shared latent, which one discriminator judges.

    Parameters
    ----------
    sizes
        What the data look like.
    options, weights
        See :class:`~smalti.model.MODISOptions` and :class:`~smalti.model.MODISWeights`.
    """

    frequency: Tensor
    temperature: Tensor

    def __init__(self, sizes: MosaicSizes, options: MODISOptions, weights: MODISWeights) -> None:
        super().__init__()
        self.options, self.weights, self.sizes = options, weights, sizes
        names = list(sizes.modalities)
        self.n_labels = sizes.n_labels or options.n_classes or 0
        self.n_latent = n_latent = options.latent_width(self.n_labels)
        hidden = {"norm": options.norm, "activation": options.activation, "dropout_rate": options.dropout_rate}
        self.inputs = MosaicInputs(sizes, n_embed=options.widths[0])
        self.families = {name: FAMILIES[size.likelihood] for name, size in sizes.modalities.items()}
        encoders, decoders = {}, {}
        for name, size in sizes.modalities.items():
            family = self.families[name]
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
            decoders[name] = decoder = Decoder(
                n_latent + options.n_private,
                size.n_features,
                n_heads=family.n_heads,
                n_cov=self.inputs.n_cov,
                skip=options.skip,
                n_hidden=[*([bottleneck] if bottleneck else []), *reversed(widths)],
                **hidden,
            )
            decoder.log_scale.requires_grad_(family.uses_scale)
            if options.reconstruction == "mse" and family.name == "gaussian":
                nn.init.constant_(decoder.log_scale.requires_grad_(False), MSE_LOG_SCALE)
        self.encoders, self.decoders = ByModality(encoders), ByModality(decoders)
        # what the shared latent leaves open is wider than what remains after the private one
        learned = options.n_private > 0 and (weights.shared > 0 or weights.cross > 0)
        self.shared_log_scales = nn.ParameterList(
            nn.Parameter(torch.zeros(1, size.n_features), requires_grad=learned and self.families[name].uses_scale)
            for name, size in sizes.modalities.items()
        )
        self.standards = ByModality(
            {
                name: ScaledInput(size.n_features, 1, log=False)
                for name, size in sizes.modalities.items()
                if size.likelihood == "gaussian"
            }
        )
        n_judged = len(names) if options.adversary != "none" and weights.adversarial > 0 else 0
        self.discriminator = SharedDiscriminator(n_latent, n_judged, self.n_labels, widths=options.discriminator_widths)
        self.references = ByModality(
            {
                name: ClassReference(sizes.n_labels, self.inputs.width(name))
                for name, size in sizes.modalities.items()
                if size.input_kind != "counts" and sizes.n_labels
            }
        )
        uniform = torch.full((len(names), self.n_labels), 1 / max(self.n_labels, 1))
        self.register_buffer("frequency", uniform)
        self.register_buffer("temperature", torch.ones(len(names)))
        self.noise_level, self.game_ramp = 0.0, 1.0  # set by the plan

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

    @torch.no_grad()
    def initialise(self, rates: dict[str, Tensor], standards: dict[str, ScaledInput]) -> None:
        """Start decoders at the mean of every feature (share of the library for counts, 0 for standardised values)."""
        for name, layer in standards.items():
            self.standards[name].load_state_dict(layer.state_dict())
        for name, rate in rates.items():
            start = torch.zeros_like(rate) if name in standards else rate
            self.decoders[name].bias.copy_(self.families[name].initial_head(start))

    def _get_inference_input(self, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"tensors": tensors}

    def _get_generative_input(self, tensors: dict[str, Any], inference_outputs: dict[str, Any]) -> dict[str, Any]:
        return {"latents": inference_outputs["latents"]}

    @auto_move_data
    def inference(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Encode every modality that the batch has.

        Returns
        -------
        ``latents``: name to :class:`~smalti.nn.Gaussian` of the ``n`` cells that have it,
        ``(n, n_latent + n_private)``;
        ``present``: name to ``(B,)`` bool; ``altered``: name to ``(n,)`` bool, rows with borrowed variation.
        """
        present = self.inputs.present(tensors)
        latents, altered = {}, {}
        for name, here in present.items():
            x = self.inputs.encode(tensors, name, here)
            altered[name] = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            if self.training and name in list(self.references) and self.options.augment_below:
                x, altered[name] = self.references[name].borrow(
                    x, self.labels(tensors)[here], self.options.augment_below
                )
            latents[name] = self.encoders[name](x)
        return {"latents": latents, "present": present, "altered": altered}

    @auto_move_data
    def generative(self, latents: dict[str, Gaussian]) -> dict[str, Any]:
        """Sample latents, ``(n, n_latent + n_private)`` by modality."""
        return {"samples": {name: latent.sample() for name, latent in latents.items()}}

    def labels(self, tensors: dict[str, Any]) -> Tensor:
        """Return labels of the batch, ``(B,)``; -1 where not known."""
        codes = tensors[REGISTRY_KEYS.LABELS_KEY].ravel()
        return codes if self.sizes.n_labels else torch.full_like(codes, UNLABELED)

    def profiles(self, tensors: dict[str, Any], latents: dict[str, Gaussian], samples: dict[str, Tensor]) -> Profiles:
        """Return the shared latents of all modalities, one under another."""
        d, present = self.n_latent, self.inputs.present(tensors)
        labels = self.labels(tensors)
        return Profiles(
            torch.cat([latent.mean[:, :d] for latent in latents.values()]),
            torch.cat([sample[:, :d] for sample in samples.values()]),
            torch.cat([torch.full_like(labels[present[n]], self.inputs.position(n)) for n in latents]),
            torch.cat([labels[present[n]] for n in latents]),
        )

    def group(self, judged: JudgedLatent, labels: Tensor) -> Tensor | None:
        """Return whom a row may be compared with: samples of its class, known or confidently predicted."""
        if not self.options.class_conditional or self.sizes.n_labels == 0:
            return None
        probability, predicted = judged.label.detach().softmax(dim=1).max(dim=1)
        guess = torch.where(probability > self.options.confidence, predicted, torch.full_like(predicted, UNLABELED))
        return torch.where(labels >= 0, labels, guess)

    def discriminator_loss(self, tensors: dict[str, Any], outputs: dict[str, Any]) -> Tensor:
        """Return the loss of the discriminator on the batch, encoders detached: game, penalty, classes, clusters."""
        latents = {
            name: Gaussian(latent.mean.detach(), latent.scale.detach()) for name, latent in outputs["latents"].items()
        }
        rows = self.profiles(tensors, latents, self.generative(latents)["samples"])
        z = (rows.sample if self.options.judge_samples else rows.mean).clone().requires_grad_(self.has_game)
        judged = self.discriminator(z)
        total = sum(class_terms(self, judged, rows).values(), judged.hidden.sum() * 0.0)
        if self.has_game:
            group = self.group(judged, rows.labels)
            total = total + modality_game(
                self.options.adversary, "discriminator", judged.modality, rows.modality, group
            )
            if self.options.gamma > 0 and self.options.adversary in ("ovr", "pairwise"):
                total = total + self.options.gamma * gradient_penalty(judged.modality, z)
        return total

    def heads(
        self, z: Tensor, name: str, batch: Tensor, features: Tensor | None, log_library: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Decode full latents ``(n, n_latent + n_private)``; return heads with library, and the feature mask."""
        mask = self.inputs.feature_mask(name, batch, features)
        heads = self.decoders[name](z, self.inputs.covariates(batch), features, mask)
        if self.families[name].uses_library and log_library is not None:
            heads = torch.cat([heads[:1] + log_library[None, :, None], heads[1:]])
        return heads, mask

    def without_private(self, shared: Tensor) -> Tensor:
        """Return full latents whose private part is the mean of its prior."""
        return torch.cat([shared, shared.new_zeros(len(shared), self.options.n_private)], dim=1)

    def target(self, tensors: dict[str, Any], name: str, features: Tensor | None) -> Any:
        """Return the observed values of the batch at ``features``; standardised ones for Gaussian modalities."""
        values, n_features = self.inputs.values(tensors, name), self.sizes.modalities[name].n_features
        if name not in list(self.standards):
            return make_target(values, features, n_features)
        if isinstance(values, SparseRows):
            values = values.to_dense(n_features)
        scaled = self.standards[name](values, torch.zeros(len(values), dtype=torch.int64, device=values.device))
        return scaled if features is None else scaled[:, features]

    def sample_features(self, name: str) -> Tensor | None:
        """Draw the features that this step decodes: at random in training, evenly spaced in validation."""
        size, wanted = self.sizes.modalities[name].n_features, self.options.n_features_per_step
        if wanted is None or size <= wanted:
            return None
        if not self.training:
            return torch.linspace(0, size - 1, wanted, device=self.temperature.device).long()
        return torch.randperm(size, device=self.temperature.device)[:wanted]

    def loss(
        self,
        tensors: dict[str, Any],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of the encoders' and decoders' terms; every term is logged."""
        return modis_loss(self, tensors, inference_outputs, generative_outputs, kl_weight)

    @torch.inference_mode()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not offered: use ``translate`` of the model, which decodes expectations."""
        raise NotImplementedError("MODIS draws no samples of the data; `model.translate` returns expected values.")
