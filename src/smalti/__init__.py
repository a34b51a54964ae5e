"""smalti: integration of multimodal single-cell and bulk multi-omics data as it really comes, a mosaic."""

from __future__ import annotations

from importlib.metadata import version

from . import data, datasets, metrics, model, pl, pp, simulate, tl

__version__ = version("smalti")

__all__ = ["__version__", "data", "datasets", "metrics", "model", "pl", "pp", "simulate", "tl"]
