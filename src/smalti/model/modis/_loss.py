"""The objective of MODIS, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import LossOutput

from smalti.losses import (
    class_cross_entropy,
    divergence_clustering,
    energy_distance,
    kl_standard_normal,
    modality_game,
    reconstruction_nll,
    take_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.nn import JudgedLatent

    from ._module import MODISModule, Profiles


def modis_loss(
    module: MODISModule,
    tensors: dict[str, Any],
    inferred: dict[str, Any],
    generated: dict[str, Any],
    kl_weight: float | Tensor,
) -> LossOutput:
    """Compute every term of the encoders and decoders on one minibatch."""
    weights, options = module.weights, module.options
    zero = module.temperature.new_zeros(())
    names = ("data", "shared", "kl", "kl_shared", "consistency", "cross")
    parts: dict[str, Tensor] = dict.fromkeys(names, zero)
    rec_per_cell, kl_per_cell = {}, zero.expand(len(tensors["index"])).clone()
    nll = {}
    for name, here in inferred["present"].items():
        latent, sample = inferred["latents"][name], generated["samples"][name]
        reconstruction = _Reconstruction(module, tensors, name)
        shared, private = sample[:, : module.n_latent], sample[:, module.n_latent :]
        z = torch.cat([shared.detach() if module.detaches else shared, private], dim=1)
        rows = torch.nonzero(here).ravel()
        own = reconstruction(z, rows)
        kept = ~inferred["altered"][name]  # the input of the others is not the target
        nll[f"nll_{name}"] = _mean(own, kept)
        parts["data"] = parts["data"] + nll[f"nll_{name}"]
        d = module.n_latent
        divergence = kl_standard_normal(latent.mean[:, :d], latent.scale[:, :d])
        parts["kl_shared"] = parts["kl_shared"] + _mean(divergence)
        kl_per_cell[rows] += divergence.detach()
        rec_per_cell[name] = own.detach() * module.sizes.modalities[name].n_features
        if options.n_private:
            divergence = kl_standard_normal(latent.mean[:, d:], latent.scale[:, d:])
            parts["kl"] = parts["kl"] + _mean(divergence) / module.sizes.modalities[name].n_features
            kl_per_cell[rows] += divergence.detach()
            if weights.shared > 0:
                alone = reconstruction(module.without_private(shared.detach()), rows, alone=True)
                parts["shared"] = parts["shared"] + _mean(alone, kept)
    parts |= _paired(module, tensors, inferred, generated)
    profiles = module.profiles(tensors, inferred["latents"], generated["samples"])
    judged = module.discriminator(profiles.sample if options.judge_samples else profiles.mean)
    classes = class_terms(module, judged, profiles)
    group = module.group(judged, profiles.labels)
    if weights.alignment > 0:
        n_modalities = len(module.sizes.modalities)
        parts["alignment"] = energy_distance(profiles.mean, profiles.modality, n_modalities, group)
    total = sum(classes.values(), zero)
    # what grows with the spread of latents tells nothing of the fit: it is left out of what early stopping looks at
    monitor = classes.get("label", zero).detach()
    for term, value in parts.items():
        ramp = {"kl": kl_weight, "kl_shared": kl_weight, "alignment": module.game_ramp}.get(term, 1.0)
        total = total + ramp * getattr(weights, term) * value
        if term in ("data", "shared", "kl", "cross"):
            monitor = monitor + getattr(weights, term) * value.detach()
    parts |= {name: value / getattr(weights, name) for name, value in classes.items()}
    if module.has_game:
        game = modality_game(options.adversary, "encoder", judged.modality, profiles.modality, group)
        parts["adversarial"] = game
        total = total + module.game_ramp * weights.adversarial * game
    logged = {**{key: value.detach() for key, value in (parts | nll).items()}, "monitor": monitor}
    return LossOutput(
        loss=total,
        reconstruction_loss={name: _expand(value, inferred["present"][name]) for name, value in rec_per_cell.items()},
        kl_local=kl_per_cell,
        extra_metrics=logged,
    )


def class_terms(module: MODISModule, judged: JudgedLatent, rows: Profiles) -> dict[str, Tensor]:
    """Return the weighted class and clustering terms, which both players minimise, summed over modalities."""
    weights, options = module.weights, module.options
    out: dict[str, Tensor] = {}
    if module.n_labels == 0:
        return out
    here = [rows.modality == i for i in range(len(module.sizes.modalities))]
    here = [part for part in here if bool(part.any())]
    if module.sizes.n_labels and weights.label > 0:
        terms = [class_cross_entropy(judged.label[r], rows.labels[r], balance=options.balance > 0) for r in here]
        out["label"] = weights.label * torch.stack(terms).sum()
    if module.n_labels < 2 or weights.separation + weights.corners + weights.usage == 0:
        return out
    if options.kernel == "batch":
        frequency = module.frequency[rows.modality]
        clusters = [divergence_clustering(judged.hidden, judged.label, frequency)]
    else:
        clusters = [
            divergence_clustering(judged.hidden[r], judged.label[r], module.frequency[rows.modality[r][0]])
            for r in here
        ]
    for name in ("separation", "corners", "usage"):
        if getattr(weights, name) > 0:
            out[name] = getattr(weights, name) * torch.stack([getattr(c, name) for c in clusters]).sum()
    return out


class _Reconstruction:
    """Loss per cell of decoding one modality, ``(n,)``, mean over features."""

    def __init__(self, module: MODISModule, tensors: dict[str, Any], name: str) -> None:
        self.module, self.tensors, self.name = module, tensors, name
        self.features = module.sample_features(name)
        self.target = module.target(tensors, name, self.features)
        self.log_library = module.inputs.log_library(tensors, name) if module.families[name].uses_library else None

    def __call__(self, z: Tensor, rows: Tensor, *, alone: bool = False) -> Tensor:
        """Decode full latents ``z`` of the cells ``rows``; ``alone``: from the shared part only."""
        module, name = self.module, self.name
        batch = module.inputs.batch(self.tensors)[rows]
        log_library = None if self.log_library is None else self.log_library[rows]
        heads, mask = module.heads(z, name, batch, self.features, log_library)
        log_scale = module.decoders[name].scales(batch, self.features)
        if alone and module.shared_log_scales[module.inputs.position(name)].requires_grad:
            log_scale = module.shared_log_scales[module.inputs.position(name)]
            log_scale = log_scale if self.features is None else log_scale[:, self.features]
        inside = torch.zeros(len(module.inputs.batch(self.tensors)), dtype=torch.bool, device=rows.device)
        inside[rows] = True
        target = take_rows(self.target, inside)
        return reconstruction_nll(module.families[name], target, heads, log_scale, mask)


def _paired(
    module: MODISModule, tensors: dict[str, Any], inferred: dict[str, Any], generated: dict[str, Any]
) -> dict[str, Tensor]:
    """Return consistency and cross reconstruction of samples measured in two modalities."""
    weights, d = module.weights, module.n_latent
    present = inferred["present"]
    zero = module.temperature.new_zeros(())
    consistency, cross, n_pairs = zero, zero, 0
    if weights.consistency + weights.cross == 0:
        return {"consistency": zero, "cross": zero}
    for a, in_a in present.items():
        for b, in_b in present.items():
            both = in_a & in_b
            if a == b or not bool(both.any()):
                continue
            n_pairs += 1
            mean_a, mean_b = (inferred["latents"][m].mean[both[present[m]], :d] for m in (a, b))
            consistency = consistency + (mean_a - mean_b).square().mean()
            if weights.cross > 0:
                shared = generated["samples"][a][both[in_a], :d]
                rows = torch.nonzero(both).ravel()
                nll = _Reconstruction(module, tensors, b)(module.without_private(shared), rows, alone=True)
                cross = cross + _mean(nll)
    return {"consistency": consistency / max(n_pairs, 1), "cross": cross / max(n_pairs, 1)}


def _mean(values: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return the mean, 0 of nothing."""
    if keep is None:
        return values.sum() / max(len(values), 1)
    return (values * keep).sum() / keep.sum().clamp(min=1)


def _expand(values: Tensor, here: Tensor) -> Tensor:
    """Put values of present cells back among all cells of the batch, zeros elsewhere."""
    out = values.new_zeros(here.shape[0])
    out[here] = values
    return out
