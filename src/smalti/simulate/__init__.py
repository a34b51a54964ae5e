"""Data with a known answer: factor views, and masks that turn complete data into mosaics."""

from __future__ import annotations

from ._charts import noisy_charts, overlap_charts
from ._degrade import degrade
from ._factors import factor_views
from ._intersim import intersim
from ._intersim_parameters import InterSIMParameters
from ._mosaic import diagonal, drop, indirect, mosaic
from ._pairs import hidden_pairs, hide_pairs, shuffle_pairs
from ._panels import panels
from ._sparse_cca import sparse_cca

__all__ = [
    "InterSIMParameters",
    "degrade",
    "diagonal",
    "drop",
    "factor_views",
    "hidden_pairs",
    "hide_pairs",
    "indirect",
    "intersim",
    "mosaic",
    "noisy_charts",
    "overlap_charts",
    "panels",
    "shuffle_pairs",
    "sparse_cca",
]
