"""Who trains with what, and who is for testing: the splits of the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smalti.benchmark._data import PAIRED, TEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.benchmark._data import PairedData

TEST_SHARE, PAIRED_SHARE, FIRST_SHARE = 0.2, 0.5, 0.25


def mosaic_split(data: PairedData, seed: int = 0) -> NDArray[np.str_]:
    """Make a mosaic of the cells with both modalities, and hide a fifth of the pairs.

    Parameters
    ----------
    data
        The data.
    seed
        Of the draw.

    Returns
    -------
    ``(n_cells,)`` role of each cell: ``"test"`` (a fifth; both profiles train as if of two cells); of the rest half
    ``"paired"`` and a quarter each the name of the one modality that is left. Cells that were measured in one modality
    keep it.
    """
    first, second = data.modalities
    roles = _single(data)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(data.complete))
    n_test = round(TEST_SHARE * len(order))
    rest = order[n_test:]
    n_paired, n_first = round(PAIRED_SHARE * len(rest)), round(FIRST_SHARE * len(rest))
    roles[order[:n_test]] = TEST
    roles[rest[:n_paired]] = PAIRED
    roles[rest[n_paired : n_paired + n_first]] = first
    roles[rest[n_paired + n_first :]] = second
    return roles.astype(str)


def bridge_split(data: PairedData, seed: int) -> NDArray[np.str_]:
    """Hide a fifth of the pairs; all others stay."""
    roles, both = _single(data), np.flatnonzero(data.complete)
    roles[both] = PAIRED
    roles[np.random.default_rng(seed).permutation(both)[: round(TEST_SHARE * len(both))]] = TEST
    return roles.astype(str)


def batch_split(data: PairedData, seed: int) -> NDArray[np.str_]:
    """Hide all pairs of one batch, another one by seed, and none of the others."""
    roles, both = _single(data), data.complete
    batches = np.unique(data.batch[both])
    hidden = batches[::-1][seed % len(batches)]
    roles[both] = np.where(data.batch[both] == hidden, TEST, PAIRED)
    return roles.astype(str)


def paired_split(data: PairedData, seed: int) -> NDArray[np.str_]:
    """Hide nothing: every cell trains with both modalities, whatever the seed."""
    return np.full(data.n_cells, PAIRED)


def _single(data: PairedData) -> NDArray[Any]:
    first, second = data.modalities
    return np.where(data.measured[first] & ~data.measured[second], first, second).astype(object)
