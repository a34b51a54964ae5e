"""Splitting, batching, training plans and callbacks."""

from __future__ import annotations

from ._adversarial import AdversarialPlan
from ._balanced import BalancedBatchSampler
from ._callbacks import EveryEpochs, RestoreBest, SeedEpochs, WriteCheckpoint
from ._carry import CarryState
from ._compile import compiled
from ._history import History, joined
from ._locality import Locality
from ._options import PlanOptions
from ._paired import MosaicBatchSampler
from ._plans import MosaicPlan
from ._processes import ShareBuffers, StopTogether, is_distributed, one_voice, resolve_strategy, several_processes
from ._row_adamw import RowAdamW
from ._sampler import EpochSampler, MakeSampler, rank_and_world
from ._splitter import MosaicSplitter
from ._streaming import StreamedBatches
from ._tell_time import TellTime

__all__ = [
    "compiled",
    "AdversarialPlan",
    "BalancedBatchSampler",
    "EveryEpochs",
    "CarryState",
    "EpochSampler",
    "History",
    "Locality",
    "MakeSampler",
    "MosaicBatchSampler",
    "MosaicPlan",
    "MosaicSplitter",
    "PlanOptions",
    "RestoreBest",
    "RowAdamW",
    "SeedEpochs",
    "ShareBuffers",
    "StopTogether",
    "StreamedBatches",
    "TellTime",
    "WriteCheckpoint",
    "is_distributed",
    "joined",
    "one_voice",
    "rank_and_world",
    "resolve_strategy",
    "several_processes",
]
