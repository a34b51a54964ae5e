"""Minibatches that hold pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._sampler import EpochSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class MosaicBatchSampler(EpochSampler):
    """Draws batches in which a given share of the cells is paired.

    Paired and other cells are two streams, each shuffled anew whenever it is exhausted, so that every cell of a stream
    is visited equally often. An epoch has as many batches as it takes to draw each cell once on average.

    For data on disk (:attr:`locality`) streams are not shuffled as a whole: runs of neighbouring cells come in random
    order and are mixed in windows, see :class:`Locality`. All else holds as in memory.

    Under distributed training every process draws the same batches and keeps every ``world_size``-th of them.

    Parameters
    ----------
    paired
        ``(n,)`` bool.
    batch_size
        Cells per batch.
    paired_share
        Smallest share of paired cells in a batch, in ``[0, 1]``; if the data have more, they keep theirs.
    seed
        Seed; each epoch has its own stream.
    """

    def __init__(self, paired: NDArray[np.bool_], batch_size: int, *, paired_share: float = 0.5, seed: int = 0) -> None:
        n = len(paired)
        super().__init__(seed)
        self.batch_size = min(batch_size, n)
        if self.batch_size == 1:  # too small for one of each: all cells are one stream
            paired = np.ones(n, dtype=bool)
        self.streams = [np.flatnonzero(paired), np.flatnonzero(~paired)]
        n_paired, n_other = map(len, self.streams)
        wanted = round(max(n_paired / n, paired_share) * self.batch_size)
        # at least one of each kind that there is, or its cells would never be visited
        wanted = min(max(wanted, min(n_paired, 1)), n_paired, self.batch_size - min(n_other, 1))
        self.sizes = [wanted, min(self.batch_size - wanted, n_other)]
        self.n_batches = max(1, int(np.ceil(n / max(sum(self.sizes), 1))))

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = self.process()
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        usable = self.n_usable(world)
        drawn = max(self.n_batches, usable)  # with more processes than batches, some more
        draws = [self._draw(rng, cells, size, drawn) for cells, size in zip(self.streams, self.sizes, strict=True)]
        for i in range(rank, usable, world):
            yield np.concatenate([draw[i] for draw in draws]).tolist()

    def _draw(self, rng: np.random.Generator, cells: NDArray[np.int64], size: int, n_batches: int) -> NDArray[np.int64]:
        """Return ``(n_batches, size)`` cells without repeats inside a batch."""
        if size == 0 or len(cells) == 0:
            return np.empty((n_batches, 0), dtype=np.int64)
        per_pass = len(cells) // size
        rows: list[NDArray[np.int64]] = []
        left = cells[:0]
        for i in range(int(np.ceil(n_batches / per_pass))):
            order = self.order(rng, cells, size, i * per_pass * size)
            if self.locality is not None:  # what one pass leaves over comes first in the next
                order = np.concatenate([left, order[~np.isin(order, left)]])
                left = order[per_pass * size :]
            rows.append(order[: per_pass * size].reshape(per_pass, size))
        return np.concatenate(rows)[:n_batches]
