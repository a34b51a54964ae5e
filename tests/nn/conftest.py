from __future__ import annotations

import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    """A generator of the test's own, the same in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """Initial weights and dropout are the same in every run, and other tests' streams are left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
