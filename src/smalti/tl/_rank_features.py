"""Features that mark groups of cells, in every modality."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from smalti._mudata import check_mudata
from smalti._validate import check_choice, check_count, check_keys, shorten
from smalti.data import as_text, looks_like_counts, measured_matrix, row_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

MIN_CELLS = 3
"""Cells that a group needs in a modality to be tested; with fewer no rank test can be significant."""
COLUMNS = ("group", "modality", "feature", "score", "difference", "share_in", "share_out", "pval", "pval_adj")


def rank_features(
    mdata: MuData,
    groupby: str,
    *,
    modalities: Sequence[str] | None = None,
    layer: str | None = None,
    method: Literal["wilcoxon", "t-test"] = "wilcoxon",
    n: int | None = None,
) -> pd.DataFrame:
    """Rank the features of every modality by how well they mark groups of cells, such as clusters.

    Each group is compared with all other cells that were measured in the modality, by
    :func:`scanpy.tl.rank_genes_groups` on a copy. Counts are scaled to the median total and ``log(1 + x)`` is taken
    first; other values are tested as they are. Nothing is written to ``mdata``.

    The p-values treat cells as independent and groups as known beforehand. Clusters found in the same cells make them
    too small; use them to rank, and compare donors for a claim about conditions.

    Parameters
    ----------
    mdata
        The mosaic.
    groupby
        Column of ``mdata.obs`` with the groups; cells with a missing value are left out.
    modalities
        Modalities to look at; all by default.
    layer
        Layer that holds the values; ``.X`` by default.
    method
        Rank-sum test (without correction for ties, so that p-values err on the large side) or t-test with unequal
        variances.
    n
        Features to keep of each group and modality, those of the largest score; all by default.

    Returns
    -------
    One row per group, modality and feature, best first: ``score`` (the statistic, positive if higher in the group),
    ``difference`` of the means on the tested scale, ``share_in`` and ``share_out`` (cells of the group, and others,
    with a value above 0), ``pval`` and ``pval_adj`` (Benjamini-Hochberg within group and modality). Groups with fewer
    than 3 cells in a modality are left out of it.

    Raises
    ------
    KeyError
        If the column, a modality or the layer does not exist.
    ValueError
        If there are not two groups to compare in any modality.

    Examples
    --------
    >>> sm.tl.rank_features(mdata, "leiden", n=5)
    """
    check_mudata(mdata)
    check_keys([groupby], list(mdata.obs.columns), "Column of `mdata.obs`")
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    check_choice(method, ("wilcoxon", "t-test"), "method")
    groups = as_text(mdata.obs[groupby])
    tables = [_of_modality(mdata, name, groups, layer, method, n) for name in names]
    found = [table for table in tables if table is not None]
    if not found:
        raise ValueError(
            f"Expected two groups of at least {MIN_CELLS} cells in column {groupby!r} that share one of the modalities "
            f"{shorten(names)}, found {shorten(pd.unique(groups.dropna())) or 'none'}."
        )
    order = {group: i for i, group in enumerate(_order(mdata.obs[groupby]))}
    table = pd.concat(found, ignore_index=True)
    ranks = pd.DataFrame({"group": table["group"].map(order), "modality": table["modality"].map(names.index)})
    return table.iloc[np.lexsort((-table["score"].to_numpy(), ranks["modality"], ranks["group"]))].reset_index(
        drop=True
    )


def _of_modality(
    mdata: MuData, name: str, groups: pd.Series, layer: str | None, method: str, n: int | None
) -> pd.DataFrame | None:
    rows = row_maps(mdata, [name])[name]
    here = (rows >= 0) & groups.notna().to_numpy()
    counts = groups[here].value_counts()
    usable = counts.index[counts >= MIN_CELLS]
    here &= groups.isin(usable).to_numpy()
    if len(usable) < 2:
        return None
    values = measured_matrix(mdata.mod[name], layer, name)[rows[here]]
    cells = AnnData(values, obs=pd.DataFrame({"group": pd.Categorical(groups[here])}, index=mdata.obs_names[here]))
    cells.var_names = mdata.mod[name].var_names.astype(str)
    if looks_like_counts(values):
        cells.X = cells.X.astype(np.float32)
        sc.pp.normalize_total(cells)
        sc.pp.log1p(cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fold changes of reals, fragmentation of tables: neither is used
        sc.tl.rank_genes_groups(cells, "group", method=method, pts=True)
        table = sc.get.rank_genes_groups_df(cells, None)
    if "group" not in table:
        table.insert(0, "group", usable[0])
    by_group = cells.obs["group"]
    means = {g: np.asarray(cells.X[(by_group == g).to_numpy()].mean(axis=0)).ravel() for g in by_group.cat.categories}
    rest = {g: np.asarray(cells.X[(by_group != g).to_numpy()].mean(axis=0)).ravel() for g in by_group.cat.categories}
    at = cells.var_names.get_indexer(table["names"])
    text = table["group"].astype(str)
    table["difference"] = [means[g][i] - rest[g][i] for g, i in zip(text, at, strict=True)]
    table["modality"], table["group"] = name, text
    names = {"names": "feature", "scores": "score", "pct_nz_group": "share_in", "pct_nz_reference": "share_out"}
    table = table.rename(columns={**names, "pvals": "pval", "pvals_adj": "pval_adj"})[list(COLUMNS)]
    if n is not None:
        table = table.sort_values("score", ascending=False).groupby("group").head(check_count(n, "n"))
    return table


def _order(column: pd.Series) -> list[str]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [str(c) for c in column.cat.categories]
    return sorted(as_text(column).dropna().unique())
