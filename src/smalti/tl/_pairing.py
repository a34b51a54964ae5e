"""Evidence against a pairing, and values that stand out: what names of cells alone do not tell."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._missing import STANDS_OUT, count_limit, largest_counts
from smalti.data import as_text, row_maps

from ._cell_names import almost_equal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

MANY_KINDS = 50
"""Columns with more different values are measurements, not donors or samples."""
CONTRADICTION = 0.9
"""Share of shared cells that must differ in a column before anything is said."""
LEAST_CELLS = 100
"""Shared cells from which a correlation of library sizes says something."""
NO_CORRELATION = 0.05
"""A correlation below it, and surely below three times as much, is worth a note; `pbmc_mosaic` has 0.10."""


def pairing_notes(mdata: MuData, totals: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Return what speaks against the pairing of cells by name.

    Three things are looked at: names that differ only in how they are written, columns that both modalities have
    (donor, sample) and that contradict each other on the shared cells, and library sizes that do not go together,
    although cells with much RNA have much of everything.

    Parameters
    ----------
    mdata
        The mosaic, its maps in order.
    totals
        Total counts of the rows of each modality that holds counts.
    """
    notes, rows = [], row_maps(mdata)
    for a, b in combinations(mdata.mod, 2):
        both = (rows[a] >= 0) & (rows[b] >= 0)
        notes += almost_equal(a, b, mdata.mod[a].obs_names, mdata.mod[b].obs_names, int(both.sum()))
        if not both.any():
            continue
        at = {name: rows[name][both] for name in (a, b)}
        for column in mdata.mod[a].obs.columns.intersection(mdata.mod[b].obs.columns):
            x, y = (_names(mdata.mod[name].obs[column], at[name]) for name in (a, b))
            if x is None or y is None:
                continue
            known = x.notna().to_numpy() & y.notna().to_numpy()
            differ = known & (x.to_numpy() != y.to_numpy())
            if known.any() and differ.sum() >= CONTRADICTION * known.sum():
                first = int(np.flatnonzero(differ)[0])
                notes.append(
                    f"{int(differ.sum()):,} of {int(known.sum()):,} cells that {a!r} and {b!r} share by name have "
                    f"another {column!r} in each (such as {x.iloc[first]!r} and {y.iloc[first]!r}). If it means the "
                    "same in both, these are different cells under one name: make names unique "
                    "(`adata.obs_names = 'a-' + adata.obs_names`) before the modalities are joined."
                )
        if a in totals and b in totals and both.sum() >= LEAST_CELLS:
            r = _rank_correlation(totals[a][at[a]], totals[b][at[b]])
            if r < NO_CORRELATION and r + 2 / np.sqrt(both.sum()) < 3 * NO_CORRELATION:
                notes.append(
                    f"Library sizes of {a!r} and {b!r} do not go together on the {int(both.sum()):,} cells they share "
                    f"(rank correlation {r:.2f}; real pairs have 0.1 to 0.8). Check that equal names mean equal "
                    "cells."
                )
    return notes


def outlier_notes(x: Any, name: str, cells: pd.Index, features: pd.Index) -> list[str]:
    """Return a note on single counts that are far beyond all others.

    Parameters
    ----------
    x
        ``(n, G)`` counts, sparse or dense.
    name
        Modality.
    cells, features
        Names of rows and columns.
    """
    limit = count_limit(x)
    if limit is None:
        return []
    largest = largest_counts(x)
    odd = np.flatnonzero(largest > limit)
    if not len(odd):
        return []
    worst = int(odd[np.argmax(largest[odd])])
    row = x[[worst]]
    column = int(np.argmax(row.toarray() if sp.issparse(row) else np.asarray(row)))
    return [
        f"{len(odd):,} cells have a count in {name!r} that is over {STANDS_OUT} times the largest of a typical cell, "
        f"first {cells[worst]!r} with {largest[worst]:,.0f} of {features[column]!r} (typical: "
        f"{limit / STANDS_OUT:,.0f}). Models take such counts for artefacts and treat them as missing; correct them if "
        "you know better."
    ]


def _names(column: pd.Series, rows: NDArray[np.int64]) -> pd.Series | None:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f" and not (column.dropna() % 1 == 0).all():
        return None
    values = as_text(column.iloc[rows])
    return None if values.nunique() > MANY_KINDS else values.reset_index(drop=True)


def _rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    ranks = np.column_stack([pd.Series(values).rank().to_numpy() for values in (x, y)])
    if (ranks.std(axis=0) == 0).any():
        return 1.0  # nothing to compare
    return float(np.corrcoef(ranks.T)[0, 1])
