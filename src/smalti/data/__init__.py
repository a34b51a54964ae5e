"""From MuData to minibatches: modalities, presence, registry fields, manager and dataset."""

from __future__ import annotations

from smalti._mudata import check_mudata
from smalti._text import as_text

from ._categories import BATCH_WORDS, UNLABELED, CategoryField, coalesce_obs, column_remarks
from ._containers import from_anndata, read
from ._dataset import Cells, MosaicBatch, MosaicDataset
from ._fields import PREFIX, ModalityField
from ._manager import MosaicManager
from ._modality import (
    COUNT_LIKELIHOODS,
    ENCODER_INPUTS,
    Likelihood,
    Modality,
    ModalityLike,
    check_values,
    infer_encoder_input,
    infer_likelihood,
    resolve_modalities,
)
from ._moments import fit_scaled
from ._open import open_mosaic
from ._patterns import Patterns, find_patterns
from ._presence import LEAST_SHARED, linked_groups, linked_pairs, presence, refuse_view, row_maps, shared_cells
from ._reader import CSRReader, DenseReader, DiskReader, ModalityReader, make_reader, read_blocks
from ._resident import ResidentDataset, can_reside, resident_bytes
from ._store import MatrixWriter, editing, write_frame
from ._transfer import Ahead, PackedBatch, pack, to_device
from ._values import (
    check_features,
    check_varies,
    counts_layer,
    looks_like_counts,
    matrix_of,
    measured_matrix,
    mostly_ones,
    nonzero_share,
    stored_matrix,
)
from ._write import write_mosaic

__all__ = [
    "BATCH_WORDS",
    "COUNT_LIKELIHOODS",
    "ENCODER_INPUTS",
    "LEAST_SHARED",
    "PREFIX",
    "UNLABELED",
    "Ahead",
    "CSRReader",
    "CategoryField",
    "Cells",
    "DenseReader",
    "DiskReader",
    "Likelihood",
    "MatrixWriter",
    "Modality",
    "ModalityField",
    "ModalityLike",
    "ModalityReader",
    "MosaicBatch",
    "MosaicDataset",
    "MosaicManager",
    "PackedBatch",
    "Patterns",
    "ResidentDataset",
    "as_text",
    "can_reside",
    "check_features",
    "check_mudata",
    "check_values",
    "check_varies",
    "coalesce_obs",
    "column_remarks",
    "counts_layer",
    "editing",
    "find_patterns",
    "fit_scaled",
    "from_anndata",
    "infer_encoder_input",
    "infer_likelihood",
    "linked_groups",
    "linked_pairs",
    "looks_like_counts",
    "make_reader",
    "matrix_of",
    "measured_matrix",
    "mostly_ones",
    "nonzero_share",
    "open_mosaic",
    "pack",
    "presence",
    "read",
    "read_blocks",
    "refuse_view",
    "resident_bytes",
    "resolve_modalities",
    "row_maps",
    "shared_cells",
    "stored_matrix",
    "to_device",
    "write_frame",
    "write_mosaic",
]
