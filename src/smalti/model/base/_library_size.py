"""For which library size and batch a modality is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from smalti._text import text_of
from smalti._validate import check_choice, check_positive
from smalti.data import BATCH_WORDS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from smalti.data import MosaicBatch
    from smalti.model.parts import MosaicInputs

Library = str | dict[int, float] | float
"""A word, one number for all cells, or one per position."""
AVERAGE = -1
"""Batch code of an average batch."""


def read_batch(batch: str, categories: list[str]) -> int | None:
    """Return the code of a batch to predict as, -1 for the average, ``None`` for each cell's own."""
    if batch == "own":
        return None
    if batch == "average":
        return AVERAGE
    name = text_of(batch)
    if name not in categories:
        check_choice(batch, (*BATCH_WORDS, *categories), "batch")
    return categories.index(str(name))


def read_library(library_size: str | float | ArrayLike, cells: NDArray[np.int64]) -> Library:
    """Check ``library_size``: a word, a number, or one number for each of the ``cells``, in their order."""
    if isinstance(library_size, str):
        return str(check_choice(library_size, ("source", "mean", "observed"), "library_size"))
    given = np.asarray(library_size)
    if given.dtype.kind not in "fiu":
        raise TypeError(f"Expected `library_size` to be a word, a number or numbers, found {library_size!r:.60}.")
    given = given.astype(float)
    if given.ndim == 0:
        return float(check_positive(float(given), "library_size"))
    if given.shape != (len(cells),):
        raise ValueError(f"Expected `library_size` to be a number or {len(cells)} of them, found shape {given.shape}.")
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise ValueError("Expected `library_size` to be positive and finite for every cell.")
    return dict(zip(cells.tolist(), given.tolist(), strict=True))


def target_log_library(
    inputs: MosaicInputs,
    minibatch: MosaicBatch,
    source: str | None,
    target: str,
    library: Library,
) -> torch.Tensor:
    """Return the log library size to predict for, ``(B,)``."""
    n, present = len(minibatch["batch"]), inputs.present(minibatch)
    mean = inputs.mean_log_library[inputs.position(target)].expand(n)
    if isinstance(library, dict):
        return torch.tensor(
            [library[i] for i in minibatch["index"].tolist()], device=mean.device, dtype=mean.dtype
        ).log()
    if not isinstance(library, str):
        return torch.full_like(mean, library).log()
    if library == "mean":
        return mean
    if library == "observed":
        if target not in present or not bool(present[target].all()):
            raise ValueError(
                f"`library_size='observed'` needs cells that were measured in {target!r}. Use 'source' or 'mean'."
            )
        return inputs.log_library(minibatch, target)
    if source is not None:
        return inputs.predicted_log_library(minibatch, source, target)
    total, count = torch.zeros_like(mean), torch.zeros_like(mean)
    for name, here in present.items():
        own = name == target
        guess = inputs.log_library(minibatch, name) if own else inputs.predicted_log_library(minibatch, name, target)
        # the target's own total, where it was measured, outweighs any guess
        weight = here * (1e6 if own else 1.0)
        total, count = total + weight * guess, count + weight
    return torch.where(count > 0, total / count.clamp(min=1), mean)
