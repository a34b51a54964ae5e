"""OverlapManifold: one set of coordinates from modalities that each see another part of a continuum."""

from __future__ import annotations

from ._model import OverlapManifold
from ._options import ManifoldOptions, ManifoldWeights
from ._register import Placement, register_charts

__all__ = ["ManifoldOptions", "ManifoldWeights", "OverlapManifold", "Placement", "register_charts"]
