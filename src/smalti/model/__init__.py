"""Models: set up a MuData, construct, train, get latents."""

from __future__ import annotations

from .align import UnpairedCCA, UnpairedOptions
from .base import MosaicModel, Translation
from .clue import CLUE, CLUEOptions, LossWeights
from .mca import MCA, MCAOptions, MCAWeights
from .modis import MODIS, MODISOptions, MODISWeights

__all__ = [
    "CLUE",
    "MCA",
    "MODIS",
    "CLUEOptions",
    "LossWeights",
    "MCAOptions",
    "MCAWeights",
    "MODISOptions",
    "MODISWeights",
    "MosaicModel",
    "Translation",
    "UnpairedCCA",
    "UnpairedOptions",
]
