"""Preprocessing that transfers: transforms fitted once and applied to any cells."""

from __future__ import annotations

from ._base import LinearTransform
from ._cca import LinearCCA
from ._choose import choose_n_components
from ._default import default_transform, make_transform
from ._modality import ModalityTransform, apply, fit_modality, get_transform
from ._mudata import clr, lsi, pca
from ._transforms import CLR, LSI, PCA

__all__ = [
    "CLR",
    "LSI",
    "PCA",
    "LinearCCA",
    "LinearTransform",
    "ModalityTransform",
    "apply",
    "choose_n_components",
    "clr",
    "default_transform",
    "fit_modality",
    "get_transform",
    "lsi",
    "make_transform",
    "pca",
]
