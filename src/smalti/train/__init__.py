"""Splitting, batching, training plans and callbacks."""

from __future__ import annotations

from ._balanced import BalancedBatchSampler
from ._callbacks import EveryEpochs, RestoreBest, SeedEpochs, WriteCheckpoint
from ._options import PlanOptions
from ._plans import AdversarialPlan, MosaicPlan
from ._splitter import MosaicBatchSampler, MosaicSplitter

__all__ = [
    "AdversarialPlan",
    "BalancedBatchSampler",
    "EveryEpochs",
    "MosaicBatchSampler",
    "MosaicPlan",
    "MosaicSplitter",
    "PlanOptions",
    "RestoreBest",
    "SeedEpochs",
    "WriteCheckpoint",
]
