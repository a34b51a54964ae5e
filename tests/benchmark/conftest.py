from __future__ import annotations

import importlib.util
import sys
from builtins import round as rounded

import pytest


@pytest.fixture(scope="module")
def scripts():
    """The scripts beside the real data whose numbers the tasks must reproduce, told not to round what they return."""
    from conftest import DATA_DIR, missing_for

    folder = DATA_DIR.parent / "bench"
    if reason := missing_for("data"):
        pytest.skip(reason)
    if not (folder / "embedding.py").is_file():
        pytest.skip(f"needs the scoring scripts (looked in {folder})")
    found, path = {}, list(sys.path)
    for name in ("protocol", "embedding"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        found[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
        found[name].round = lambda value, digits=None: rounded(value) if digits is None else value
    yield found
    sys.path[:] = path
    for name in found:
        del sys.modules[name]


@pytest.fixture
def small():
    """Make of 300 cells in two batches a small data set: half of a batch lacks the second modality."""
    import numpy as np
    import scipy.sparse as sp

    from smalti.benchmark import PairedData

    rng = np.random.default_rng(0)
    n = 300
    types = rng.integers(3, size=n)
    counts = {
        m: sp.csr_matrix(rng.poisson(1 + 3 * (types[:, None] == np.arange(d) % 3)), dtype=np.float32)
        for m, d in {"one": 12, "two": 9}.items()
    }
    batch = np.repeat(["x", "y"], n // 2)
    has = np.arange(n) >= 60
    counts["two"] = sp.csr_matrix(counts["two"].multiply(has[:, None]))
    return PairedData(
        name="small",
        counts=counts,
        measured={"one": np.ones(n, bool), "two": has},
        features={"one": np.array([f"g{i}" for i in range(12)]), "two": np.array([f"p{i}" for i in range(9)])},
        likelihoods=dict.fromkeys(counts, "nb"),
        labels=np.array(["B", "T", ""])[types],
        batch=batch,
        cells=np.array([f"c{i}" for i in range(n)]),
    )
