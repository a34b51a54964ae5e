"""Models: set up a MuData, construct, train, get latents."""

from __future__ import annotations

from .base import MosaicModel, Translation
from .clue import CLUE, CLUEOptions, LossWeights
from .mca import MCA, MCAOptions, MCAWeights

__all__ = [
    "CLUE",
    "MCA",
    "CLUEOptions",
    "LossWeights",
    "MCAOptions",
    "MCAWeights",
    "MosaicModel",
    "Translation",
]
