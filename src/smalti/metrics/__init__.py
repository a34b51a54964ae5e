"""Scores of an integration: functions of numpy arrays that return a number, or one per cell or feature."""

from __future__ import annotations

from smalti.metrics._calibration import (
    brier_score,
    calibration_curve,
    error_of_curve,
    expected_calibration_error,
    fit_temperature,
)
from smalti.metrics._classification import ABSTAINED, balanced_accuracy, class_recall, confusion
from smalti.metrics._clustering import ClusterScores, ari, nmi, nmi_ari
from smalti.metrics._geometry import alignment, uniformity
from smalti.metrics._matching import Matching, argmax_match, matching_matrix, matching_score, soft_match
from smalti.metrics._mixing import cell_type_asw, modality_decodability, modality_mixing, silhouette_mixing
from smalti.metrics._retrieval import foscttm, match_ranks, median_rank, recall_at_k
from smalti.metrics._transfer import label_transfer
from smalti.metrics._translation import translation_error, translation_summary

__all__ = [
    "ABSTAINED",
    "ClusterScores",
    "Matching",
    "alignment",
    "argmax_match",
    "ari",
    "balanced_accuracy",
    "brier_score",
    "calibration_curve",
    "cell_type_asw",
    "class_recall",
    "confusion",
    "error_of_curve",
    "expected_calibration_error",
    "fit_temperature",
    "foscttm",
    "label_transfer",
    "match_ranks",
    "matching_matrix",
    "matching_score",
    "median_rank",
    "modality_decodability",
    "modality_mixing",
    "nmi",
    "nmi_ari",
    "recall_at_k",
    "silhouette_mixing",
    "soft_match",
    "translation_error",
    "translation_summary",
    "uniformity",
]
