"""Tables of gates, the same whether a model or a selector found them, and where they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import ArrayLike

UNS_KEY = "gates"
"""Key of ``.uns`` of each modality for everything about gates that is not a column of ``.var``."""


def gate_table(
    names: pd.Index,
    *,
    selected: ArrayLike,
    gate: ArrayLike,
    gate_prob: ArrayLike,
    further: Mapping[str, ArrayLike] | None = None,
) -> pd.DataFrame:
    """Return the gates of one modality, one row per variable.

    Parameters
    ----------
    names
        ``(n_var,)`` names of the variables.
    selected
        ``(n_var,)`` boolean.
    gate
        ``(n_var,)`` in ``[0, 1]``.
    gate_prob
        ``(n_var,)`` probability to be open.
    further
        Further columns, ``(n_var,)`` each.
    """
    columns = {"selected": selected, "gate": gate, "gate_prob": gate_prob, **(further or {})}
    return pd.DataFrame({key: np.asarray(values) for key, values in columns.items()}, index=names)


def group_table(
    names: ArrayLike,
    *,
    gate: ArrayLike,
    gate_prob: ArrayLike,
    n_features: ArrayLike,
    further: Mapping[str, ArrayLike] | None = None,
) -> pd.DataFrame:
    """Return the gates of groups, one row per group, the most open first; those with a gate above 0 are selected.

    Parameters
    ----------
    names
        ``(G,)`` names of the groups.
    gate
        ``(G,)`` in ``[0, 1]``.
    gate_prob
        ``(G,)`` probability to be open.
    n_features
        ``(G,)`` number of features.
    further
        Further columns, ``(G,)`` each.
    """
    columns = {"gate": gate, "gate_prob": gate_prob, "n_features": n_features, **(further or {})}
    table = pd.DataFrame(
        {key: np.asarray(values) for key, values in columns.items()},
        index=pd.Index(np.asarray(names).astype(str), name="group"),
    )
    table["selected"] = table["gate"] > 0
    return table.sort_values("gate_prob", ascending=False, kind="stable")


def write_gates(adata: AnnData, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write the columns of a table into ``.var`` and all else into ``.uns["gates"]``.

    Parameters
    ----------
    adata
        The modality.
    table
        As :func:`gate_table` returns it.
    about
        Method, price, convention and whatever else belongs to the gates.
    """
    for column in table:
        adata.var[column] = table[column].to_numpy()
    adata.uns[UNS_KEY] = dict(about)
