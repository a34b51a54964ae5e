"""Real data: one small mosaic that comes with the package, and larger sets that are downloaded once."""

from __future__ import annotations

from ._bmmc import bmmc_cite, bmmc_multiome
from ._pbmc import pbmc_mosaic

__all__ = ["bmmc_cite", "bmmc_multiome", "pbmc_mosaic"]
