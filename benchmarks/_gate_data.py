"""Data with planted features; the same generators as the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).resolve().parents[1] / "tests" / "_planted.py"
_spec = importlib.util.spec_from_file_location("_planted", _path)
_planted = importlib.util.module_from_spec(_spec)
sys.modules["_planted"] = _planted
_spec.loader.exec_module(_planted)
clusters, f1, factors = _planted.clusters, _planted.f1, _planted.factors
moons, mosaic, sparse_pair = _planted.moons, _planted.mosaic, _planted.sparse_pair
