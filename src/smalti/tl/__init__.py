"""Tools that look at a mosaic or integrate it, and write results into it."""

from __future__ import annotations

from ._attribution import Attribution, attribute
from ._benchmark import benchmark
from ._catalogue import MODELS, ModelEntry
from ._cell_values import cell_values
from ._deletion import DeletionTest, deletion_test
from ._describe import MosaicDescription, describe_mosaic
from ._evaluate import evaluate
from ._evaluate_inputs import read_column
from ._evaluation import Evaluation, describe_score
from ._facts import ModalityDescription
from ._integrate import integrate
from ._keys import find_key
from ._label_report import LabelReport, label_report
from ._label_transfer import LabelTransfer, transfer_labels
from ._linear_cca import LinearCCAResult, linear_cca
from ._linear_joint import LinearJointResult, linear_joint
from ._linear_probe import ProbeResult, linear_probe
from ._loadings import Loadings, get_loadings
from ._match import match, reliability_curve
from ._rank_features import rank_features
from ._recommend import FEW_PAIRS, SOME_PAIRS, Recommendation, pairs_hint
from ._reference_scores import ReferenceScores, reference_scores
from ._stability import Stability, score_title, stability
from ._sweep import Sweep, sweep

__all__ = [
    "FEW_PAIRS",
    "MODELS",
    "SOME_PAIRS",
    "ModelEntry",
    "DeletionTest",
    "Attribution",
    "Evaluation",
    "LabelReport",
    "LabelTransfer",
    "LinearCCAResult",
    "LinearJointResult",
    "Loadings",
    "ModalityDescription",
    "MosaicDescription",
    "ProbeResult",
    "Recommendation",
    "ReferenceScores",
    "Stability",
    "Sweep",
    "attribute",
    "benchmark",
    "cell_values",
    "deletion_test",
    "describe_score",
    "describe_mosaic",
    "evaluate",
    "find_key",
    "get_loadings",
    "integrate",
    "label_report",
    "linear_cca",
    "linear_joint",
    "linear_probe",
    "match",
    "pairs_hint",
    "rank_features",
    "read_column",
    "reference_scores",
    "reliability_curve",
    "score_title",
    "stability",
    "sweep",
    "transfer_labels",
]
