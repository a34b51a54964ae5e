"""Scores of an integration: functions of numpy arrays that return a number, or one per cell or feature."""

from __future__ import annotations

from smalti.metrics._biology import BiologyScores, biology_scores, graph_connectivity
from smalti.metrics._calibration import (
    brier_score,
    calibration_curve,
    chance_error_of_curve,
    error_of_curve,
    expected_calibration_error,
    fit_temperature,
)
from smalti.metrics._classification import ABSTAINED, balanced_accuracy, class_recall, confusion
from smalti.metrics._clustering import ClusterScores, ari, nmi, nmi_ari
from smalti.metrics._geometry import alignment, stress, uniformity
from smalti.metrics._group_mixing import MixingScores, kbet, mixing_asw, mixing_scores
from smalti.metrics._lisi import NEIGHBORS, clisi, ilisi, lisi
from smalti.metrics._matching import Matching, argmax_match, matching_matrix, matching_score, soft_match
from smalti.metrics._mixing import cell_type_asw, modality_decodability, modality_mixing, silhouette_mixing
from smalti.metrics._neighbors import Neighbors, nearest_neighbors
from smalti.metrics._retrieval import foscttm, match_ranks, median_rank, recall_at_k
from smalti.metrics._total import total_score
from smalti.metrics._transfer import label_transfer
from smalti.metrics._translation import translation_error, translation_summary
from smalti.metrics._within import MatchingScores, matching_scores

__all__ = [
    "ABSTAINED",
    "BiologyScores",
    "ClusterScores",
    "Matching",
    "MatchingScores",
    "NEIGHBORS",
    "MixingScores",
    "Neighbors",
    "alignment",
    "argmax_match",
    "ari",
    "balanced_accuracy",
    "biology_scores",
    "brier_score",
    "calibration_curve",
    "cell_type_asw",
    "chance_error_of_curve",
    "class_recall",
    "clisi",
    "confusion",
    "error_of_curve",
    "expected_calibration_error",
    "fit_temperature",
    "foscttm",
    "graph_connectivity",
    "ilisi",
    "kbet",
    "label_transfer",
    "lisi",
    "match_ranks",
    "matching_matrix",
    "matching_score",
    "matching_scores",
    "median_rank",
    "mixing_asw",
    "mixing_scores",
    "modality_decodability",
    "modality_mixing",
    "nearest_neighbors",
    "nmi",
    "nmi_ari",
    "recall_at_k",
    "silhouette_mixing",
    "soft_match",
    "stress",
    "total_score",
    "translation_error",
    "translation_summary",
    "uniformity",
]
