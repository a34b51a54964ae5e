"""A mosaic that lies on the device: minibatches are gathered where the network is, without waiting."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from smalti.nn import SparseRows

from ._dataset import MosaicBatch, MosaicDataset
from ._reader import CSRReader, DenseReader
from ._transfer import map_cells, packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ._dataset import Cells
    from ._reader import ModalityReader

LARGEST_SHARE = 0.6
"""Share of the free memory of a device that data may take; the network, its optimiser and a step need the rest."""


class ResidentCSR:
    """Rows of a sparse matrix on a device, see :class:`CSRReader`.

    Parameters
    ----------
    reader
        The matrix in main memory; where rows begin is kept there as well, since it says how large a minibatch is.
    device
        Where it shall lie.
    """

    def __init__(self, reader: CSRReader, device: torch.device) -> None:
        self.starts, self.n_columns = reader.indptr, reader.n_columns
        self.indptr = torch.from_numpy(reader.indptr).to(device)
        small = reader.n_columns < 2**31
        self.indices = _tensor(reader.indices, np.int32 if small else np.int64).to(device)
        self.data = _tensor(reader.data, np.float32).to(device)

    def read(self, rows: NDArray[np.int64], there: Tensor) -> SparseRows:
        """Return rows, -1 for absent ones; ``there`` are the same numbers on the device."""
        safe = np.maximum(rows, 0)
        n = int(np.where(rows >= 0, self.starts[safe + 1] - self.starts[safe], 0).sum())
        kept = there.clamp(min=0)
        start = self.indptr[kept]
        counts = torch.where(there >= 0, self.indptr[kept + 1] - start, 0)
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        shift = torch.repeat_interleave(start - indptr[:-1], counts, output_size=n)
        at = torch.arange(n, device=there.device) + shift
        return SparseRows(indptr, self.indices[at].long(), self.data[at])


class ResidentDense:
    """Rows of a dense matrix on a device, see :class:`DenseReader`."""

    def __init__(self, reader: DenseReader, device: torch.device) -> None:
        self.x = _tensor(reader.x, np.float32).to(device)

    def read(self, rows: NDArray[np.int64], there: Tensor) -> Tensor:
        """Return rows, zeros for absent ones; ``there`` are the same numbers on the device."""
        return torch.where((there >= 0)[:, None], self.x[there.clamp(min=0)], 0.0)


class ResidentDataset(Dataset[MosaicBatch]):
    """The same minibatches as a :class:`MosaicDataset`, bit for bit, made on a device.

    Of a minibatch only the positions of its cells travel, in one copy.

    Parameters
    ----------
    dataset
        The dataset in main memory; see :func:`can_reside`.
    device
        Where it shall lie.
    """

    def __init__(self, dataset: MosaicDataset, device: Any) -> None:
        self.host, self.device = dataset, torch.device(device)
        self.readers = {name: _resident(x, self.device) for name, x in dataset.readers.items()}
        self.components = {name: _resident(x, self.device) for name, x in dataset.components.items()}
        self.missing = {name: _resident(x, self.device) for name, x in dataset.missing.items()}
        self.batch, self.labels, self.presence = (
            torch.from_numpy(x).to(self.device) for x in (dataset.batch, dataset.labels, dataset.presence)
        )
        self.maps = {name: torch.from_numpy(dataset.maps[name]).to(self.device) for name in dataset.readers}

    def subset(self, indices: NDArray[np.int64]) -> ResidentDataset:
        """Return a dataset of other cells of the same mosaic; nothing is copied."""
        out, host = copy(self), copy(self.host)
        host.indices = np.asarray(indices, dtype=np.int64)
        out.host = host
        return out

    def __len__(self) -> int:
        return len(self.host)

    def __getitem__(self, index: int | Sequence[int] | NDArray[np.int64]) -> MosaicBatch:
        host = self.host
        at = host.indices[np.atleast_1d(np.asarray(index, dtype=np.int64))]
        there, cells = self._moved(at, host.cells_at(at))
        rows = {name: (host.maps[name][at], place[there]) for name, place in self.maps.items()}
        return MosaicBatch(
            batch=self.batch[there, None],
            labels=self.labels[there, None],
            present=self.presence[there],
            index=there,
            values={name: reader.read(*rows[name]) for name, reader in self.readers.items()},
            components={name: reader.read(*rows[name]) for name, reader in self.components.items()},
            cells=cells,
            missing={
                name: reader.read(*rows[name]).to_dense(reader.n_columns) > 0 for name, reader in self.missing.items()
            },
        )

    def _moved(self, at: NDArray[np.int64], cells: Cells) -> tuple[Tensor, Cells]:
        parts = [torch.from_numpy(at)]
        map_cells(cells, lambda x: parts.append(x) or x)  # type: ignore[func-returns-value]
        buffer, starts = packed(parts)
        views = iter(unpacked(buffer.to(self.device, non_blocking=True), starts, parts))
        return next(views), map_cells(cells, lambda _: next(views))


def _tensor(x: NDArray[Any], dtype: Any) -> Tensor:
    x = x.astype(dtype, copy=False)
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def _resident(reader: ModalityReader, device: torch.device) -> Any:
    return ResidentCSR(reader, device) if isinstance(reader, CSRReader) else ResidentDense(reader, device)  # type: ignore[arg-type]


def resident_bytes(dataset: MosaicDataset) -> int | None:
    """Return the memory that a dataset would take on a device; ``None`` if it does not lie in main memory whole."""
    total = dataset.presence.nbytes + 8 * len(dataset.presence) * (2 + len(dataset.maps))
    for part in (dataset.readers, dataset.components, dataset.missing):
        for reader in part.values():
            if isinstance(reader, CSRReader):
                total += reader.indptr.nbytes + 8 * len(reader.data)
            elif isinstance(reader, DenseReader):
                total += 4 * reader.x.size
            else:
                return None
    return total


def can_reside(dataset: MosaicDataset, device: Any) -> bool:
    """Return whether a dataset fits on a GPU with room for everything else; never on a processor."""
    device, needed = torch.device(device), resident_bytes(dataset)
    if device.type != "cuda" or needed is None:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return needed <= LARGEST_SHARE * free
