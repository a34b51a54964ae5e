"""Minibatches on their way to a device: one copy each, prepared while the device works on the one before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from smalti.nn import SparseRows

from ._dataset import Cells, MosaicBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

ALIGNED = 16
"""Bytes at whose multiples tensors begin in a buffer, enough for every number type."""


def map_tensors(minibatch: MosaicBatch, f: Callable[[Tensor], Tensor]) -> MosaicBatch:
    """Return a minibatch with ``f`` of every tensor, always in the same order."""

    def block(x: SparseRows | Tensor) -> SparseRows | Tensor:
        return SparseRows(*(f(part) for part in x)) if isinstance(x, SparseRows) else f(x)

    return MosaicBatch(
        batch=f(minibatch["batch"]),
        labels=f(minibatch["labels"]),
        present=f(minibatch["present"]),
        index=f(minibatch["index"]),
        values={name: block(x) for name, x in minibatch["values"].items()},
        components={name: block(x) for name, x in minibatch["components"].items()},
        cells=map_cells(minibatch["cells"], f),
        missing={name: f(x) for name, x in minibatch["missing"].items()},
    )


def map_cells(cells: Cells, f: Callable[[Tensor], Tensor]) -> Cells:
    """Return positions of cells with ``f`` of every tensor."""
    return Cells(**{field: {key: f(at) for key, at in part.items()} for field, part in cells._asdict().items()})


def to_device(minibatch: MosaicBatch, device: Any) -> MosaicBatch:
    """Return a minibatch with all its tensors on ``device``; they are views of one copy where that is a GPU."""
    if torch.device(device).type == "cuda":
        return pack(minibatch).on(device)
    return map_tensors(minibatch, lambda x: x.to(device))


def pack(minibatch: MosaicBatch) -> PackedBatch:
    """Return a minibatch whose tensors lie in one buffer, in memory that a GPU copies from on its own if there is one.

    Parameters
    ----------
    minibatch
        With all tensors in main memory.
    """
    parts: list[Tensor] = []
    map_tensors(minibatch, lambda x: parts.append(x) or x)  # type: ignore[func-returns-value]
    return PackedBatch(minibatch, *packed(parts))


def packed(parts: list[Tensor]) -> tuple[Tensor, list[int]]:
    """Return one buffer of bytes with all tensors, and where each of them begins."""
    starts, end = [], 0
    for part in parts:
        starts.append(end)
        end += -(-part.nbytes // ALIGNED) * ALIGNED
    buffer = torch.empty(end, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
    for start, part in zip(starts, parts, strict=True):
        buffer[start : start + part.nbytes] = part.contiguous().reshape(-1).view(torch.uint8)
    return buffer, starts


def unpacked(buffer: Tensor, starts: list[int], parts: list[Tensor]) -> list[Tensor]:
    """Return views of a buffer with the types and shapes of ``parts``."""
    return [
        buffer[start : start + part.nbytes].view(part.dtype).view(part.shape)
        for start, part in zip(starts, parts, strict=True)
    ]


@dataclass(frozen=True)
class PackedBatch:
    """A minibatch in one buffer, from :func:`pack`."""

    minibatch: MosaicBatch
    buffer: Tensor
    starts: list[int]

    def on(self, device: Any) -> MosaicBatch:
        """Return the minibatch on a device, by one copy that nothing waits for."""
        parts: list[Tensor] = []
        map_tensors(self.minibatch, lambda x: parts.append(x) or x)  # type: ignore[func-returns-value]
        views = iter(unpacked(self.buffer.to(device, non_blocking=True), self.starts, parts))
        return map_tensors(self.minibatch, lambda _: next(views))


class Ahead:
    """Minibatches of a loader, packed one ahead by a thread while the network works.

    Parameters
    ----------
    loader
        Yields :class:`MosaicBatch` in main memory; this yields :class:`PackedBatch` of the same, in the same order.
    """

    def __init__(self, loader: Iterable[MosaicBatch]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[PackedBatch]:
        source = iter(self.loader)  # which may draw a seed: not in the thread

        def coming() -> PackedBatch | None:
            minibatch = next(source, None)
            return None if minibatch is None else pack(minibatch)

        with ThreadPoolExecutor(1, thread_name_prefix="smalti-ahead") as thread:
            future = thread.submit(coming)
            while (ready := future.result()) is not None:
                future = thread.submit(coming)
                yield ready
