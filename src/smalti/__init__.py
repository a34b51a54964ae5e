"""smalti: integration of multimodal single-cell and bulk multi-omics data as it really comes, a mosaic."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import benchmark, data, datasets, metrics, model, pl, planning, pp, report, select, simulate, tl
    from .data import from_anndata, read

__version__ = version("smalti")

PARTS = (
    "benchmark",
    "data",
    "datasets",
    "metrics",
    "model",
    "pl",
    "planning",
    "pp",
    "report",
    "select",
    "simulate",
    "tl",
)
__all__ = [
    "__version__",
    "benchmark",
    "data",
    "datasets",
    "from_anndata",
    "metrics",
    "model",
    "pl",
    "planning",
    "pp",
    "read",
    "report",
    "select",
    "simulate",
    "tl",
]


def __getattr__(name: str) -> Any:
    """Import a part of the package when it is first used: torch takes seconds, and ``smalti --help`` needs none."""
    if name in PARTS:
        _announce()
        return import_module(f".{name}", __name__)
    if name in __all__:
        _announce()
        return getattr(import_module(".data", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _announce() -> None:
    """Say once, to someone who waits at a terminal or notebook, what the seconds of the first call are for."""
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    if interactive and "scvi" not in sys.modules:
        sys.stderr.write("smalti: loading torch, Lightning and scvi-tools, once per session ...\n")


def __dir__() -> list[str]:
    return sorted(__all__)
