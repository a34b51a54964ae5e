"""Scoring tasks on real data: training mosaics without labels, and scores of the latents that tools make of them."""

from __future__ import annotations

from smalti.benchmark._data import UNLABELED, PairedData
from smalti.benchmark._pooled import pooled_scores
from smalti.benchmark._read import DATASETS, data_folder, load_data, read_data
from smalti.benchmark._split import mosaic_split
from smalti.benchmark._tasks import TASKS, Task, load_task

__all__ = [
    "DATASETS",
    "TASKS",
    "UNLABELED",
    "PairedData",
    "Task",
    "data_folder",
    "load_data",
    "load_task",
    "mosaic_split",
    "pooled_scores",
    "read_data",
]
