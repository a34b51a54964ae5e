"""From a table of links between features to columns of values that mean the same in two modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._text import as_text
from smalti._validate import check_keys, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LinkScale = Literal["depth", "clr", "none"]
"""How rows are scaled before features are summed: to 10^4 counts, by the centred log ratio, or not at all."""
TARGET_SUM = 1e4


def check_links(links: pd.DataFrame, var_names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the table with text, ``""`` for missing entries, and one column per modality that it has.

    Raises
    ------
    TypeError
        If it is no table.
    KeyError
        If a column is no modality.
    ValueError
        If it has fewer than two modalities, or features that do not exist.
    """
    if not isinstance(links, pd.DataFrame):
        raise TypeError(f"Expected `links` to be a DataFrame with a column per modality, found {type(links).__name__}.")
    columns = [str(c) for c in links.columns]
    check_keys(columns, list(var_names), "Columns of `links`")
    if len(columns) < 2:
        raise ValueError(f"Expected `links` to have columns of at least two modalities, found {shorten(columns)}.")
    if not len(links):
        raise ValueError("`links` has no row, so that nothing is linked. Leave it out, or name linked features.")
    text = {}
    for name in columns:
        column = as_text(links[name])
        text[name] = column.where(column.notna(), "").to_numpy(dtype=object)
        known = set(var_names[name])
        unknown = [value for value in dict.fromkeys(text[name]) if value and value not in known]
        if unknown:
            raise ValueError(
                f"`links` names {len(unknown)} features that modality {name!r} does not have: {shorten(unknown)}. "
                "Remove these rows, or use the names in `var_names`."
            )
    return pd.DataFrame(text).drop_duplicates(ignore_index=True)


def link_matrices(
    links: pd.DataFrame, pair: tuple[str, str], var_names: Mapping[str, Sequence[str]]
) -> tuple[sp.csr_matrix, sp.csr_matrix, tuple[str, ...]] | None:
    """Return which features of two modalities are summed for each link; ``None`` if the table has fewer than two.

    A link is a feature of the modality that has fewer different ones in the table, with all that it is linked to: a
    gene and its accessible regions, a gene and its proteins.

    Parameters
    ----------
    links
        As returned by ``check_links``.
    pair
        The two modalities.
    var_names
        Names of all features by modality.

    Returns
    -------
    ``(G_a, k)`` and ``(G_b, k)`` sparse of zeros and ones, and ``(k,)`` names.
    """
    if not set(pair) <= set(links.columns):
        return None
    table = links.loc[(links[pair[0]] != "") & (links[pair[1]] != ""), list(pair)].drop_duplicates()
    if len(table) < 2:
        return None
    lead = 0 if table[pair[0]].nunique() <= table[pair[1]].nunique() else 1
    codes, names = pd.factorize(table[pair[lead]])
    matrices = []
    for name in pair:
        at = pd.Index(var_names[name]).get_indexer(pd.Index(table[name]))
        matrix = sp.csr_matrix((np.ones(len(at)), (at, codes)), shape=(len(var_names[name]), len(names)))
        matrix.data[:] = 1.0  # a feature that is named twice counts once
        matrices.append(matrix)
    if len(names) < 2:
        return None
    return matrices[0], matrices[1], tuple(str(n) for n in names)


def linked_values(x: Any, features: sp.csr_matrix, scale: LinkScale, *, chunk: int = 8192) -> sp.csr_matrix:
    """Return the values of links, ``(n, k)`` sparse: features summed, on a log scale unless ``scale`` is ``"none"``.

    Parameters
    ----------
    x
        ``(n, G)`` raw values, sparse or dense.
    features
        ``(G, k)`` features of each link.
    scale
        How rows are scaled before.
    chunk
        Rows looked at in one go.
    """
    parts = []
    for start in range(0, x.shape[0], chunk):
        rows = sp.csr_matrix(x[start : start + chunk]).astype(np.float64)
        if scale == "depth":
            total = np.asarray(rows.sum(axis=1)).ravel()
            rows = sp.diags(TARGET_SUM / np.maximum(total, 1)) @ rows
        elif scale == "clr":
            mean = np.asarray(rows.log1p().sum(axis=1)).ravel() / rows.shape[1]
            rows = sp.diags(np.exp(-mean)) @ rows
        value = sp.csr_matrix(rows @ features)
        parts.append(value if scale == "none" else value.log1p())
    return sp.csr_matrix(sp.vstack(parts))


def widest(x: sp.csr_matrix, y: sp.csr_matrix, n: int) -> NDArray[np.int64]:
    """Return the ``n`` columns with the largest product of variances, in order."""

    def variance(values: sp.csr_matrix) -> NDArray[np.float64]:
        mean = np.asarray(values.mean(axis=0)).ravel()
        return np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2

    variances = variance(x) * variance(y)
    kept: NDArray[np.int64] = np.sort(np.argsort(-variances, kind="stable")[:n])
    return kept
