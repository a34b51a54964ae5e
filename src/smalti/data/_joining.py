"""Putting samples together: the union of their features, the cells of all, and what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from smalti._storable import narrow
from smalti._text import as_text
from smalti._validate import check_unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._sources import Part, Source


class Features(NamedTuple):
    """The features of a modality over all samples."""

    var: pd.DataFrame
    """One row per feature, in the order in which samples bring them; columns are those of the first that has it."""
    measured: pd.DataFrame | None
    """``(G, sources)`` boolean, or ``None`` if every sample measured all."""

    def columns_of(self, part: Part) -> NDArray[np.int32]:
        """Return where each column of a file belongs, ``-1`` for those of other modalities."""
        out = np.full(part.matrix.shape[1], -1, dtype=np.int32)
        out[part.columns] = self.var.index.get_indexer(part.var.index)
        return out


def join_features(parts: Sequence[Part]) -> Features:
    """Return the union of the features of one modality."""
    var = parts[0].var
    for part in parts[1:]:
        new = part.var.loc[~part.var.index.isin(var.index)]
        if len(new):
            var = pd.concat([_plain(var), _plain(new)])
    measured = pd.DataFrame({part.source: var.index.isin(part.var.index) for part in parts}, index=var.index)
    return Features(var, None if measured.to_numpy().all() else measured)


class Cells(NamedTuple):
    """The cells of all samples."""

    obs: pd.DataFrame
    """One row per cell, named so that no name repeats."""
    at: dict[tuple[str, str], NDArray[np.int64]]
    """Row of every cell of a part, by source and modality."""
    renamed: bool
    """Whether names have their sample in front."""


def join_cells(sources: Sequence[Source], source_key: str) -> Cells:
    """Return the cells of all samples: within one, the same name is the same cell, between two it never is.

    If a name occurs in two samples, every cell gets the name of its sample in front.

    Raises
    ------
    ValueError
        If samples have a column ``source_key`` already.
    """
    tables, at, start = [], {}, 0
    for source in sources:
        names = pd.Index(np.concatenate([part.obs.index.to_numpy(dtype=object) for part in source.parts])).unique()
        for part in source.parts:
            at[source.name, part.modality] = start + names.get_indexer(part.obs.index)
        table = _columns(source, names)
        if source_key in table:
            raise ValueError(
                f"Sample {source.name!r} has a column {source_key!r} in `.obs` already; name another one for samples, "
                "`source_key=...`."
            )
        table.insert(0, source_key, source.name)
        tables.append(table)
        start += len(names)
    renamed = not pd.concat([table.index.to_series() for table in tables]).is_unique
    if renamed:
        for source, table in zip(sources, tables, strict=True):
            table.index = [f"{source.name}_{name}" for name in table.index]
    obs = pd.concat(tables)
    check_unique(obs.index.to_numpy(), "Names of cells with their source in front")
    return Cells(obs, at, renamed)


def _columns(source: Source, names: pd.Index) -> pd.DataFrame:
    """Return one table of what is known of the cells of a sample."""
    out = pd.DataFrame(index=names) if source.obs is None else _plain(source.obs).reindex(names)
    for part in source.parts:
        for key, column in _plain(part.obs).items():
            column = column.reindex(names)
            if key not in out:
                out[key] = column
                continue
            both = out[key].notna() & column.notna()
            if (as_text(out[key][both]).to_numpy() == as_text(column[both]).to_numpy()).all():
                filled = out[key].astype(object).where(out[key].notna(), column)
                out[key] = filled if filled.isna().any() else narrow(filled)
            else:
                out[f"{part.modality}:{key}"] = column
    return out


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without categorical columns, which do not join."""
    table = table.copy()
    for key in table:
        if isinstance(table[key].dtype, pd.CategoricalDtype):
            table[key] = table[key].astype(object)
    return table
