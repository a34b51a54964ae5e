"""Splitting, batching, training plans and callbacks."""

from __future__ import annotations

from ._balanced import BalancedBatchSampler
from ._callbacks import EveryEpochs, RestoreBest, SeedEpochs, WriteCheckpoint
from ._compile import compiled
from ._locality import Locality
from ._options import PlanOptions
from ._paired import MosaicBatchSampler
from ._plans import AdversarialPlan, MosaicPlan
from ._row_adamw import RowAdamW
from ._sampler import EpochSampler, MakeSampler
from ._splitter import MosaicSplitter
from ._streaming import StreamedBatches
from ._tell_time import TellTime

__all__ = [
    "compiled",
    "AdversarialPlan",
    "BalancedBatchSampler",
    "EveryEpochs",
    "EpochSampler",
    "Locality",
    "MakeSampler",
    "MosaicBatchSampler",
    "MosaicPlan",
    "MosaicSplitter",
    "PlanOptions",
    "RestoreBest",
    "RowAdamW",
    "SeedEpochs",
    "StreamedBatches",
    "TellTime",
    "WriteCheckpoint",
]
