"""The network of CLUE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput, auto_move_data
from torch import nn

from smalti.data import UNLABELED
from smalti.losses import FAMILIES, make_target, modality_cross_entropy
from smalti.model.base import MosaicInputs, MosaicModule
from smalti.nn import (
    AlignmentEncoder,
    ByModality,
    Decoder,
    Discriminator,
    Gaussian,
    GaussianEncoder,
    fuse,
    masked_mean,
)

from ._loss import clue_loss

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.model.base import MosaicSizes

    from ._options import CLUEOptions, LossWeights


class CLUEModule(MosaicModule):
    """Encoders from every modality to every block, a decoder per block, and a block in which modalities are matched.

    Parameters
    ----------
    sizes
        What the data look like.
    options, weights
        See :class:`~smalti.model.CLUEOptions` and :class:`~smalti.model.LossWeights`.
    """

    def __init__(self, sizes: MosaicSizes, options: CLUEOptions, weights: LossWeights) -> None:
        super().__init__()
        self.options, self.weights, self.sizes = options, weights, sizes
        names = list(sizes.modalities)
        hidden = {
            "n_hidden": options.n_hidden,
            "n_layers": options.n_layers,
            "norm": options.norm,
            "activation": options.activation,
            "dropout_rate": options.dropout_rate,
            "norm_first": options.norm_first,
        }
        self.inputs = MosaicInputs(sizes, n_embed=options.n_hidden)
        self.families = {name: FAMILIES[size.likelihood] for name, size in sizes.modalities.items()}
        self.encoders = ByModality(
            {
                name: GaussianEncoder(
                    self.inputs.width(name), options.n_latent, len(names), share_trunk=options.share_trunk, **hidden
                )
                for name in names
            }
        )
        self.decoders = ByModality(
            {
                name: Decoder(
                    options.n_latent,
                    size.n_features,
                    n_heads=self.families[name].n_heads,
                    n_cov=self.inputs.n_cov,
                    n_scales=sizes.n_batch if options.batch_dispersion else 1,
                    mean_link=options.mean_link if self.families[name].uses_library else "log",
                    **hidden,
                )
                for name, size in sizes.modalities.items()
            }
        )
        self.aligners: ByModality[AlignmentEncoder] | None = None
        for name, family in self.families.items():
            self.decoders[name].log_scale.requires_grad_(family.uses_scale)
        self.log_inverse_temperature = nn.Parameter(torch.tensor(2.3), requires_grad=weights.contrastive > 0)
        if weights.contrastive > 0:
            self.aligners = ByModality(
                {
                    name: AlignmentEncoder(
                        self.inputs.width(name),
                        options.n_align,
                        input_dropout=options.align_input_dropout,
                        n_hidden=options.align_hidden,
                        dropout_rate=options.align_dropout,
                    )
                    for name in names
                }
            )
        width = options.n_latent * len(names)
        self.discriminator: Discriminator | None = None
        if weights.adversarial > 0:
            self.discriminator = Discriminator(
                width, len(names), n_hidden=options.n_hidden, spectral=options.spectral_norm
            )
        self.label_head = nn.Linear(width, sizes.n_labels) if sizes.n_labels and weights.label > 0 else None
        # noise on what the discriminator and the label head see, in units of the latent's spread (set by the plan)
        self.noise_level = 0.0

    @torch.no_grad()
    def initialise(self, rates: dict[str, Tensor]) -> None:
        """Start decoders at the mean of every feature, ``(G,)`` by modality (share of the library for counts)."""
        for name, rate in rates.items():
            self.decoders[name].bias.copy_(self.families[name].initial_head(rate))

    def _get_inference_input(self, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"tensors": tensors}

    def _get_generative_input(self, tensors: dict[str, Any], inference_outputs: dict[str, Any]) -> dict[str, Any]:
        return {"tensors": tensors, "latents": inference_outputs["latents"], "present": inference_outputs["present"]}

    @auto_move_data
    def inference(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Encode every modality that the batch has.

        Returns
        -------
        ``latents``: name to :class:`~smalti.nn.Gaussian`, all ``K`` blocks side by side, ``(B, K d)``;
        ``aligned``: name to ``(B, n_align)`` unit vectors, if the contrastive term is on; ``present``: name to ``(B,)``
        bool. Rows of absent cells are zero (scale 1).
        """
        present = self.inputs.present(tensors)
        latents, aligned = {}, {}
        for name, here in present.items():
            x = self.inputs.encode(tensors, name, here)
            latent = self.encoders[name](x)
            latents[name] = Gaussian(_expand(latent.mean, here, 0.0), _expand(latent.scale, here, 1.0))
            if self.aligners is not None:
                aligned[name] = _expand(self.aligners[name](x), here, 0.0)
        return {"latents": latents, "aligned": aligned, "present": present}

    @auto_move_data
    def generative(
        self, tensors: dict[str, Any], latents: dict[str, Gaussian], present: dict[str, Tensor]
    ) -> dict[str, Any]:
        """Sample latents and fuse them: ``samples`` by modality and ``fused``, ``(B, K d)`` each."""
        samples = {name: self.place(latent.sample()) for name, latent in latents.items()}
        if self.options.fusion == "mean":
            fused = masked_mean(samples, present)
        else:
            fused = fuse(latents, present, self.options.fusion).sample()
        return {"samples": samples, "fused": self.place(fused)}

    def place(self, z: Tensor) -> Tensor:
        """Put latents where decoders expect them: on the unit sphere if ``normalize_latent``."""
        return F.normalize(z, dim=1, eps=1e-8) if self.options.normalize_latent else z

    def block(self, z: Tensor, name: str) -> Tensor:
        """Return the block of modality ``name`` of a full latent, ``(B, d)``."""
        start = list(self.sizes.modalities).index(name) * self.options.n_latent
        return z[:, start : start + self.options.n_latent]

    def decode(
        self,
        z: Tensor,
        name: str,
        tensors: dict[str, Any],
        rows: Tensor,
        features: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decode full latents into modality ``name``.

        Parameters
        ----------
        z
            ``(B, K d)`` of all cells of the batch.
        name
            Target.
        tensors
            The minibatch.
        rows
            ``(B,)`` bool, cells to decode.
        features
            ``(S,)`` features to decode; all by default.

        Returns
        -------
        Heads with the observed library size, log scales and feature mask, of the chosen cells.
        """
        batch = self.inputs.batch(tensors)[rows]
        mask = self.inputs.feature_mask(name, batch, features)
        decoder = self.decoders[name]
        heads = decoder(self.block(z[rows], name), self.inputs.covariates(batch), features, mask)
        if self.families[name].uses_library:
            log_library = self.inputs.log_library(tensors, name)[rows]
            heads = torch.cat([heads[:1] + log_library[None, :, None], heads[1:]])
        return heads, decoder.scales(batch, features), mask

    def loss(
        self,
        tensors: dict[str, Any],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | Tensor = 1.0,
    ) -> LossOutput:
        """Return the weighted sum of all terms but the discriminator's own; every term is logged."""
        return clue_loss(self, tensors, inference_outputs, generative_outputs, kl_weight)

    def sample_features(self, name: str, tensors: dict[str, Any]) -> Tensor | None:
        """Draw the features that this step decodes: at random in training, evenly spaced in validation."""
        size, wanted = self.sizes.modalities[name].n_features, self.options.n_features_per_step
        if wanted is None or size <= wanted:
            return None
        device = self.log_inverse_temperature.device
        if not self.training:
            return torch.linspace(0, size - 1, wanted, device=device).long()
        return torch.randperm(size, device=device)[:wanted]

    def target(self, tensors: dict[str, Any], name: str, features: Tensor | None) -> Any:
        """Return the observed values of the batch at ``features``."""
        return make_target(self.inputs.values(tensors, name), features, self.sizes.modalities[name].n_features)

    def adversary_input(self, outputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the discriminator sees, one row per profile: latent means, modality codes, cells of the batch."""
        z, codes, cells = [], [], []
        for code, (name, here) in enumerate(outputs["present"].items()):
            mean = outputs["latents"][name].mean[here]
            z.append(self.noisy(mean))
            codes.append(torch.full((mean.shape[0],), code, device=mean.device))
            cells.append(torch.nonzero(here).ravel())
        return torch.cat(z), torch.cat(codes), torch.cat(cells)

    def noisy(self, mean: Tensor) -> Tensor:
        """Add burn-in noise in units of the spread of the batch."""
        if not self.training or self.noise_level <= 0 or mean.shape[0] < 2:
            return mean
        return mean + self.noise_level * mean.detach().std(dim=0, keepdim=True) * torch.randn_like(mean)

    def discriminator_loss(self, tensors: dict[str, Any], outputs: dict[str, Any]) -> Tensor:
        """Return the loss of the discriminator on the batch, encoders detached."""
        if self.discriminator is None:
            raise RuntimeError("The model has no discriminator: its adversarial weight is 0.")
        z, codes, cells = self.adversary_input(outputs)
        return modality_cross_entropy(self.discriminator(z.detach()), codes, self.inputs.balance(tensors, codes, cells))

    def labelled(self, tensors: dict[str, Any]) -> Tensor:
        """Return which cells of the batch have a label, ``(B,)`` bool."""
        return tensors[REGISTRY_KEYS.LABELS_KEY].ravel() != UNLABELED

    @torch.inference_mode()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not offered: use ``translate`` of the model, which decodes expectations."""
        raise NotImplementedError("CLUE does not draw samples of the data; `model.translate` returns expected values.")


def _expand(x: Tensor, here: Tensor, fill: float) -> Tensor:
    """Put the rows of present cells back among all cells of the batch."""
    out = x.new_full((here.shape[0], x.shape[1]), fill)
    out[here] = x
    return out
