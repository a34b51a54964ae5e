"""What every sampler of minibatches has: epochs with a stream of their own, and a share for each process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._locality import Locality


class EpochSampler(Sampler[list[int]], ABC):
    """Draws the batches of an epoch, as lists of positions among the training cells.

    Under distributed training every process draws the same batches and keeps every ``world_size``-th of them.

    Parameters
    ----------
    seed
        Seed; each epoch has its own stream.
    """

    n_batches: int
    """Batches of an epoch, of all processes together."""
    sizes: list[int]
    """Cells that a batch takes from each of the streams that the sampler keeps."""

    locality: Locality | None = None
    """For data on disk, how far batches stray from the order of the cells there."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.epoch = seed, 0

    @abstractmethod
    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this epoch that belong to this process, and go on to the next epoch."""

    def __len__(self) -> int:
        rank, world = self.process()
        return len(range(rank, self.n_usable(world), world))

    def set_epoch(self, epoch: int) -> None:
        """Choose the stream of the next epoch, so that resumed training continues where it stopped."""
        self.epoch = epoch

    def windows(self) -> list[int]:
        """Return how many successive batches of this process lie together on disk; all of size 1 in memory."""
        world = self.process()[1]
        if self.locality is None:
            return [1] * len(self)
        return np.diff(self.locality.ends(self.n_usable(world), world) // world, prepend=0).tolist()

    def order(self, rng: np.random.Generator, cells: NDArray[np.int64], size: int, start: int = 0) -> NDArray[np.int64]:
        """Return the cells of a stream in a new order.

        Parameters
        ----------
        rng
            Source of chance.
        cells
            The stream, rising.
        size
            Cells that a batch takes of it.
        start
            Cells of the stream that were taken before in this epoch.
        """
        if self.locality is None:
            return rng.permutation(cells)
        world = self.process()[1]
        return self.locality.order(rng, cells, self.locality.ends(self.n_usable(world), world) * size - start)

    def process(self) -> tuple[int, int]:
        """Return the number of this process and how many there are; ``(0, 1)`` without distributed training."""
        return rank_and_world()

    def n_usable(self, world: int) -> int:
        """Return the batches of an epoch that ``world`` processes can share; every process needs the same number."""
        return self.n_batches if world == 1 else max(self.n_batches // world, 1) * world


MakeSampler = Callable[[NDArray[np.int64]], EpochSampler]
"""Makes the sampler out of the positions of the training cells, ``(n_train,)``."""


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process and how many there are; ``(0, 1)`` without distributed training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
