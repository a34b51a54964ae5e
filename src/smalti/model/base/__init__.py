"""What all models share."""

from __future__ import annotations

from ._first_pass import balancing_weights, encoder_inputs, linear_alignment, warm_start
from ._fit_inputs import FittedInputs
from ._inputs import MosaicInputs
from ._labels import LabelMixin
from ._memory import check_memory
from ._mosaic_model import MosaicModel
from ._retrieval import Retrieval, RetrievalMixin, nearest
from ._sizes import ModalitySize, MosaicSizes
from ._translation import Library, Translation, TranslationMixin, target_log_library

__all__ = [
    "FittedInputs",
    "LabelMixin",
    "Library",
    "ModalitySize",
    "MosaicInputs",
    "MosaicModel",
    "MosaicSizes",
    "Retrieval",
    "RetrievalMixin",
    "Translation",
    "TranslationMixin",
    "balancing_weights",
    "check_memory",
    "encoder_inputs",
    "linear_alignment",
    "nearest",
    "target_log_library",
    "warm_start",
]
