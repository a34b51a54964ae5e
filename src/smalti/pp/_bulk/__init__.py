"""Bulk assays: filters, missing values and scales, as functions and as one transform that is fitted once."""

from __future__ import annotations

from ._filters import filter_low_counts, filter_probes, impute_mean
from ._kinds import BulkKind, Counts, Methylation, Reals
from ._scales import beta_to_m, m_to_beta, median_of_ratios, size_factors
from ._transform import BulkKindName, BulkTransform, Scale

__all__ = [
    "BulkKind",
    "BulkKindName",
    "BulkTransform",
    "Counts",
    "Methylation",
    "Reals",
    "Scale",
    "beta_to_m",
    "filter_low_counts",
    "filter_probes",
    "impute_mean",
    "m_to_beta",
    "median_of_ratios",
    "size_factors",
]
