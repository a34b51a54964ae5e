from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest


@pytest.fixture
def protocol(data_dir):
    """The scoring script beside the real data sets, whose numbers the metrics must reproduce."""
    path = data_dir.parent / "bench" / "protocol.py"
    if not path.is_file():
        pytest.skip(f"needs the scoring script (looked in {path})")
    spec = importlib.util.spec_from_file_location("scoring_protocol", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.fixture
def make_pairs():
    """Return a function that draws two noisy views of the same cells, and the type of each cell."""

    def draw(n=120, d=8, *, noise=0.5, dtype=np.float32, seed=0, n_types=4):
        rng = np.random.default_rng(seed)
        types = rng.integers(n_types, size=n)
        centre = 2 * rng.normal(size=(n_types, d))[types]
        shared = centre + rng.normal(size=(n, d))
        x, y = (shared + noise * rng.normal(size=(n, d)) for _ in range(2))
        return x.astype(dtype), y.astype(dtype), np.array(["B", "T", "NK", "Mono", "DC"])[types]

    return draw
