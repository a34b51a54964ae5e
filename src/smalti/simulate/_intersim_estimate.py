"""Estimate the parameters of InterSIM from data of the same kind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.special import logit
from sklearn.covariance import ledoit_wolf

from smalti._validate import check_keys, shorten
from smalti.data import row_maps

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

logger = logging.getLogger(__name__)

MARGIN = 1e-3  # nearest that a beta value comes to 0 or 1: an M-value of 6.9, beyond what arrays resolve
MIN_SAMPLES = 3  # fewer give correlations of -1 or 1 only


def estimate(
    mdata: MuData,
    *,
    methylation: str,
    expression: str,
    protein: str,
    cpg_gene: str,
    protein_gene: str,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``InterSIMParameters``; see ``InterSIMParameters.from_data``."""
    genes = mdata.mod[expression].var_names if expression in mdata.mod else pd.Index([])
    rows = row_maps(mdata, [methylation, expression, protein])
    cpg_index, cpgs = _linked(mdata, methylation, cpg_gene, genes, expression)
    protein_index, proteins = _linked(mdata, protein, protein_gene, genes, expression)

    beta = _values(mdata, methylation, cpgs)
    if beta.min() < 0 or beta.max() > 1:
        raise ValueError(
            f"Expected modality {methylation!r} to hold beta values in interval [0, 1], found values from "
            f"{beta.min():.3g} to {beta.max():.3g}. M-values x can be turned back by 1 / (1 + exp(-x))."
        )
    m = logit(np.clip(beta, MARGIN, 1 - MARGIN))
    x = _values(mdata, expression, np.arange(len(genes)))
    y = _values(mdata, protein, proteins)
    owner = sp.csr_matrix((np.ones(len(cpgs)), (np.arange(len(cpgs)), cpg_index)), shape=(len(cpgs), len(genes)))
    per_gene = np.asarray(owner.sum(0)).ravel()
    by_gene = (owner.T @ m.T).T / np.maximum(per_gene, 1)

    both = _common(rows, methylation, expression)
    rho_methyl = _correlation(by_gene[both[0]], x[both[1]])
    both = _common(rows, expression, protein)
    rho_protein = _correlation(x[both[0]][:, protein_index], y[both[1]])
    return {
        "cpg_names": mdata.mod[methylation].var_names[cpgs].to_numpy(dtype=str),
        "gene_names": genes.to_numpy(dtype=str),
        "protein_names": mdata.mod[protein].var_names[proteins].to_numpy(dtype=str),
        "cpg_gene": genes[cpg_index].to_numpy(dtype=str),
        "protein_gene": genes[protein_index].to_numpy(dtype=str),
        "mean_M": m.mean(0),
        "cov_M": _covariance(m, methylation, mdata.mod[methylation].var_names[cpgs]),
        "mean_expr": x.mean(0),
        "cov_expr": _covariance(x, expression, genes),
        "mean_protein": y.mean(0),
        "cov_protein": _covariance(y, protein, mdata.mod[protein].var_names[proteins]),
        "methyl_gene_level_mean": by_gene.mean(0),
        "rho_methyl_expr": rho_methyl,
        "rho_expr_protein": rho_protein,
    }


def _linked(
    mdata: MuData, name: str, column: str, genes: pd.Index, expression: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return genes and features of a modality, by position, for those features whose gene was measured."""
    var = mdata.mod[name].var
    check_keys([column], list(var), f"Column of `mdata[{name!r}].var`")
    index = genes.get_indexer(pd.Index(var[column].astype(object)))
    here = np.flatnonzero(index >= 0)
    if not len(here):
        raise ValueError(
            f"None of {len(var)} features of modality {name!r} has in `var[{column!r}]` one of the {len(genes)} genes "
            f"of modality {expression!r}: {shorten(var[column].head(3))} against {shorten(genes[:3])}."
        )
    if len(here) < len(var):
        logger.info("%d of %d features of modality %r have no measured gene", len(var) - len(here), len(var), name)
    return index[here].astype(np.int64), here


def _values(mdata: MuData, name: str, columns: NDArray[np.int64]) -> Floats:
    x = mdata.mod[name].X
    if x is None:
        raise ValueError(f"Modality {name!r} has no values in `X`.")
    x = x[:, columns]
    dense = np.asarray(x.toarray() if sp.issparse(x) else x, dtype=np.float64)
    missing = int((~np.isfinite(dense)).sum())
    if missing:
        raise ValueError(f"Modality {name!r} has {missing} missing or infinite values. Impute or drop them first.")
    return dense


def _common(rows: dict[str, NDArray[np.int64]], first: str, second: str) -> tuple[NDArray[np.int64], ...]:
    """Return rows of the samples that were measured in both modalities."""
    both = (rows[first] >= 0) & (rows[second] >= 0)
    if both.sum() < MIN_SAMPLES:
        raise ValueError(
            f"Expected at least {MIN_SAMPLES} samples measured in both {first!r} and {second!r}, found "
            f"{int(both.sum())}; correlations between them need paired samples."
        )
    return rows[first][both], rows[second][both]


def _correlation(x: Floats, y: Floats) -> Floats:
    """Return the correlation of each column of ``x`` with that of ``y``; 0 where one is constant."""
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    return np.clip(np.divide((x * y).sum(0), norm, out=np.zeros(x.shape[1]), where=norm > 0), -1, 1)


def _covariance(x: Floats, name: str, features: pd.Index) -> Floats:
    """Shrink correlations, not variances: features may be on very different scales."""
    sd = x.std(0)
    constant = features[sd <= np.finfo(np.float32).eps * np.abs(x).max(0)]
    if len(constant):
        raise ValueError(
            f"{len(constant)} features of modality {name!r} are constant: {shorten(constant)}. Drop them first, a "
            "covariance with them is not positive definite."
        )
    correlation, _ = ledoit_wolf((x - x.mean(0)) / sd, assume_centered=True)
    return correlation * np.outer(sd, sd)
