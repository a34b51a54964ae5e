"""Matrices of a MuData on disk, written from the first row to the last."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from smalti._mudata import no_pull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

CHUNK = 2**17
"""Values that zarr compresses together; reading fewer costs as much."""
SHARD = 2**22
"""Values in a file of zarr, a multiple of ``CHUNK``."""


def write_frame(path: Path, data: AnnData | MuData) -> None:
    """Write everything of an object whose matrices hold no value yet, in format 3 of zarr or as HDF5.

    Raises
    ------
    ImportError
        If zarr or anndata are too old for format 3.
    """
    import anndata
    import mudata

    with no_pull(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*autosharding")
        if path.suffix == ".h5mu":
            mudata.write_h5mu(path, data)
        elif path.suffix != ".zarr":
            data.write_h5ad(path)
        else:
            import zarr

            if int(zarr.__version__.split(".")[0]) < 3 or not hasattr(anndata.settings, "zarr_write_format"):
                raise ImportError(
                    f"Writing .zarr needs zarr 3 and anndata 0.12 or later, found {zarr.__version__} and "
                    f"{anndata.__version__}. Upgrade them, or write into a file of HDF5."
                )
            with anndata.settings.override(zarr_write_format=3):
                if isinstance(data, anndata.AnnData):  # whose own writer keeps a second record of what it wrote
                    anndata.io.write_elem(zarr.open_group(path, mode="w"), "/", data)
                else:
                    mudata.write_zarr(path, data)


@contextmanager
def editing(path: Path) -> Iterator[Any]:
    """Give the group of a file or folder that :func:`write_frame` wrote, to add values."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r+")
        return
    with h5py.File(path, "r+") as file:
        yield file


class MatrixWriter:
    """Replaces the matrix ``X`` of a modality by one that is written in pieces.

    In zarr, arrays are of format 3, in shards, compressed. In HDF5 they are neither cut up nor compressed, which is
    read fastest.

    Parameters
    ----------
    group
        Group of the modality, with a matrix ``X`` without values.
    shape
        ``(n, G)``.
    nnz
        Values that will be stored.
    dtype
        Type of the values.
    sparse
        Whether they are stored as CSR.
    """

    def __init__(self, group: Any, shape: tuple[int, int], nnz: int, dtype: Any, *, sparse: bool) -> None:
        self.sparse = sparse
        self._indptr = np.zeros(shape[0] + 1, dtype=np.int64)
        self._row = 0
        if sparse:
            self._group = group["X"]
            for key in ("data", "indices", "indptr"):
                del self._group[key]
            kind = np.int32 if shape[1] < np.iinfo(np.int32).max else np.int64
            self._arrays = [
                _Appender(self._group, "data", (nnz,), dtype),
                _Appender(self._group, "indices", (nnz,), kind),
            ]
        else:
            del group["X"]
            self._arrays = [_Appender(group, "X", shape, dtype)]
            self._arrays[0].array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    def add(self, rows: Any) -> None:
        """Append rows, CSR or dense."""
        if not self.sparse:
            self._arrays[0].add(rows)
            return
        n = rows.shape[0]
        self._indptr[self._row + 1 : self._row + n + 1] = self._indptr[self._row] + rows.indptr[1:]
        self._row += n
        for appender, part in zip(self._arrays, (rows.data, rows.indices), strict=True):
            appender.add(part)

    def close(self) -> None:
        """Write what is left."""
        for appender in self._arrays:
            appender.close()
        if self.sparse:
            last = _Appender(self._group, "indptr", self._indptr.shape, np.int64)
            last.add(self._indptr)
            last.close()


class _Appender:
    """An array on disk that grows along its first axis; whole shards are written at a time."""

    def __init__(self, group: Any, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        if isinstance(group, h5py.Group):
            self.array: Any = group.create_dataset(name, shape=shape, dtype=self.dtype)
            self.step = 1
        else:
            self.array, self.step = _zarr_array(group, name, shape, self.dtype)
        self.at, self._kept, self._n_kept = 0, [], 0  # type: ignore[var-annotated]

    def add(self, part: NDArray[Any]) -> None:
        self._kept.append(part.astype(self.dtype, copy=False))
        self._n_kept += len(part)
        self._write(self._n_kept // self.step * self.step)

    def close(self) -> None:
        self._write(self._n_kept)
        assert self.at == self.array.shape[0]

    def _write(self, n: int) -> None:
        if n == 0:
            return
        kept = np.concatenate(self._kept)
        for start in range(0, n, max(self.step, 1) if self.step > 1 else n):
            stop = min(start + self.step, n) if self.step > 1 else n
            self.array[self.at + start : self.at + stop] = kept[start:stop]
        self.at += n
        self._kept, self._n_kept = [kept[n:]], len(kept) - n


def _zarr_array(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, int]:
    """Return an array in shards and the rows of a shard."""
    from zarr.codecs import BloscCodec

    width = int(np.prod(shape[1:]))
    size = max(shape[0], 1)
    chunk = min(max(1, CHUNK // max(width, 1)), size)
    shard = chunk * max(1, min(SHARD // CHUNK, -(-size // chunk)))
    array = group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk, *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    )
    return array, shard
