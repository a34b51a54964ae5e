"""The user's side that models share: set-up, training, latents, gates, translation, labels, storage, options."""

from __future__ import annotations

from ._host import MosaicHost, positions
from ._imputation import Imputation, conformal_limits
from ._impute import ImputeMixin
from ._labels import LabelMixin, most_probable
from ._library_size import Library, target_log_library
from ._mosaic_model import MosaicModel
from ._options import Options, resolve_options, without_counts
from ._persistence import from_plain, read_model, to_plain
from ._query import QueryMixin
from ._query_data import QueryReport
from ._readouts import HeldOutMatching
from ._translation import Translation, TranslationMixin

__all__ = [
    "HeldOutMatching",
    "ImputeMixin",
    "Imputation",
    "LabelMixin",
    "Library",
    "MosaicHost",
    "MosaicModel",
    "Options",
    "QueryMixin",
    "QueryReport",
    "Translation",
    "TranslationMixin",
    "conformal_limits",
    "from_plain",
    "most_probable",
    "positions",
    "read_model",
    "resolve_options",
    "target_log_library",
    "to_plain",
    "without_counts",
]
