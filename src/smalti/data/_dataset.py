"""Minibatches of a mosaic: every modality in its own matrix, one row map each."""

from __future__ import annotations

from copy import copy
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ._reader import DiskReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from smalti.nn import SparseRows

    from ._reader import ModalityReader


class Cells(NamedTuple):
    """Positions of cells in a minibatch by what was measured of them, ``(n,)`` int64 each, ascending.

    They are made where the minibatch is: taking the cells of a boolean mask on a GPU would have to wait for it.
    """

    having: dict[str, Tensor]
    """Cells of each modality."""
    pairs: dict[tuple[str, str], Tensor]
    """Cells of two modalities, for each pair in the order of set-up."""
    several: dict[str, Tensor]
    """Cells of each modality that have at least one other."""
    patterns: dict[tuple[str, ...], Tensor]
    """Cells that have exactly these modalities, for the patterns of the minibatch but the empty one."""

    def both(self, a: str, b: str) -> Tensor:
        """Return the cells of two modalities, in any order."""
        return self.pairs[(a, b) if (a, b) in self.pairs else (b, a)]


def find_cells(presence: NDArray[np.bool_], names: Sequence[str]) -> Cells:
    """Return the cells of a minibatch by what was measured.

    Parameters
    ----------
    presence
        ``(B, M)`` bool.
    names
        Names of the ``M`` modalities.
    """
    columns = dict(zip(names, presence.T, strict=True))
    several = presence.sum(axis=1) >= 2
    codes = presence @ (1 << np.arange(len(names)))
    found = [int(code) for code in np.unique(codes) if code]
    return Cells(
        having={name: _at(here) for name, here in columns.items()},
        pairs={(a, b): _at(columns[a] & columns[b]) for a, b in combinations(names, 2)},
        several={name: _at(here & several) for name, here in columns.items()},
        patterns={tuple(name for m, name in enumerate(names) if code >> m & 1): _at(codes == code) for code in found},
    )


def _at(chosen: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen))


class MosaicBatch(TypedDict):
    """One minibatch of ``B`` cells of a mosaic of ``M`` modalities; what datasets yield and every network reads."""

    batch: Tensor
    """``(B, 1)`` int64, code of each cell's batch (donor, lane, study), 0 without a ``batch_key``."""
    labels: Tensor
    """``(B, 1)`` int64, code of each cell's label, -1 where not known."""
    present: Tensor
    """``(B, M)`` bool: which cell was measured in which modality, in the order of set-up."""
    index: Tensor
    """``(B,)`` int64, position of each cell in ``mdata.obs_names``."""
    values: dict[str, SparseRows | Tensor]
    """By modality, the values of all ``B`` cells, sparse rows or ``(B, G)``; absent cells are empty rows. Modalities
    that the data do not have at all are left out."""
    components: dict[str, SparseRows | Tensor]
    """The same for modalities whose encoders see given components (a key of ``.obsm``), ``(B, k)``."""
    cells: Cells
    """Positions of the cells that have a modality, two, or exactly some; modalities that the data do not have at all
    are left out."""
    missing: dict[str, Tensor]
    """For modalities of which some values are missing (NaN), which, ``(B, G)`` bool. Networks see means in their place,
    likelihoods leave them out."""


class MosaicDataset(Dataset[MosaicBatch]):
    """Cells of a mosaic by position: ``dataset[[3, 1, 2]]`` is the :class:`MosaicBatch` of three cells.

    Parameters
    ----------
    readers
        Reader of the values of each modality that the data have.
    components
        Reader of given components, for modalities that have some.
    missing
        Reader of what is missing, sparse, for modalities that lack some values.
    maps
        Row map of each modality, ``(n_obs,)`` int64, ``-1`` where absent.
    batch, labels
        ``(n_obs,)`` int64 codes.
    presence
        ``(n_obs, M)`` bool.
    names
        Names of the ``M`` modalities.
    indices
        Cells of this dataset; all by default.
    """

    def __init__(
        self,
        readers: Mapping[str, ModalityReader],
        maps: Mapping[str, NDArray[np.int64]],
        presence: NDArray[np.bool_],
        names: Sequence[str],
        *,
        batch: NDArray[np.int64],
        labels: NDArray[np.int64],
        components: Mapping[str, ModalityReader] | None = None,
        missing: Mapping[str, ModalityReader] | None = None,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        self.readers, self.components, self.maps = dict(readers), dict(components or {}), dict(maps)
        self.missing = dict(missing or {})
        self.batch, self.labels, self.presence = batch, labels, presence
        self._columns = [i for i, name in enumerate(names) if name in self.readers]
        self._names = [names[i] for i in self._columns]
        self.indices = np.arange(len(presence)) if indices is None else np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | Sequence[int] | NDArray[np.int64]) -> MosaicBatch:
        at = self.indices[np.atleast_1d(np.asarray(index, dtype=np.int64))]
        return MosaicBatch(  # a (B, 1) tensor comes first: Lightning reads the batch size off the first one
            batch=torch.from_numpy(self.batch[at, None]),
            labels=torch.from_numpy(self.labels[at, None]),
            present=torch.from_numpy(self.presence[at]),
            index=torch.from_numpy(at),
            values={name: reader.read(self.maps[name][at]) for name, reader in self.readers.items()},
            components={name: reader.read(self.maps[name][at]) for name, reader in self.components.items()},
            cells=self.cells_at(at),
            missing={name: self._gone(name, reader, at) for name, reader in self.missing.items()},
        )

    def cells_at(self, at: NDArray[np.int64]) -> Cells:
        """Return the cells of a minibatch of these cells of the mosaic by what was measured."""
        return find_cells(self.presence[at][:, self._columns], self._names)

    @property
    def on_disk(self) -> bool:
        """Whether the values of some modality are read from disk."""
        return any(isinstance(reader, DiskReader) for reader in self.readers.values())

    @property
    def bytes_per_cell(self) -> float:
        """Memory that the values of a cell on disk take on average when they are loaded."""
        taken = [
            (reader.x.nnz * (reader.x.dtype.itemsize + (4 if reader.x.sparse else 0)))
            for reader in self.readers.values()
            if isinstance(reader, DiskReader)
        ]
        return sum(taken) / max(len(self.presence), 1)

    def loaded(self, index: Sequence[int] | NDArray[np.int64]) -> MosaicDataset:
        """Return the dataset with what lies on disk of some cells in memory; it may be asked for no others.

        Parameters
        ----------
        index
            Positions of the cells, as one would ask for them, in any order.
        """
        at = self.indices[np.asarray(index, dtype=np.int64)]
        out = copy(self)
        for part in ("readers", "components", "missing"):
            own = getattr(self, part)
            setattr(out, part, {name: reader.loaded(self.maps[name][at]) for name, reader in own.items()})
        return out

    def _gone(self, name: str, reader: Any, at: NDArray[np.int64]) -> Tensor:
        return reader.read(self.maps[name][at]).to_dense(reader.n_columns) > 0
