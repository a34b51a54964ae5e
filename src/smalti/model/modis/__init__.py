"""MODIS: unpaired modalities, few labels, rare classes."""

from __future__ import annotations

from ._model import MODIS
from ._options import MODISOptions, MODISWeights

__all__ = ["MODIS", "MODISOptions", "MODISWeights"]
