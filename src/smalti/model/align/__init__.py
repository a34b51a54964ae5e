"""UnpairedCCA: modalities without pairs."""

from __future__ import annotations

from ._model import UnpairedCCA
from ._options import UnpairedOptions

__all__ = ["UnpairedCCA", "UnpairedOptions"]
