"""smalti: integration of multimodal single-cell and bulk multi-omics data as it really comes, a mosaic."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("smalti")
