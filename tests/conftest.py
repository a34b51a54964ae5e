from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

PRESET = os.environ.get("SMALTI_SCANPY_PRESET")
"""Preset of scanpy to run the tests under, where scanpy has presets; ``make matrix`` sets it."""
DATA_DIR = Path(os.environ.get("SMALTI_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data")


def missing_for(marker: str) -> str | None:
    """Return why tests with this marker cannot run here, or None if they can; the one place that knows."""
    if marker == "data" and not DATA_DIR.is_dir():
        return f"needs the real data sets: set SMALTI_DATA_DIR (looked in {DATA_DIR})"
    if marker == "gpu":
        import torch

        if not torch.cuda.is_available():
            return "needs a CUDA device"
    return None


def pytest_configure():
    if PRESET:
        import scanpy

        if hasattr(scanpy.settings, "preset"):
            scanpy.settings.preset = PRESET


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("data")


def pytest_runtest_setup(item):
    for marker in ("data", "gpu"):
        if item.get_closest_marker(marker) and (reason := missing_for(marker)):
            pytest.skip(reason)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of the test's own, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def data_dir() -> Path:
    """Folder with the real data sets; a test that asks for it gets the marker ``data``."""
    return DATA_DIR
