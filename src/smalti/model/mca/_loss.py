"""The objective of MCA, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scvi.module.base import LossOutput

from smalti.losses import channel_contrast
from smalti.model.parts import modality_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smalti.model.parts import GatePrice

    from ._options import MCAOptions, MCAWeights

    Reconstruct = Callable[[str, Tensor, Tensor], Tensor]
    """Modality, embeddings ``(B, d)`` and cells ``(B,)`` bool to the loss of these cells, mean over features."""


@dataclass(frozen=True)
class MCAOutputs:
    """What the network says of one minibatch; in distributed training embeddings are those of all processes."""

    unimodal: Tensor
    """``(B, M, d)``."""
    fused: Tensor
    """``(B, C, d)``, the root channel first."""
    present: dict[str, Tensor]
    """``(B,)`` bool by modality: what the network looked at."""
    measured: dict[str, Tensor]
    """``(B,)`` bool by modality of this process: what can be compared with."""
    partial: Tensor | None
    """``(B, d)`` root channel over a part of what each cell has; ``None`` without decoders."""
    channels: tuple[tuple[int, ...], ...]
    log_inverse_temperature: Tensor
    gates: GatePrice | None
    patterns: dict[tuple[int, ...], Tensor] | None = None
    """Positions of the cells that have exactly some modalities, where they are known."""


def mca_loss(
    weights: MCAWeights,
    options: MCAOptions,
    outputs: MCAOutputs,
    reconstruct: Reconstruct | None,
    *,
    rows: dict[str, float],
) -> LossOutput:
    """Compute every term of the objective on one minibatch.

    Parameters
    ----------
    weights, options
        Of the model.
    outputs
        What the network says.
    reconstruct
        Loss of decoding a modality; ``None`` without decoders.
    rows
        Weights of the contrastive rows of the variant.
    """
    n = len(next(iter(outputs.measured.values())))
    present = torch.stack(list(outputs.present.values()), dim=1)
    with torch.autocast(outputs.unimodal.device.type, enabled=False):  # half precision cannot tell neighbours apart
        parts = channel_contrast(
            outputs.unimodal.float(),
            outputs.fused.float(),
            present,
            outputs.channels,
            outputs.log_inverse_temperature,
            rows=tuple(rows),
            complete=options.complete_channels,
            negatives=options.negatives,
            patterns=outputs.patterns,
        )
    total = 0.0 * outputs.log_inverse_temperature + sum(rows[name] * value for name, value in parts.items())
    if reconstruct is not None and outputs.partial is not None:
        parts |= _reconstruction(weights, outputs, outputs.partial, reconstruct)
        total = total + weights.reconstruction * parts["reconstruction"]
    monitor = total.detach()
    if outputs.gates is not None:
        total = total + outputs.gates.total
        parts |= outputs.gates.terms()
    return LossOutput(
        loss=total,
        reconstruction_loss=total.new_zeros(n),
        kl_local=total.new_zeros(n),
        n_obs_minibatch=n,
        extra_metrics={**{key: value.detach() for key, value in parts.items()}, "monitor": monitor},
    )


def _reconstruction(
    weights: MCAWeights, outputs: MCAOutputs, partial: Tensor, reconstruct: Reconstruct
) -> dict[str, Tensor]:
    """Decode every measured modality from the root channel over a part of what the cell has: mean over features."""
    share = modality_weights(weights.modality, list(outputs.present))
    parts: dict[str, Tensor] = {}
    total = outputs.log_inverse_temperature.new_zeros(())
    for name, here in outputs.measured.items():
        nll = reconstruct(name, partial, here)
        parts[f"nll_{name}"] = nll.sum() / max(len(nll), 1)
        total = total + share[name] * parts[f"nll_{name}"]
    return {**parts, "reconstruction": total}
