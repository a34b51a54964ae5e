"""Minibatches with as many cells of every modality, and labelled ones in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import check_count, check_in_range

from ._sampler import EpochSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class BalancedBatchSampler(EpochSampler):
    """Draws the same number of cells of every modality, then labelled ones in which all classes are equally likely.

    The cells of a modality are shuffled and used up before any is drawn again. An epoch is as long as the largest
    modality needs; smaller ones, down to a single cell, are gone through more than once. To each modality's share
    labelled cells are appended, drawn with replacement by class, so that a class of one cell is seen in every few
    batches and so is a label that few cells have.

    For data on disk (:attr:`locality`) runs of neighbouring cells are shuffled and mixed in windows; the labelled cells
    that are appended come from anywhere, so that reading is slower the more of them there are.

    Under distributed training every process draws the same batches and keeps every ``world_size``-th of them.

    Parameters
    ----------
    presence
        ``(n, M)`` bool.
    labels
        ``(n,)`` codes, -1 for no label.
    batch_size
        Cells per batch, divided equally among modalities; labelled ones come on top.
    labelled_share
        Number of labelled cells per modality, as a share of its other cells.
    balance
        How often a class is drawn: proportional to its size to the power ``1 - balance``. 1 draws classes equally, 0
        labelled cells equally.
    seed
        Seed; each epoch has its own stream.
    """

    def __init__(
        self,
        presence: NDArray[np.bool_],
        labels: NDArray[np.int64],
        batch_size: int,
        *,
        labelled_share: float = 0.25,
        balance: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        check_count(batch_size, "batch_size")
        check_in_range(balance, 0, 1, "balance")
        self.streams = [np.flatnonzero(column) for column in presence.T]
        self.streams = [cells for cells in self.streams if len(cells)]
        share = max(1, batch_size // max(len(self.streams), 1))
        self.sizes = [min(share, len(cells)) for cells in self.streams]
        self.labelled = [cells[labels[cells] >= 0] for cells in self.streams]
        self.n_labelled = [round(labelled_share * share) if len(cells) else 0 for cells in self.labelled]
        self.chances = [_class_balanced(labels[cells], balance) for cells in self.labelled]
        self.n_batches = max(int(np.ceil(len(c) / size)) for c, size in zip(self.streams, self.sizes, strict=True))

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = self.process()
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        usable = self.n_usable(world)
        drawn = []
        for cells, size in zip(self.streams, self.sizes, strict=True):
            passes = int(np.ceil(max(self.n_batches, usable) * size / len(cells))) + 1
            drawn.append(np.concatenate([self.order(rng, cells, size, i * len(cells)) for i in range(passes)]))
        for i in range(usable):
            parts = [cells[i * size : (i + 1) * size] for cells, size in zip(drawn, self.sizes, strict=True)]
            extra = [
                rng.choice(cells, n, p=chance)
                for cells, n, chance in zip(self.labelled, self.n_labelled, self.chances, strict=True)
                if n
            ]
            if i % world == rank:
                yield np.concatenate([*parts, *extra]).tolist()


def _class_balanced(labels: NDArray[np.int64], balance: float) -> NDArray[np.float64]:
    """Return the chance of each labelled cell, ``(n,)``."""
    if len(labels) == 0:
        return np.empty(0)
    chance = np.bincount(labels).astype(np.float64)[labels] ** -balance
    return chance / chance.sum()
