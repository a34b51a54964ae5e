"""What the files of a mosaic hold, opened without reading their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata.abc import CSCDataset

from smalti._disk_formats import DiskCSR, MemoryMatrix, disk_matrix, on_disk
from smalti._validate import check_keys, check_unique, shorten

from ._containers import FEATURE_TYPES, modality_name
from ._open import open_modality, open_store, read_table
from ._values import matrix_of

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData

    from smalti._disk import DiskMatrix

PathLike = str | Path
Layers = str | Mapping[str, str] | None


@dataclass(frozen=True)
class Part:
    """The cells of one source in one modality."""

    source: str
    modality: str
    matrix: DiskMatrix
    """``(n, G)``, all columns of the file."""
    columns: np.ndarray[Any, np.dtype[np.int64]]
    """Columns of it that belong to the modality."""
    var: pd.DataFrame
    """One row per such column, named by feature."""
    obs: pd.DataFrame
    """One row per cell, named by it."""


@dataclass(frozen=True)
class Source:
    """One sample: its modalities, in which the same name is the same cell, and what is known of its cells."""

    name: str
    parts: tuple[Part, ...]
    obs: pd.DataFrame | None = None
    """Columns that belong to no modality."""


def open_source(name: str, where: PathLike | Mapping[str, PathLike], layers: Layers) -> Source:
    """Open the file or files of one sample.

    Parameters
    ----------
    name
        Name of the sample.
    where
        A file of several modalities, or a file with one modality for each name.
    layers
        Layer with the values, for all or by modality.
    """
    if not isinstance(where, Mapping):
        return _open_file(name, Path(where), layers)
    parts: list[Part] = []
    for modality, path in where.items():
        adata = _anndata(Path(path))
        parts.append(_part(name, str(modality), adata, layers))
    return Source(name, tuple(parts))


def _open_file(name: str, path: Path, layers: Layers) -> Source:
    store = _store(path)
    if "mod" in store:
        names = [str(key) for key in store["mod"].attrs.get("mod-order", sorted(store["mod"]))]
        parts = tuple(_part(name, key, open_modality(store["mod"][key]), layers) for key in names)
        obs = read_table(store["obs"]) if "obs" in store else None
        return Source(name, parts, obs if obs is None else obs[[column for column in obs if ":" not in str(column)]])
    if "matrix" in store and "features" in store["matrix"]:
        return Source(name, _of_10x(name, store["matrix"]))
    adata = _anndata(path)
    kinds = list(dict.fromkeys(adata.var[FEATURE_TYPES])) if FEATURE_TYPES in adata.var else []
    if len(kinds) < 2:
        raise ValueError(
            f"{path} holds one modality only; say which, `{{{name!r}: {{'rna': {path.name!r}}}}}`, and name the files "
            "of the other modalities of the same cells beside it."
        )
    whole = _part(name, "all", adata, layers if isinstance(layers, str) else None)
    return Source(name, _split(whole, adata.var[FEATURE_TYPES].to_numpy()))


def _store(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return open_store(path)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a .h5ad, .h5mu, .zarr or a .h5 of 10x Genomics "
            f"({' '.join(f'{type(error).__name__}: {error}'.split())[:200]})."
        ) from error


def _anndata(path: Path) -> AnnData:
    store = _store(path)
    if "X" not in store or "obs" not in store:
        raise ValueError(f"{path} holds no AnnData: expected `X`, `obs` and `var`, found {shorten(store)}.")
    return open_modality(store)


def _part(source: str, modality: str, adata: AnnData, layers: Layers) -> Part:
    where = f"{modality} of {source}"
    layer = layers.get(modality) if isinstance(layers, Mapping) else layers
    if not isinstance(layer, str | None):
        raise TypeError(f"Expected `layers` to be a name or names by modality, found {layers!r}.")
    if layer is not None:
        check_keys([layer], list(adata.layers), f"Layer of modality {where!r}")
    x = adata.X if layer is None else adata.layers[layer]
    names = adata.obs_names.astype(str)
    check_unique(names.to_numpy(), f"Names of cells of modality {where!r}")
    if not adata.var_names.is_unique:  # 10x files name genes twice
        adata.var_names_make_unique()
    lazily = on_disk(x) and not isinstance(x, CSCDataset)  # which has to be turned round in memory
    matrix = disk_matrix(x, where) if lazily else MemoryMatrix(matrix_of(adata, layer, where))
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"Modality {where!r} holds values of type {matrix.dtype}, expected numbers.")
    return Part(source, modality, matrix, np.arange(adata.n_vars), adata.var, adata.obs.set_axis(names))


def _of_10x(source: str, group: h5py.Group) -> tuple[Part, ...]:
    """Return the modalities of a matrix as Cell Ranger writes it, whose columns are the cells."""
    features = group["features"]

    def text(key: str) -> np.ndarray[Any, Any]:
        return np.asarray(features[key].asstr()[:], dtype=object)

    kinds, names = text("feature_type"), pd.Index(text("name"))
    var = pd.DataFrame({"gene_ids": text("id"), FEATURE_TYPES: kinds}, index=names)
    cells = pd.Index(np.asarray(group["barcodes"].asstr()[:], dtype=object))
    check_unique(cells.to_numpy(), f"Names of cells of {source!r}")
    if not names.is_unique:
        from anndata.utils import make_index_unique

        var.index = make_index_unique(names)
    matrix = DiskCSR(group, (len(cells), len(var)))
    whole = Part(source, "all", matrix, np.arange(len(var)), var, pd.DataFrame(index=cells))
    return _split(whole, kinds)


def _split(whole: Part, kinds: np.ndarray[Any, Any]) -> tuple[Part, ...]:
    out = []
    for kind in dict.fromkeys(kinds.tolist()):
        at = np.flatnonzero(kinds == kind)
        out.append(replace(whole, modality=modality_name(str(kind)), columns=at, var=whole.var.iloc[at]))
    return tuple(out)
