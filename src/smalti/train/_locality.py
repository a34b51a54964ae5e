"""Orders of cells that are random enough to train on and orderly enough to read from disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.data import MosaicDataset

WINDOW_BYTES = 128 * 2**20
"""Memory for the values of one window; up to three windows are in memory at a time."""
WINDOW_BATCHES = (4, 64)
"""Fewest and most batches of a window."""
RUN_VALUES = 131_072
"""Stored values of a run: fewer would make a disk jump more than it reads."""
RUNS = 32
"""Fewest runs that a window is mixed from."""


@dataclass(frozen=True)
class Locality:
    """How far an order of cells strays from the order on disk.

    Cells that lie together form runs. As many runs as fill a window, chosen at random, are mixed, and the batches of a
    window are drawn from its cells alone.
    """

    run: int
    """Cells of a run."""
    batches: int
    """Batches of a window."""

    @classmethod
    def of(cls, dataset: MosaicDataset, batch_size: int) -> Locality | None:
        """Return what suits a dataset; ``None`` for one in memory, whose cells may be drawn in any order."""
        if not dataset.on_disk:
            return None
        per_cell = max(dataset.bytes_per_cell, 1.0)
        batches = int(np.clip(WINDOW_BYTES / (per_cell * batch_size), *WINDOW_BATCHES))
        run = int(np.clip(RUN_VALUES * 8 / per_cell, 1, max(batches * batch_size // RUNS, 1)))
        return cls(run=run, batches=batches)

    def ends(self, n_batches: int, world: int = 1) -> NDArray[np.int64]:
        """Return after how many batches of an epoch each window ends; windows are of one size.

        Under distributed training a window has as many batches for each of the ``world`` processes.
        """
        share = n_batches // world if n_batches >= world else 1
        windows = max(1, round(share / self.batches))
        return np.linspace(0, share, windows + 1)[1:].round().astype(np.int64) * world

    def order(self, rng: np.random.Generator, cells: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the cells in a new order.

        Parameters
        ----------
        rng
            Source of chance.
        cells
            Cells in the order in which they lie on disk.
        ends
            After how many cells windows end.
        """
        runs = np.split(cells, np.arange(int(rng.integers(self.run)), len(cells), self.run))
        out = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
        ends = ends[(ends > 0) & (ends < len(out))]
        return np.concatenate([rng.permutation(part) for part in np.split(out, ends)])

    def hold_out(self, rng: np.random.Generator, cells: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """Return ``n`` of the cells, whole runs of neighbours, at least 20 of them where there are enough cells."""
        run = max(1, min(self.run, n // 20))
        runs = np.split(cells, np.arange(run, len(cells), run))
        return np.concatenate([runs[i] for i in rng.permutation(len(runs))])[:n]
