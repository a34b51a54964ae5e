"""Arguments of a training, and how often it is validated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from smalti._validate import check_count, check_keys
from smalti.train import PlanOptions

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


def check_arguments(plan_kwargs: object, trainer_kwargs: object, num_workers: int, n_threads: int | None) -> None:
    """Raise ``TypeError``, ``ValueError`` or ``KeyError`` for arguments of ``train`` that libraries would stumble over.

    Parameters
    ----------
    plan_kwargs, trainer_kwargs, num_workers, n_threads
        As ``train`` was given them.
    """
    for given, what in ((plan_kwargs, "plan_kwargs"), (trainer_kwargs, "trainer_kwargs")):
        if not isinstance(given, Mapping | None):
            raise TypeError(f"Expected `{what}` to be a dictionary, found {given!r}.")
    check_keys(plan_kwargs or {}, [each.name for each in fields(PlanOptions)], "Option of `plan_kwargs`")  # type: ignore[arg-type]
    if num_workers != 0:
        check_count(num_workers, "num_workers")
    if n_threads is not None:
        check_count(n_threads, "n_threads")
