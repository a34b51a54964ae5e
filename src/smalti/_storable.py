"""Writing a MuData that came from anywhere: columns that the file format does not know become text first."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import write_elem

from ._disk_formats import on_disk
from ._files import replacing
from ._mudata import no_pull
from ._storable_names import rename_for_file, storable_names
from ._text import as_text, text_of
from ._validate import shorten

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from ._storable_names import Renamed

TABLES = ("obs", "var")
MAPPINGS = ("obsm", "varm", "obsp", "varp", "layers")


def write_mudata(mdata: MuData, path: str | Path) -> Renamed:
    """Write a MuData whole or not at all; the object is left as it is.

    Columns of types that the format does not hold (mixed values, dates, intervals) become the text that names their
    categories, so that batches and labels read back are the same; entries of ``uns`` that cannot be written are left
    out with a warning.

    Parameters
    ----------
    mdata
        The MuData.
    path
        File (.h5mu); replaced in one step if it exists, also if ``mdata`` was read from it.

    Returns
    -------
    Names that a file cannot hold and that are others there, see :func:`~smalti._storable_names.restore_names`.

    Raises
    ------
    OSError
        If the file cannot be written; what was there before stays.
    ValueError
        If values are on disk and stay there.
    """
    lazy = [name for name, mod in mdata.mod.items() if any(map(on_disk, (mod.X, *mod.layers.values())))]
    if lazy:
        raise ValueError(
            f"The values of modality {shorten(lazy)} stay on disk and are not copied: keep the file or folder they are "
            "in, and save models without data."
        )
    with replacing(path) as beside, no_pull():
        copy = mdata.copy()
        renamed = make_storable(copy)
        copy.write(beside)
    return renamed


def make_storable(data: MuData | AnnData) -> Renamed:
    """Change, in place, what the file format cannot hold; return names that were changed."""
    renamed = rename_for_file(data)
    _storable_values(data)
    return renamed


def _storable_values(data: MuData | AnnData) -> None:
    for key in TABLES:
        table = getattr(data, key)
        changed = storable_table(table)
        if changed is not table:
            setattr(data, key, changed)
    for key in MAPPINGS:
        for name, value in (getattr(data, key, None) or {}).items():
            if isinstance(value, pd.DataFrame) and (table := storable_table(value)) is not value:
                getattr(data, key)[name] = table
    _keep_storable(data.uns, "uns")
    for modality in getattr(data, "mod", {}).values():
        _storable_values(modality)


def storable_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index and columns can be written; the same object if nothing has to change."""
    columns = {name: storable_column(table[name]) for name in table}
    changed = [name for name, column in columns.items() if column is not None]
    index = table.index
    fine_index = index.dtype == object and all(isinstance(name, str) for name in index)
    fine_name = index.name is None or (isinstance(index.name, str) and index.name not in table.columns)
    names = storable_names(table.columns)
    if not changed and fine_index and fine_name and not names:
        return table
    table = table.copy()
    for name in changed:
        table[name] = columns[name]
    if not fine_index:
        table.index = pd.Index([str(name) for name in index], dtype=object, name=index.name)
    if not fine_name:
        table.index.name = None
    return table.rename(columns=names)


def storable_column(column: pd.Series) -> pd.Series | None:
    """Return a column as it can be written, ``None`` if it can be as it is."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        kind = dtype.categories.dtype
        if pd.api.types.is_string_dtype(kind) and all(isinstance(name, str) for name in dtype.categories):
            return None if kind == np.dtype(object) else column.astype(object)
        if isinstance(kind, np.dtype) and kind.kind in "biuf":
            return None
        names = [text_of(name) for name in dtype.categories]
        if len(set(names)) < len(names) or None in names:
            return as_text(column)
        return column.cat.rename_categories(names)
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return None
    if isinstance(dtype, pd.BooleanDtype) or (pd.api.types.is_integer_dtype(dtype) and not _is_sparse(dtype)):
        return None
    if _is_sparse(dtype):
        return pd.Series(np.asarray(column), index=column.index)
    if pd.api.types.is_float_dtype(dtype):
        return column.astype(float)
    if dtype != np.dtype(object):  # strings of every kind, dates, intervals, complex numbers
        return as_text(column)
    return None if all(isinstance(value, str) for value in column.dropna()) else narrow(column)


def narrow(column: pd.Series) -> pd.Series:
    """Return a column of objects as numbers or truth values if that is what all of them are, else as text."""
    known = column.dropna()
    kind = pd.api.types.infer_dtype(known, skipna=True)
    if kind == "boolean":
        return column.astype("boolean" if len(known) < len(column) else bool)
    if kind in ("integer", "floating", "mixed-integer-float"):
        numbers = pd.to_numeric(column).astype(float)
        whole = (numbers.dropna() % 1 == 0).all() and numbers.abs().max() < 2**53
        if not whole:
            return numbers
        return numbers.astype("Int64" if len(known) < len(column) else "int64")
    return as_text(column)


def _is_sparse(dtype: Any) -> bool:
    return isinstance(dtype, pd.SparseDtype)


def _keep_storable(entries: MutableMapping[str, Any], where: str) -> None:
    """Remove from a mapping what cannot be written, with a warning that names it."""
    for old, new in storable_names(entries).items():
        entries[new] = entries.pop(old)
    for name in list(entries):
        value = entries[name]
        if isinstance(value, str | bool | int | float | np.generic) or (
            isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        ):
            continue
        if isinstance(value, dict):
            entries[name] = kept = dict(value)
            _keep_storable(kept, f"{where}[{name!r}]")
            continue
        if isinstance(value, pd.DataFrame):
            entries[name] = value = storable_table(value)
        if value is None or not _can_be_written(value):
            del entries[name]
            if value is not None:
                warnings.warn(
                    f"`{where}[{name!r}]` is a {type(value).__name__}, which a MuData file cannot hold; it is left out "
                    "of the file.",
                    UserWarning,
                    stacklevel=2,
                )


def _can_be_written(value: Any) -> bool:
    if sp.issparse(value):
        return value.format in ("csr", "csc")
    with h5py.File("scratch", "w", driver="core", backing_store=False) as file:
        try:
            write_elem(file, "x", value)
        except Exception:  # noqa: BLE001
            return False
    return True
