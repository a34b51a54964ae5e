"""MCA: modal channel attention."""

from __future__ import annotations

from ._model import MCA
from ._options import MCAOptions, MCAWeights

__all__ = ["MCA", "MCAOptions", "MCAWeights"]
