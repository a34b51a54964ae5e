"""From MuData to minibatches: modalities, presence, registry fields, manager and dataset."""

from __future__ import annotations

from ._categories import UNLABELED, CategoryField, coalesce_obs
from ._dataset import MosaicBatch, MosaicDataset, to_device
from ._fields import PREFIX, ModalityField
from ._manager import MosaicManager
from ._modality import (
    COUNT_LIKELIHOODS,
    ENCODER_INPUTS,
    Likelihood,
    Modality,
    ModalityLike,
    infer_encoder_input,
    infer_likelihood,
    refuse_view,
    resolve_modalities,
)
from ._moments import fit_scaled
from ._presence import presence, row_maps
from ._reader import CSRReader, DenseReader, ModalityReader, make_reader
from ._values import looks_like_counts, matrix_of

__all__ = [
    "COUNT_LIKELIHOODS",
    "ENCODER_INPUTS",
    "PREFIX",
    "UNLABELED",
    "CSRReader",
    "CategoryField",
    "DenseReader",
    "Likelihood",
    "Modality",
    "ModalityField",
    "ModalityLike",
    "ModalityReader",
    "MosaicBatch",
    "MosaicDataset",
    "MosaicManager",
    "coalesce_obs",
    "fit_scaled",
    "infer_encoder_input",
    "infer_likelihood",
    "looks_like_counts",
    "make_reader",
    "matrix_of",
    "presence",
    "refuse_view",
    "resolve_modalities",
    "row_maps",
    "to_device",
]
