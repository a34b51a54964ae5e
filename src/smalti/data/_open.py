"""Opening a mosaic on disk without reading its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset

from smalti._disk_formats import fast_codecs
from smalti._mudata import build_mudata
from smalti._validate import check_path, shorten

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

TABLES = ("obsm", "varm")


def open_mosaic(path: str | Path) -> MuData:
    """Open a mosaic whose values stay on disk.

    Models are set up, trained and asked on what this returns as on any MuData; they read values in pieces. Names,
    tables of ``.obs`` and ``.var``, ``.obsm``, ``.varm`` and ``.uns`` are read into memory; graphs of cells (``.obsp``)
    and ``.raw`` are left out. What is not a model, such as :func:`smalti.tl.describe_mosaic`, reads a whole modality
    when it needs its values.

    Parameters
    ----------
    path
        ``.h5mu``, or a ``.zarr`` folder of a MuData, such as :func:`write_mosaic` writes. It must stay as it is for as
        long as the object is used.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is of another kind or damaged.

    Examples
    --------
    >>> mdata = sm.data.open_mosaic("atlas.zarr")  # doctest: +SKIP
    >>> sm.model.CLUE.setup_mudata(mdata, batch_key="source")  # doctest: +SKIP
    """
    path = check_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        store = open_store(path)
        names = [str(name) for name in store["mod"].attrs.get("mod-order", [])]
        names += [name for name in sorted(store["mod"]) if name not in names]
        modalities = {name: open_modality(store["mod"][name]) for name in names}
        obs = read_table(store["obs"])
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path} cannot be opened as a MuData on disk ({reason}). "
            "Expected a .h5mu file or a .zarr folder of a MuData; make one of other files with `sm.data.write_mosaic`."
        ) from error
    mdata = build_mudata(modalities)
    missing = mdata.obs_names.difference(obs.index)
    if len(missing):
        raise ValueError(f"{path} has cells that its own table does not name, first {shorten(missing)}.")
    mdata.obs = obs.loc[mdata.obs_names].copy()
    for key, value in (read_elem(store["uns"]) if "uns" in store else {}).items():
        mdata.uns[key] = value
    return mdata


def open_store(path: Path) -> Any:
    """Open a file or folder to read, as a group of HDF5 or zarr."""
    if not path.is_dir():
        return h5py.File(path, "r")
    import zarr

    return zarr.open_group(path, mode="r")


def open_modality(group: Any) -> AnnData:
    """Return an AnnData whose matrices stay on disk."""
    tables = {key: read_elem(group[key]) for key in TABLES if key in group}
    return AnnData(
        X=_lazy(group, "X") if "X" in group else None,
        obs=read_elem(group["obs"]),
        var=read_elem(group["var"]),
        uns=read_elem(group["uns"]) if "uns" in group else {},
        layers={key: _lazy(group["layers"], key) for key in group["layers"]} if "layers" in group else {},
        **tables,
    )


def read_table(group: Any) -> pd.DataFrame:
    """Return a table of cells or features."""
    table: pd.DataFrame = read_elem(group)
    return table


def _lazy(group: Any, key: str) -> Any:
    """Return a matrix on disk as AnnData takes it."""
    with fast_codecs():
        element = group[key]
    kind = element.attrs.get("encoding-type", "array")
    return sparse_dataset(element) if kind in ("csr_matrix", "csc_matrix") else element
