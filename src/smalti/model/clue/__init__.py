"""CLUE: cross-linked unified embedding."""

from __future__ import annotations

from ._model import CLUE
from ._options import CLUEOptions, CLUEWeights

__all__ = ["CLUE", "CLUEOptions", "CLUEWeights"]
