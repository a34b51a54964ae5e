"""Models: set up a MuData, construct, train, get latents."""

from __future__ import annotations

from .align import UnpairedCCA, UnpairedOptions
from .base import MosaicModel, Translation
from .clue import CLUE, CLUEOptions, CLUEWeights
from .fusion import FusionClustering, FusionOptions, FusionWeights
from .manifold import ManifoldOptions, ManifoldWeights, OverlapManifold
from .mca import MCA, MCAOptions, MCAWeights
from .modis import MODIS, MODISOptions, MODISWeights

__all__ = [
    "CLUE",
    "MCA",
    "MODIS",
    "CLUEOptions",
    "CLUEWeights",
    "FusionClustering",
    "FusionOptions",
    "FusionWeights",
    "MCAOptions",
    "MCAWeights",
    "MODISOptions",
    "MODISWeights",
    "ManifoldOptions",
    "ManifoldWeights",
    "MosaicModel",
    "OverlapManifold",
    "Translation",
    "UnpairedCCA",
    "UnpairedOptions",
]
