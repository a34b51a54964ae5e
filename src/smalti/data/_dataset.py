"""Minibatches of a mosaic: every modality in its own matrix, one row map each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._reader import ModalityReader

PRESENT = "present"
"""Minibatch key of presence, ``(B, M)`` bool."""
INDEX = "index"
"""Minibatch key of the position of each cell in ``mdata.obs_names``, ``(B,)`` int64."""


def to_device(batch: dict[str, Any], device: Any) -> dict[str, Any]:
    """Return a minibatch with all its tensors on ``device``."""
    return {
        key: type(value)(*(part.to(device) for part in value)) if isinstance(value, tuple) else value.to(device)
        for key, value in batch.items()
    }


class MosaicDataset(Dataset[dict[str, Any]]):
    """Cells of a mosaic by position.

    ``dataset[[3, 1, 2]]`` returns one minibatch, a dictionary of

    - the columns of ``obs``, ``(B, 1)`` int64 each, under their registry keys,
    - ``"present"``, ``(B, M)`` bool, and ``"index"``, ``(B,)`` int64,
    - one block per reader: :class:`~smalti.nn.SparseRows` or a dense ``(B, G)`` tensor. Absent cells are empty rows.

    Parameters
    ----------
    readers
        Block name to reader.
    maps
        Block name to row map, ``(n_obs,)`` int64, ``-1`` where absent.
    obs
        Codes of ``obs`` columns, ``(n_obs,)`` int64 each.
    presence
        ``(n_obs, M)`` bool.
    indices
        Cells of this dataset; all by default.
    """

    def __init__(
        self,
        readers: Mapping[str, ModalityReader],
        maps: Mapping[str, NDArray[np.int64]],
        obs: Mapping[str, NDArray[np.int64]],
        presence: NDArray[np.bool_],
        indices: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        self.readers, self.maps, self.obs, self.presence = dict(readers), dict(maps), dict(obs), presence
        self.indices = np.arange(len(presence)) if indices is None else np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | Sequence[int] | NDArray[np.int64]) -> dict[str, Any]:
        at = self.indices[np.atleast_1d(np.asarray(index, dtype=np.int64))]
        # a (B, 1) tensor comes first: Lightning reads the batch size off the first one
        batch: dict[str, Any] = {key: torch.from_numpy(codes[at, None]) for key, codes in self.obs.items()}
        batch[PRESENT] = torch.from_numpy(self.presence[at])
        batch[INDEX] = torch.from_numpy(at)
        for key, reader in self.readers.items():
            batch[key] = reader.read(self.maps[key][at])
        return batch
