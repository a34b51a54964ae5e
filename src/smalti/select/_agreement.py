"""How a selection compares with the usual choice of highly variable features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc

from smalti._validate import check_keys
from smalti.data import looks_like_counts, measured_matrix

from ._path import jaccard

if TYPE_CHECKING:
    from mudata import MuData


def hvg_agreement(mdata: MuData, modality: str, *, layer: str | None = None) -> pd.Series:
    """Compare ``.var["selected"]`` with as many highly variable features.

    Parameters
    ----------
    mdata
        The mosaic, after a selector or ``model.write_gates``.
    modality
        Name of the modality.
    layer
        Layer with the values; ``.X`` by default. Of counts, dispersions are those of
        :func:`scanpy.pp.highly_variable_genes` after log-normalisation; of reals, the variance counts.

    Returns
    -------
    ``n_selected``; ``n_both``; ``jaccard`` in ``[0, 1]``; ``expected_jaccard`` of a random choice of as many;
    ``auc``, the probability that a selected feature varies more than another, 0.5 by chance.

    Raises
    ------
    KeyError
        If nothing was selected yet.
    """
    check_keys([modality], list(mdata.mod), "Modality")
    adata = mdata.mod[modality]
    check_keys(["selected"], list(adata.var), f"Column of `.var` of modality {modality!r} (call a selector first)")
    x = measured_matrix(adata, layer, modality)
    if looks_like_counts(x):
        copy = sc.AnnData(x.astype(np.float32))  # log-normalised in place
        copy.var_names = adata.var_names
        sc.pp.normalize_total(copy, target_sum=1e4)
        sc.pp.log1p(copy)
        table = sc.pp.highly_variable_genes(copy, flavor="seurat", inplace=False)
        rank = table["dispersions_norm"].reindex(adata.var_names).fillna(-np.inf).to_numpy()
    else:
        dense = np.asarray(x.todense()) if hasattr(x, "todense") else np.asarray(x)
        rank = dense.var(axis=0)
    selected = adata.var["selected"].to_numpy(dtype=bool)
    n, k = len(selected), int(selected.sum())
    variable = np.zeros(n, dtype=bool)
    variable[np.argsort(-rank, kind="stable")[:k]] = True
    order = pd.Series(np.where(np.isfinite(rank), rank, np.finfo(float).min)).rank().to_numpy()
    auc = (order[selected].sum() - k * (k + 1) / 2) / (k * (n - k)) if 0 < k < n else np.nan
    both = k * k / n
    return pd.Series(
        {
            "n_selected": k,
            "n_both": int((selected & variable).sum()),
            "jaccard": jaccard(selected, variable),
            "expected_jaccard": both / (2 * k - both) if k else np.nan,
            "auc": auc,
        },
        name=modality,
    )
