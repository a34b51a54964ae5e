"""What decoders compare with: one minibatch, every modality looked up once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.losses import Target
    from smalti.nn import OutputLayer

    from ._inputs import MosaicInputs


class Observed(NamedTuple):
    """What one modality of a minibatch is compared with, all ``B`` cells."""

    features: Tensor | None
    """``(S,)`` features of this step; ``None`` for all."""
    target: Target
    """Values at these features."""
    log_library: Tensor | None
    """``(B,)``, for likelihoods that scale with the library size."""
    mask: Tensor | None
    """``(B, S)`` bool, features that the batch of each cell measured and that are not missing; ``None`` for all."""
    batch: Tensor
    """``(B,)`` batch codes."""
    output: OutputLayer
    """Last layer of the decoder at these features."""
    constant: Tensor | None = None
    """What no decoding changes of the loss of the target."""


@dataclass
class Step:
    """One minibatch as decoders see it; every modality is looked up once, when it is first asked for."""

    minibatch: MosaicBatch
    inputs: MosaicInputs
    seen: dict[str, Observed] = field(default_factory=dict)
