from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Draws are the same in every run, and other tests' streams are left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
