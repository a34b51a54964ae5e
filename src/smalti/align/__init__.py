"""Alignment of modalities without pairs: weak evidence, transport between cells, correlation under it, and its test."""

from __future__ import annotations

from ._baselines import BASELINES, Baseline, align_baseline
from ._cca import SoftCCA
from ._evidence import Evidence, label_evidence, link_evidence, pair_evidence
from ._fit import Alignment, fit_alignment
from ._links import LinkScale, check_links, link_matrices, linked_values, widest
from ._plan import CellMatch, TransportPlan, transport_plan
from ._plan_table import PlanTable
from ._problem import AlignmentProblem, AlignmentSettings
from ._space import MatchingSpace, evidence_features, fit_matching_space, matching_space
from ._transport import entropic_plan, gromov_plan, squared_distances
from ._verdict import Verdict, held_out_agreement, held_out_scores, judge, main_evidence
from ._views import View, make_view

__all__ = [
    "BASELINES",
    "Alignment",
    "MatchingSpace",
    "AlignmentSettings",
    "Baseline",
    "CellMatch",
    "Evidence",
    "LinkScale",
    "PlanTable",
    "AlignmentProblem",
    "SoftCCA",
    "TransportPlan",
    "Verdict",
    "View",
    "align_baseline",
    "check_links",
    "entropic_plan",
    "evidence_features",
    "fit_matching_space",
    "fit_alignment",
    "gromov_plan",
    "held_out_agreement",
    "held_out_scores",
    "judge",
    "label_evidence",
    "link_evidence",
    "link_matrices",
    "linked_values",
    "main_evidence",
    "make_view",
    "matching_space",
    "pair_evidence",
    "squared_distances",
    "transport_plan",
    "widest",
]
