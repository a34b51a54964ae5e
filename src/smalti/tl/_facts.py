"""What can be read off one mosaic without any model: sizes, kinds of values, and what is wrong or odd with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from smalti._disk import DiskMatrix
from smalti._errors import SmaltiError
from smalti._missing import has_missing, largest_counts, measured, missing_of
from smalti.data import (
    Modality,
    check_features,
    check_values,
    check_varies,
    counts_layer,
    infer_encoder_input,
    infer_likelihood,
    looks_like_counts,
    matrix_of,
    mostly_ones,
    nonzero_share,
    row_maps,
)

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

BULK_READS = 1e6
"""Median total count above which samples are no single cells; those have up to some 1e5."""
LARGEST_LOG = 1000.0
"""Non-negative reals above it are no logarithms."""
SURELY_SEEN = 20.0
"""Cells of a batch in which a feature must be expected before its absence is remarked on. By chance it is then absent
once in e^20 times; with 10 cells there were false alarms on 25,734 regions in 12 batches."""


FEW_CELLS, SAME_DEPTH = 20, 0.02
"""Cells from which totals are compared, and their range, relative to the median, below which they count as equal."""


@dataclass(frozen=True, kw_only=True)
class ModalityDescription:
    """What one modality holds."""

    n_obs: int
    """Cells measured."""
    n_vars: int
    """Features."""
    layer: str | None = None
    """Layer that was looked at; ``None`` is ``.X``."""
    values: str = "not readable"
    """Kind of values, in words."""
    nonzero: float = float("nan")
    """Share of entries that are not zero, in [0, 1]."""
    median_total: float | None = None
    """Median total count of a cell; ``None`` if the values are not counts."""
    likelihood: str | None = None
    """What a model infers; ``None`` if the values are unusable."""
    encoder_input: str | None = None
    """What a model's encoder will see; ``None`` if the values are unusable."""
    bulk: bool = False
    """Whether values are reads or intensities of a bulk assay that nobody took logarithms of; ``pp.bulk`` does."""


def read_presence(mdata: MuData) -> tuple[NDArray[np.bool_], list[str]]:
    """Return presence, ``(n_obs, M)``, and the complaints about maps that cannot be trusted.

    Where the map of a modality is unusable, presence comes from the names of cells, for this description only.
    """
    columns, problems = [], []
    for name, adata in mdata.mod.items():
        try:
            columns.append(row_maps(mdata, [name])[name] >= 0)
        except SmaltiError as error:
            problems.append(str(error))
            columns.append(np.asarray(mdata.obs_names.isin(adata.obs_names)))
    return np.column_stack(columns), problems


def read_modality(mdata: MuData, name: str) -> tuple[ModalityDescription, list[str], list[str]]:
    """Return what a modality holds, what forbids to use it, and what is worth knowing."""
    adata = mdata.mod[name]
    size = {"n_obs": adata.n_obs, "n_vars": adata.n_vars}
    if not (adata.n_obs and adata.n_vars):
        lacks = "no cell" if not adata.n_obs else "no variable"
        return ModalityDescription(**size), [f"Modality {name!r} has {lacks}. Leave it out of `modalities`."], []
    layer = counts_layer(adata)
    try:
        x = check_values(mdata, name, Modality(layer=layer))
        check_varies(x, name)
        check_features(x, name, adata.var_names)
        if isinstance(x, DiskMatrix):
            x = matrix_of(adata, layer, name)
    except (ValueError, KeyError) as error:
        return ModalityDescription(**size), [str(error.args[0])], []
    likelihood = infer_likelihood(x)
    facts = ModalityDescription(
        **size,
        layer=layer,
        values=_in_words(x),
        nonzero=nonzero_share(x),
        median_total=float(np.median(totals(measured(x, True)))) if looks_like_counts(x) else None,
        likelihood=likelihood,
        encoder_input=infer_encoder_input(x, likelihood),
        bulk=_is_bulk(x, likelihood),
    )
    notes = _missing_note(x, name)
    return facts, [], notes + _remarks(measured(x, facts.median_total is not None), name, facts)


def _is_bulk(x: Any, likelihood: str) -> bool:
    """Return whether values look like those of a bulk assay before any logarithm."""
    if likelihood == "bernoulli":
        return False
    if looks_like_counts(x):
        return bool(np.median(totals(measured(x, True))) > BULK_READS)
    values = x.data if sp.issparse(x) else np.asarray(x)
    return bool(values.size and np.nanmin(values) >= 0 and np.nanmax(values) > LARGEST_LOG)


def _missing_note(x: Any, name: str) -> list[str]:
    if not has_missing(x):
        return []
    gone = missing_of(x)
    cells = int((np.asarray(gone.sum(axis=1)).ravel() > 0).sum())
    return [
        f"{gone.nnz:,} values of {name!r} are missing (NaN), in {cells:,} of {x.shape[0]:,} cells. Models leave them "
        "out of the likelihood, and their encoders see the mean of the feature instead."
    ]


def panel_gaps(x: Any, codes: NDArray[np.int64], batches: list[str], name: str) -> list[str]:
    """Return remarks on features that a batch never shows although others do, as if its panel lacked them.

    Parameters
    ----------
    x
        ``(n, G)`` counts, sparse or dense.
    codes
        ``(n,)`` batch of each row, -1 where not known.
    batches
        Names of the batches.
    name
        Modality.
    """
    known = codes >= 0
    size = np.bincount(codes[known], minlength=len(batches))
    seen = _seen(x, codes, len(batches))
    total = seen.sum(axis=0)
    expected = size[:, None] * ((total - seen) / np.maximum(size.sum() - size, 1)[:, None])
    gaps = (seen == 0) & (expected >= SURELY_SEEN)
    return [
        f"Batch {batches[b]!r} shows {int(gaps[b].sum()):,} of {gaps.shape[1]:,} features of {name!r} in no cell, "
        "though other batches do. If its panel lacked them, name them in a `feature_mask`."
        for b in np.flatnonzero(gaps.any(axis=1))
    ]


def _seen(x: Any, codes: NDArray[np.int64], n_batches: int) -> NDArray[np.float64]:
    """Return in how many cells of each batch a feature is not zero, ``(n_batches, G)``."""
    known = np.flatnonzero(codes >= 0)
    ones = np.ones(len(known), dtype=np.int32)
    member = sp.csr_matrix((ones, (codes[known], known)), shape=(n_batches, len(codes)))
    if not sp.issparse(x):
        rows = np.split(member.indices, member.indptr[1:-1])
        return np.stack([np.count_nonzero(np.asarray(x[at]), axis=0) for at in rows]).astype(np.float64)
    pattern = x.copy() if x.format not in ("csr", "csc") else type(x)((x.data != 0, x.indices, x.indptr), shape=x.shape)
    product = member @ pattern.astype(np.int8)
    return np.asarray(product.todense(), dtype=np.float64)


def _in_words(x: Any) -> str:
    if not looks_like_counts(x):
        return "reals"
    return "counts, mostly 0 or 1" if mostly_ones(x) else "counts"


def totals(x: Any) -> NDArray[np.float64]:
    return np.asarray(x.sum(axis=1), dtype=np.float64).ravel()


def _remarks(x: Any, name: str, facts: ModalityDescription) -> list[str]:
    found = []
    if facts.layer is not None:
        found.append(f"`.X` of {name!r} holds no counts, but its layer {facts.layer!r} does: that is described.")
    if facts.bulk:
        found.append(
            f"{name!r} holds values up to {float(np.max(largest_counts(x))):,.0f}, as bulk assays have before "
            "logarithms. Models of reals want logarithms: `sm.pp.bulk` normalises, takes them and scales."
        )
        return found
    if facts.median_total is None:
        low = float(x.data.min()) if sp.issparse(x) and x.nnz else float(np.min(np.asarray(x))) if x.size else 0.0
        if low >= 0 and facts.nonzero < 0.9:
            found.append(
                f"{name!r} holds non-negative reals with many zeros, as normalised counts do. Models want the raw "
                "counts: put them into `.X` or a layer if you have them."
            )
        return found
    depth = totals(x)
    empty = int((depth == 0).sum())
    if empty:
        found.append(f"{empty:,} cells have only zeros in {name!r}; they count as measured.")
    depth = depth[depth > 0]
    if len(depth) >= FEW_CELLS and np.ptp(depth) < SAME_DEPTH * facts.median_total and facts.values == "counts":
        found.append(
            f"All cells have the same total in {name!r}, about {facts.median_total:,.0f}, as counts do not have unless "
            "they were normalised and rounded, or drawn down to one depth. Models want the counts as measured."
        )
    silent = facts.n_vars - int(np.count_nonzero(_seen(x, np.zeros(x.shape[0], dtype=np.int64), 1)))
    if silent:
        found.append(f"{silent:,} of {facts.n_vars:,} features of {name!r} are zero in every cell.")
    return found
