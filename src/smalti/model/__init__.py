"""Models: set up a MuData, construct, train, get latents."""

from __future__ import annotations

from .align import UnpairedCCA, UnpairedOptions
from .base import MosaicModel, Translation
from .clue import CLUE, CLUEOptions, CLUEWeights
from .mca import MCA, MCAOptions, MCAWeights
from .modis import MODIS, MODISOptions, MODISWeights

__all__ = [
    "CLUE",
    "MCA",
    "MODIS",
    "CLUEOptions",
    "CLUEWeights",
    "MCAOptions",
    "MCAWeights",
    "MODISOptions",
    "MODISWeights",
    "MosaicModel",
    "Translation",
    "UnpairedCCA",
    "UnpairedOptions",
]
