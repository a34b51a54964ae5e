"""What all models share."""

from __future__ import annotations

from ._first_pass import balancing_weights, encoder_inputs, linear_alignment, warm_start
from ._fit_inputs import FittedInputs
from ._inputs import MosaicInputs
from ._mosaic_model import MosaicModel
from ._sizes import ModalitySize, MosaicSizes

__all__ = [
    "FittedInputs",
    "ModalitySize",
    "MosaicInputs",
    "MosaicModel",
    "MosaicSizes",
    "balancing_weights",
    "encoder_inputs",
    "linear_alignment",
    "warm_start",
]
