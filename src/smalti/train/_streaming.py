"""Minibatches of data on disk: what a few of them need is read at once, while the network works on those before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from smalti.data import MosaicBatch, MosaicDataset

    Batch = Sequence[int] | NDArray[np.int64]


class StreamedBatches:
    """Minibatches of a dataset on disk, as a loader would yield them.

    The cells of several successive batches are read together, every cell once and neighbours in one go; a thread reads
    the next ones meanwhile. Memory holds what three such windows need. For a dataset in memory nothing is copied.

    Parameters
    ----------
    dataset
        The dataset.
    batches
        Positions in it of the cells of each batch; gone through anew by each iteration.
    windows
        Returns, when an iteration starts, how many successive batches are read together each time; the last number
        holds for all that follow.
    """

    def __init__(self, dataset: MosaicDataset, batches: Iterable[Batch], windows: Callable[[], Iterable[int]]) -> None:
        self.dataset, self.batches, self.windows = dataset, batches, windows

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[MosaicBatch]:
        groups = _groups(self.batches, self.windows())
        if not self.dataset.on_disk:
            yield from (self.dataset[batch] for group in groups for batch in group)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="smalti-reader") as reader:
            coming = None
            for group in groups:
                after = (reader.submit(self._load, group), group)
                if coming is not None:
                    yield from self._take(*coming)
                coming = after
            if coming is not None:
                yield from self._take(*coming)

    def _load(self, group: list[Batch]) -> MosaicDataset:
        return self.dataset.loaded(np.unique(np.concatenate([np.asarray(batch) for batch in group])))

    @staticmethod
    def _take(future: Future[MosaicDataset], group: list[Batch]) -> Iterator[MosaicBatch]:
        loaded = future.result()
        for batch in group:
            yield loaded[batch]


def _groups(batches: Iterable[Batch], sizes: Iterable[int]) -> Iterator[list[Batch]]:
    size, coming, source = 1, iter(sizes), iter(batches)
    while True:
        size = next(coming, size)
        group = list(islice(source, size))
        if not group:
            return
        yield group
