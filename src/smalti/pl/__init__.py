"""Pictures of a mosaic, of training and of latents."""

from __future__ import annotations

from ._coordinates import umap_coordinates
from ._history import history
from ._latent import latent
from ._mosaic import mosaic
from ._overview import overview

__all__ = ["history", "latent", "mosaic", "overview", "umap_coordinates"]
