"""Models: set up a MuData, construct, train, get latents."""

from __future__ import annotations

from .base import MosaicModel, Translation
from .clue import CLUE, CLUEOptions, LossWeights

__all__ = ["CLUE", "CLUEOptions", "LossWeights", "MosaicModel", "Translation"]
