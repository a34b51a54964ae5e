"""A query in the shape that a model knows: its features in its order, absent ones as zeros, and what was done said."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from smalti._missing import has_missing
from smalti._mudata import build_mudata
from smalti._text import as_text
from smalti._validate import check_choice, check_unique, shorten
from smalti.data import ENCODER_INPUTS, coalesce_obs, matrix_of

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MIN_SHARED = 0.5
"""Share of a modality's features that a query must have; with fewer, its components say more of zeros than of cells."""


@dataclass(frozen=True, kw_only=True)
class QueryReport:
    """What was done to a query so that the model could read it."""

    missing: dict[str, list[str]]
    """Features of the model that the query lacks, by modality; they are read as zeros."""
    unused: dict[str, int]
    """Number of features of the query that the model does not know, by modality."""
    new_batches: tuple[str, ...]
    """Batches that the reference did not have."""

    def __repr__(self) -> str:
        lines = []
        for name, names in self.missing.items():
            lines.append(
                f"{name}: {len(names):,} features of the model are not in the query and read as zeros"
                f"{': ' + shorten(names) if names else ''}; {self.unused[name]:,} of the query are not used"
            )
        lines.append(f"new batches: {shorten(self.new_batches) or 'none'}")
        return "\n".join(lines)


def as_mosaic(query: MuData | AnnData, modality: str | None, known: Mapping[str, list[str]]) -> MuData:
    """Return a MuData; an AnnData becomes the modality that is named, or the one that shares most features.

    Parameters
    ----------
    query
        The query.
    modality
        Name for an AnnData.
    known
        Features of the model by modality.
    """
    if isinstance(query, MuData):
        return query
    if modality is None:
        shared = {name: int(query.var_names.isin(names).sum()) for name, names in known.items()}
        modality = max(shared, key=lambda name: shared[name])
        if not shared[modality]:
            raise ValueError(f"The query shares no feature with any modality of the model, {shorten(known)}.")
        logger.info("The query is read as modality %r, with which it shares %d features.", modality, shared[modality])
    check_choice(modality, list(known), "modality")
    return build_mudata({modality: query}, obs=query.obs)


def align_query(
    query: MuData,
    known: Mapping[str, list[str]],
    specs: Mapping[str, Mapping[str, Any]],
    *,
    batch_key: str | None,
    batches: list[str],
    labels_key: str | None,
) -> tuple[MuData, QueryReport]:
    """Return a copy with the features of the model, and a report.

    Parameters
    ----------
    query
        Any subset of the model's modalities; others are left out.
    known
        Features by modality.
    specs
        What the model was told of each modality.
    batch_key, batches
        Column of the batch, and those of the reference. A query without the column is one new batch, ``"query"``.
    labels_key
        Column of labels, taken along if it is there.
    """
    here = [name for name in known if name in query.mod]
    if not here:
        raise ValueError(f"The query has none of the modalities {shorten(known)}, only {shorten(query.mod)}.")
    parts, missing, unused = {}, {}, {}
    for name in here:
        adata, names = query.mod[name], pd.Index(known[name])
        check_unique(list(adata.var_names), f"Features of modality {name!r}")
        at = adata.var_names.get_indexer(names)
        missing[name] = [str(v) for v in names[at < 0]]
        unused[name] = int(adata.n_vars - (at >= 0).sum())
        if (at >= 0).mean() < MIN_SHARED:
            raise ValueError(
                f"The query has {int((at >= 0).sum()):,} of the {len(names):,} features of modality {name!r}, expected "
                f"at least {MIN_SHARED:.0%}. Are names of the same kind (the model has {shorten(names, 3)}, the query "
                f"{shorten(adata.var_names, 3)})?"
            )
        parts[name] = _reordered(adata, names, at, specs[name], name)
    aligned = build_mudata(parts)
    for key in filter(None, (batch_key, labels_key)):
        if key in query.obs:
            aligned.obs[key] = query.obs[key].reindex(aligned.obs_names)
        elif any(key in adata.obs for adata in query.mod.values()):
            aligned.obs[key] = coalesce_obs(query, key).reindex(aligned.obs_names)
    new: tuple[str, ...] = ()
    if batch_key is not None:
        if batch_key not in aligned.obs:
            aligned.obs[batch_key] = "query"
        new = tuple(sorted(set(as_text(aligned.obs[batch_key]).dropna()) - set(batches)))
    for column in query.obs.columns.difference(aligned.obs.columns):
        if not str(column).startswith("_scvi"):
            aligned.obs[column] = query.obs[column].reindex(aligned.obs_names)
    return aligned, QueryReport(missing=missing, unused=unused, new_batches=new)


def _reordered(adata: AnnData, names: pd.Index, at: Any, spec: Mapping[str, Any], modality: str) -> AnnData:
    layer = spec.get("layer")
    matrix = matrix_of(adata, layer, modality)
    if (at >= 0).all() and len(at) == adata.n_vars and (at == np.arange(len(at))).all():
        values = matrix
    elif has_missing(matrix):  # the product below would spread NaN over whole rows
        to = np.flatnonzero(at >= 0)
        dense = matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)
        values = np.zeros((adata.n_obs, len(names)), dtype=dense.dtype)
        values[:, to] = dense[:, at[to]]
    else:
        to = np.flatnonzero(at >= 0)
        ones = np.ones(len(to), dtype=matrix.dtype)
        pick = sp.csr_matrix((ones, (at[to], to)), shape=(adata.n_vars, len(names)))
        values = sp.csr_matrix(matrix @ pick) if sp.issparse(matrix) else np.asarray(matrix @ pick.toarray())
    out = AnnData(values, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=names.astype(str)))
    if layer is not None:
        out.layers[layer] = values
    key = spec.get("encoder_input")
    if key is not None and key not in ENCODER_INPUTS:
        out.obsm[key] = adata.obsm[key]
    return out
