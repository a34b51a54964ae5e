"""The objective of MCA, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import LossOutput

from smalti.losses import channel_contrast, gather_rows, make_target, masked_average, reconstruction_nll, take_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ._module import MCAModule


def mca_loss(module: MCAModule, tensors: dict[str, Any], inferred: dict[str, Any]) -> LossOutput:
    """Compute every term of the objective on one minibatch.

    In distributed training the contrastive rows see the embeddings of all processes; validation batches are the same
    in every process and stay apart.
    """
    weights, rows = module.weights, module.weights.rows(module.variant)
    unimodal, fused, present = inferred["unimodal"], inferred["fused"], inferred["present"]
    n = present.shape[0]
    if module.training:
        unimodal, fused, present = gather_rows(unimodal), gather_rows(fused), gather_rows(present)
    with torch.autocast(unimodal.device.type, enabled=False):  # logits of half precision cannot tell neighbours apart
        parts = channel_contrast(
            unimodal.float(),
            fused.float(),
            present,
            module.channels,
            module.log_inverse_temperature,
            rows=tuple(rows),
            complete=module.options.complete_channels,
            negatives=module.options.negatives,
        )
    total = 0.0 * module.log_inverse_temperature + sum(rows[name] * value for name, value in parts.items())
    if module.decoders is not None:
        parts |= _reconstruction(module, tensors, inferred)
        total = total + weights.reconstruction * parts["reconstruction"]
    return LossOutput(
        loss=total,
        reconstruction_loss=total.new_zeros(n),
        kl_local=total.new_zeros(n),
        n_obs_minibatch=n,
        extra_metrics={**{key: value.detach() for key, value in parts.items()}, "monitor": total.detach()},
    )


def _reconstruction(module: MCAModule, tensors: dict[str, Any], inferred: dict[str, Any]) -> dict[str, Tensor]:
    """Decode every measured modality from the root channel over a part of what the cell has: mean over features."""
    share = module.inputs.modality_weights(module.weights.modality)
    parts: dict[str, Tensor] = {}
    total = module.log_inverse_temperature.new_zeros(())
    for name, here in module.inputs.present(tensors).items():
        n_features = module.sizes.modalities[name].n_features
        features = sample_features(module, name)
        target = take_rows(make_target(module.inputs.values(tensors, name), features, n_features), here)
        log_library = module.inputs.log_library(tensors, name)[here] if module.inputs.uses_library(name) else None
        codes = module.inputs.batch(tensors)[here]
        heads, scale = module.decode(inferred["partial"][here], name, codes, log_library, features)
        mask = module.inputs.feature_mask(name, codes, features)
        nll = reconstruction_nll(module.families[name], target, heads, scale, mask)
        parts[f"nll_{name}"] = masked_average(nll, torch.ones_like(nll, dtype=torch.bool))
        total = total + share[name] * parts[f"nll_{name}"]
    return {**parts, "reconstruction": total}


def sample_features(module: MCAModule, name: str) -> Tensor | None:
    """Draw the features that this step decodes: at random in training, evenly spaced in validation."""
    size, wanted = module.sizes.modalities[name].n_features, module.options.n_features_per_step
    if wanted is None or size <= wanted:
        return None
    device = module.log_inverse_temperature.device
    if not module.training:
        return torch.linspace(0, size - 1, wanted, device=device).long()
    return torch.randperm(size, device=device)[:wanted]
