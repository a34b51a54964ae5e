"""How often a training is validated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smalti.train import MosaicSplitter

MAX_CHECKS = 60
"""Most validation passes per training; each costs about as much as an epoch of its size."""
MIN_CHECKS, CHECK_SHARE = 20, 0.04
"""Fewer validation passes than this are made only of shorter trainings; above that they may cost this share of the
training."""


def epochs_between_checks(max_epochs: int, splitter: MosaicSplitter) -> int:
    """Return after how many epochs to validate, so that it costs a few percent of the training.

    A pass costs about as much as half a training batch per 256 cells, and at least as one.
    """
    rare = max(1, max_epochs // MAX_CHECKS)
    pass_cost = 0.5 * max(splitter.n_val / splitter.batch_size, 1)
    cheap = math.ceil(pass_cost / (CHECK_SHARE * splitter.sampler.n_batches))
    return max(rare, min(cheap, max_epochs // MIN_CHECKS))
