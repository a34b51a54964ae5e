"""Pictures of a mosaic, of training, of latents and of predicted labels."""

from __future__ import annotations

from ._axes import figure_of
from ._benchmark import benchmark
from ._calibration import calibration
from ._colors import by_name as category_colors
from ._confusion import confusion
from ._coordinates import stored_umap, umap_coordinates
from ._fusion import fusion
from ._gates import gates
from ._history import history
from ._latent import latent
from ._learning_curve import learning_curve
from ._markers import markers
from ._mosaic import mosaic
from ._overview import overview
from ._planning import phase_diagram, sample_size
from ._stability import stability

__all__ = [
    "benchmark",
    "calibration",
    "category_colors",
    "confusion",
    "figure_of",
    "fusion",
    "gates",
    "history",
    "latent",
    "learning_curve",
    "markers",
    "mosaic",
    "overview",
    "phase_diagram",
    "sample_size",
    "stability",
    "stored_umap",
    "umap_coordinates",
]
