"""Models: set up a MuData, construct, train, get latents."""

from __future__ import annotations

from .clue import CLUE, CLUEOptions, LossWeights, Translation

__all__ = ["CLUE", "CLUEOptions", "LossWeights", "Translation"]
