"""What all models share."""

from __future__ import annotations

from ._class_reference import ClassReference
from ._class_training import ClassTraining
from ._first_pass import balancing_weights, encoder_inputs, linear_alignment, warm_start
from ._fit_inputs import FittedInputs
from ._gating import MosaicModule
from ._infer_centres import infer_centres
from ._inputs import MosaicInputs
from ._labels import LabelMixin
from ._memory import check_memory
from ._mosaic_model import MosaicModel
from ._novelty import AbsentClass, NoveltyMixin
from ._retrieval import Retrieval, RetrievalMixin, nearest
from ._sizes import ModalitySize, MosaicSizes
from ._temperature import fit_temperatures
from ._translation import Library, Translation, TranslationMixin, target_log_library

__all__ = [
    "AbsentClass",
    "ClassReference",
    "ClassTraining",
    "FittedInputs",
    "LabelMixin",
    "Library",
    "ModalitySize",
    "MosaicInputs",
    "MosaicModel",
    "MosaicModule",
    "MosaicSizes",
    "Retrieval",
    "RetrievalMixin",
    "NoveltyMixin",
    "Translation",
    "TranslationMixin",
    "balancing_weights",
    "check_memory",
    "encoder_inputs",
    "fit_temperatures",
    "infer_centres",
    "linear_alignment",
    "nearest",
    "target_log_library",
    "warm_start",
]
