"""Preprocessing that transfers: transforms fitted once and applied to any cells."""

from __future__ import annotations

from ._base import LinearTransform
from ._bulk import (
    BulkTransform,
    Counts,
    Methylation,
    Reals,
    beta_to_m,
    filter_low_counts,
    filter_probes,
    impute_mean,
    m_to_beta,
    median_of_ratios,
    size_factors,
)
from ._bulk_mudata import as_modalities, bulk
from ._cca import LinearCCA
from ._choose import CANDIDATES as N_COMPONENTS
from ._choose import choose_n_components, components_by_pairs
from ._completion import Completion, linked_modalities
from ._default import default_transform, make_transform
from ._gram import Covariances, canonical_axes
from ._harmony import HarmonyMap
from ._joint import LinearJoint
from ._modality import ModalityTransform, apply, fit_modality, get_transform
from ._mudata import clr, lsi, pca
from ._shrinkage import NeighbourShrinkage
from ._transforms import CLR, LSI, PCA

__all__ = [
    "N_COMPONENTS",
    "CLR",
    "LSI",
    "PCA",
    "BulkTransform",
    "Completion",
    "Counts",
    "Covariances",
    "HarmonyMap",
    "LinearCCA",
    "LinearJoint",
    "LinearTransform",
    "Methylation",
    "ModalityTransform",
    "NeighbourShrinkage",
    "Reals",
    "apply",
    "as_modalities",
    "beta_to_m",
    "bulk",
    "canonical_axes",
    "choose_n_components",
    "clr",
    "components_by_pairs",
    "default_transform",
    "filter_low_counts",
    "filter_probes",
    "fit_modality",
    "get_transform",
    "impute_mean",
    "linked_modalities",
    "lsi",
    "m_to_beta",
    "make_transform",
    "median_of_ratios",
    "pca",
    "size_factors",
]
