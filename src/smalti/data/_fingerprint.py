"""Whether data are still what they were: cheap fingerprints of everything that a model reads."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from smalti._disk import DiskMatrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from mudata import MuData
    from numpy.typing import NDArray

WHOLE = 50_000_000
"""Numbers of an array up to which all of them are summed; of larger ones, as many in evenly spaced stretches."""
SAMPLE = 100_000
"""Numbers whose positions count, too."""
STRETCHES = 1000


@dataclass(frozen=True)
class ModalityPrint:
    """What a modality looked like."""

    cells: pd.Index
    features: pd.Index
    rows: NDArray[Any]
    values: tuple[Any, ...]
    """Shape, type and checksums of matrix and components."""


@dataclass(frozen=True)
class Fingerprint:
    """What a MuData looked like, as far as a model reads it."""

    cells: pd.Index
    columns: dict[str, pd.Series]
    modalities: dict[str, ModalityPrint]

    def differences(self, other: Fingerprint) -> list[str]:
        """Return in words what is not as it is in ``other``, empty if nothing: ``"values of modality 'a'"``."""
        found = [] if self.cells.equals(other.cells) else ["names or order of cells"]
        for name in self.columns.keys() | other.columns.keys():
            mine, theirs = self.columns.get(name), other.columns.get(name)
            if mine is None or theirs is None or not (mine.dtype == theirs.dtype and mine.equals(theirs)):
                found.append(f"column {name!r} of `mdata.obs`")
        for name in self.modalities.keys() | other.modalities.keys():
            a, b = self.modalities.get(name), other.modalities.get(name)
            if a is None or b is None:
                found.append(f"modality {name!r} as a whole")
                continue
            if not (a.cells.equals(b.cells) and np.array_equal(a.rows, b.rows)):
                found.append(f"cells of modality {name!r}")
            if not a.features.equals(b.features):
                found.append(f"features of modality {name!r}")
            if a.values != b.values:
                found.append(f"values of modality {name!r}")
        return sorted(found)

    def digest(self) -> str:
        """Return a checksum of all of it, in hexadecimal digits."""
        sink = hashlib.sha256()
        for names in (self.cells, *(column.astype(str) for column in self.columns.values())):
            sink.update("\0".join(map(str, names)).encode())
        for name, one in sorted(self.modalities.items()):
            sink.update("\0".join([name, repr(one.values), *map(str, one.features), *map(str, one.cells)]).encode())
        return sink.hexdigest()


def fingerprint(mdata: MuData, matrices: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> Fingerprint:
    """Return the fingerprint of a MuData.

    Parameters
    ----------
    mdata
        The mosaic.
    matrices
        By modality, what a model reads: values as stored and, if any, components.
    columns
        Columns of ``mdata.obs`` that it reads.
    """
    return Fingerprint(
        cells=mdata.obs_names,
        columns={name: mdata.obs[name].copy() for name in columns if name in mdata.obs},
        modalities={
            name: ModalityPrint(
                cells=mdata.mod[name].obs_names,
                features=mdata.mod[name].var_names,
                rows=np.array(mdata.obsmap[name]) if name in mdata.obsmap else np.empty(0),
                values=tuple(checksum(x) for x in arrays),
            )
            for name, arrays in matrices.items()
        },
    )


def checksum(x: Any) -> tuple[Any, ...]:
    """Return shape, type and checksums of a matrix, sparse or dense.

    The sum of all stored numbers (of bit patterns) sees a change of any of them, a checksum of an evenly spaced sample
    sees another order. Matrices of more than ``WHOLE`` numbers are summed in part, of those on disk only some stretches
    are looked at.
    """
    if isinstance(x, DiskMatrix):
        return (x.shape, str(x.dtype), *(_of_array(part) for part in x.samples()))
    parts = (x.data, x.indices, x.indptr) if sp.issparse(x) and hasattr(x, "indptr") else (np.asarray(x),)
    return (x.shape, str(x.dtype), *(_of_array(np.asarray(part)) for part in parts))


def _of_array(array: NDArray[Any]) -> tuple[int, int, int]:
    flat = array.ravel(order="K")
    if flat.dtype.kind not in "fiub":
        return flat.size, 0, 0
    sample = flat[:: max(1, flat.size // SAMPLE)]
    if flat.size <= WHOLE:
        total = _sum_of_bits(flat)
    else:
        length = WHOLE // STRETCHES
        starts = np.linspace(0, flat.size - length, STRETCHES).astype(np.int64)
        total = sum(_sum_of_bits(flat[start : start + length]) for start in starts)
    return flat.size, total, zlib.crc32(sample.tobytes())


def _sum_of_bits(flat: NDArray[Any]) -> int:
    width = min(flat.dtype.itemsize, 8)
    words = np.ascontiguousarray(flat).view(f"u{width}" if width in (1, 2, 4, 8) else np.uint8)
    return int(np.add.reduce(words, dtype=np.uint64))
