"""The objective of CLUE, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput

from smalti.losses import (
    agreement,
    info_nce,
    kl_standard_normal,
    masked_average,
    modality_confusion,
    modality_cross_entropy,
    reconstruction_nll,
    take_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ._module import CLUEModule


def clue_loss(
    module: CLUEModule,
    tensors: dict[str, Any],
    inferred: dict[str, Any],
    generated: dict[str, Any],
    kl_weight: float | Tensor,
) -> LossOutput:
    """Compute every term of the objective on one minibatch (spec of terms: Tu et al. 2022 and its release).

    Reconstructions are means over cells and features, the divergence is divided by the number of features, so that
    wide and narrow modalities weigh the same. The cross and agreement terms use only cells with at least two
    modalities: for others they would be a copy of the self term, or zero.
    """
    weights, present = module.weights, inferred["present"]
    n_present = torch.stack(list(present.values())).sum(dim=0)
    paired = n_present >= 2
    share = module.inputs.modality_weights(weights.modality)
    parts: dict[str, Tensor] = {}
    rec_per_cell: dict[str, Tensor] = {}
    zero = module.log_inverse_temperature.new_zeros(())
    kl_per_cell = torch.zeros_like(n_present, dtype=zero.dtype)
    data, kl, joint, cross = zero, zero, zero, zero
    for name, here in present.items():
        features = module.sample_features(name, tensors)
        target = module.target(tensors, name, features)
        terms = _Reconstruction(module, tensors, name, features, target)
        n_features = module.sizes.modalities[name].n_features
        own = terms(generated["samples"][name], here) if weights.data > 0 else torch.zeros_like(kl_per_cell)
        divergence = kl_standard_normal(*inferred["latents"][name]) * here
        data = data + share[name] * masked_average(own, here)
        kl = kl + share[name] * masked_average(divergence, here) / n_features
        rec_per_cell[name] = own.detach() * n_features
        kl_per_cell = kl_per_cell + divergence.detach()
        if weights.joint > 0:
            joint = joint + masked_average(terms(generated["fused"], here & paired), here & paired)
        if weights.cross > 0:
            for source, other in present.items():
                if source != name:
                    cross = cross + masked_average(terms(generated["samples"][source], here & other), here & other)
        parts[f"nll_{name}"] = masked_average(own, here)
    parts["data"], parts["kl"], parts["joint"], parts["cross"] = data, kl, joint, cross
    if weights.agreement > 0:
        parts["agreement"] = sum(
            (
                agreement(
                    generated["samples"][name],
                    generated["fused"],
                    here & paired,
                    cosine=module.options.normalize_latent,
                )
                for name, here in present.items()
            ),
            zero,
        )
    if module.aligners is not None:
        parts["contrastive"] = _contrastive(module, inferred)
    if module.label_head is not None:
        parts["label"] = _label(module, tensors, inferred)
    total = zero
    for term, value in parts.items():
        if not term.startswith("nll_"):
            scale = weights.data * kl_weight * weights.kl if term == "kl" else getattr(weights, term)
            total = total + scale * value
    monitor = total.detach()
    if module.discriminator is not None:
        z, codes, cells = module.adversary_input(inferred)
        balance = module.inputs.balance(tensors, codes, cells)
        if module.options.adversary == "uniform":
            parts["adversarial"] = modality_confusion(module.discriminator(z), balance)
        else:
            parts["adversarial"] = -modality_cross_entropy(module.discriminator(z), codes, balance)
        total = total + weights.adversarial * parts["adversarial"]
    return LossOutput(
        loss=total,
        reconstruction_loss=rec_per_cell,
        kl_local=kl_per_cell,
        extra_metrics={**{key: value.detach() for key, value in parts.items()}, "monitor": monitor},
    )


class _Reconstruction:
    """Loss per cell of decoding one modality from any latent; zero where a cell is not asked for."""

    def __init__(
        self, module: CLUEModule, tensors: dict[str, Any], name: str, features: Tensor | None, target: Any
    ) -> None:
        self.module, self.tensors, self.name, self.features, self.target = module, tensors, name, features, target

    def __call__(self, z: Tensor, rows: Tensor) -> Tensor:
        heads, scale, mask = self.module.decode(z, self.name, self.tensors, rows, self.features)
        nll = reconstruction_nll(self.module.families[self.name], take_rows(self.target, rows), heads, scale, mask)
        out = nll.new_zeros(rows.shape[0])
        out[rows] = nll
        return out


def _contrastive(module: CLUEModule, inferred: dict[str, Any]) -> Tensor:
    """Mean over pairs of modalities that are both in the batch."""
    aligned, present = inferred["aligned"], inferred["present"]
    names, log_scale = list(aligned), module.log_inverse_temperature
    smoothing = module.options.label_smoothing if module.training else 0.0
    losses = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if module.sizes.has_pairs(a, b):
                both = present[a] & present[b]
                in_a, in_b = (both, both) if module.options.negatives == "paired" else (present[a], present[b])
                losses.append(info_nce(aligned[a], aligned[b], in_a, in_b, log_scale, smoothing))
    return torch.stack(losses).mean() if losses else 0.0 * module.log_inverse_temperature


def _label(module: CLUEModule, tensors: dict[str, Any], inferred: dict[str, Any]) -> Tensor:
    """Cross-entropy of the label head on every labelled profile."""
    labels, labelled = tensors[REGISTRY_KEYS.LABELS_KEY].ravel(), module.labelled(tensors)
    total = module.log_inverse_temperature.new_zeros(())
    if module.label_head is None:
        return total
    for name, here in inferred["present"].items():
        rows = here & labelled
        logits = module.label_head(module.noisy(inferred["latents"][name].mean[rows]))
        total = total + F.cross_entropy(logits, labels[rows], reduction="sum") / rows.sum().clamp(min=1)
    return total
