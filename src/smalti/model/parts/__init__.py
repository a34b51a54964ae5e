"""The network side that models share: sizes and inputs of a mosaic, decoding, and the base of all networks."""

from __future__ import annotations

from ._decoding import Decoding, Observed, Space, Step
from ._fit_inputs import FittedInputs
from ._held_out import nearer_candidates
from ._inputs import MosaicInputs, modality_weights, spread_rows
from ._joint import JointReadout
from ._linear_start import CellComponents, encoder_inputs, linear_alignment, warm_start
from ._match_space import MatchReadout, fit_mixture
from ._module import GatePrice, MosaicModule
from ._sizes import ModalitySize, MosaicSizes
from ._translator import LOG1P, NORMALIZED, RAW, Chunk, PairTranslator, Translator, fit_pair

__all__ = [
    "LOG1P",
    "NORMALIZED",
    "RAW",
    "Chunk",
    "PairTranslator",
    "Translator",
    "fit_pair",
    "CellComponents",
    "Decoding",
    "FittedInputs",
    "GatePrice",
    "JointReadout",
    "ModalitySize",
    "MosaicInputs",
    "MosaicModule",
    "MosaicSizes",
    "Observed",
    "Space",
    "Step",
    "encoder_inputs",
    "linear_alignment",
    "modality_weights",
    "MatchReadout",
    "fit_mixture",
    "nearer_candidates",
    "spread_rows",
    "warm_start",
]
