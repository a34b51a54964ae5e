"""Filters and imputation of bulk assays: one AnnData in, a new one out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti._validate import check_in_range, check_keys, check_positive
from smalti.pp._arrays import as_rows

from ._arrays import (
    check_counts,
    column_moments,
    dense_betas,
    fill_missing,
    often_counted,
    varying_probes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)

SEX_CHROMOSOMES = ("chrX", "chrY", "X", "Y")


def filter_probes(
    adata: AnnData,
    *,
    max_missing: float = 0.2,
    min_sd: float = 0.1,
    zero_is_missing: bool = True,
    chromosome_key: str | None = None,
    drop_chromosomes: Sequence[str] = SEX_CHROMOSOMES,
    layer: str | None = None,
) -> AnnData:
    """Keep methylation probes that are mostly observed, that vary, and that lie on wanted chromosomes.

    Parameters
    ----------
    adata
        Samples by probes, methylation levels (beta values) in ``[0, 1]``, dense; NaN is missing.
    max_missing
        Probes missing in this share of samples, or more, are dropped; with 1, those never observed.
    min_sd
        Probes whose observed values have a smaller standard deviation (divisor n) are dropped.
    zero_is_missing
        Whether a value of exactly 0 counts as missing, as on arrays; turn it off for sequencing with few reads.
    chromosome_key
        Column of ``adata.var`` with the chromosome; by default no probe is dropped for where it lies.
    drop_chromosomes
        Entries of that column to drop.
    layer
        Layer with the values; ``.X`` by default.

    Returns
    -------
    A new AnnData with fewer probes. To give other samples the same ones: ``other[:, filtered.var_names]``.

    Raises
    ------
    KeyError
        If the layer or column does not exist.
    ValueError
        If values are sparse or outside ``[0, 1]``, or no probe is left.
    """
    check_in_range(max_missing, 0, 1, "max_missing")
    check_in_range(min_sd, 0, 1, "min_sd")
    x = dense_betas(values_of(adata, layer))
    often, varied = varying_probes(x, max_missing=max_missing, min_sd=min_sd, zero_is_missing=zero_is_missing)
    wanted = np.ones(adata.n_vars, dtype=bool)
    if chromosome_key is not None:
        check_keys([chromosome_key], list(adata.var), "Column of `adata.var`")
        wanted = ~adata.var[chromosome_key].astype(str).isin([str(c) for c in drop_chromosomes]).to_numpy()
    reasons = {"missing too often": ~often, "hardly varying": ~varied, "on dropped chromosomes": ~wanted}
    return _subset(adata, often & varied & wanted, reasons, "Relax `max_missing` or `min_sd`.")


def filter_low_counts(
    adata: AnnData, *, min_counts: float = 5, max_share: float = 0.9, layer: str | None = None
) -> AnnData:
    """Drop features that are hardly counted in nearly all samples.

    Parameters
    ----------
    adata
        Samples by features, counts >= 0 (whole or expected ones), sparse or dense. NaN is left out of the share.
    min_counts
        Fewer than this many is hardly counted.
    max_share
        Features hardly counted in this share of samples, or more, are dropped.
    layer
        Layer with the values; ``.X`` by default.

    Returns
    -------
    A new AnnData with fewer features.

    Raises
    ------
    KeyError
        If the layer does not exist.
    ValueError
        If a value is negative, or no feature is left.
    """
    check_positive(min_counts, "min_counts", allow_zero=True)
    check_in_range(max_share, 0, 1, "max_share")
    x = values_of(adata, layer)
    check_counts(x.data if hasattr(x, "indptr") else x)
    keep = often_counted(x, min_counts=min_counts, max_share=max_share)
    return _subset(adata, keep, {"hardly counted": ~keep}, "Lower `min_counts` or raise `max_share`.")


def impute_mean(adata: AnnData, *, zero_is_missing: bool = False, layer: str | None = None) -> AnnData:
    """Replace missing values by the mean of the feature over the samples that have it.

    Parameters
    ----------
    adata
        Samples by features; NaN is missing.
    zero_is_missing
        Whether a value of exactly 0 counts as missing too; for dense values only.
    layer
        Layer with the values; ``.X`` by default.

    Returns
    -------
    A new AnnData without missing values.

    Raises
    ------
    KeyError
        If the layer does not exist.
    ValueError
        If a feature has no value at all.
    """
    x = values_of(adata, layer)
    if zero_is_missing:
        x = dense_of(x)
    found = column_moments(x, zero_is_missing=zero_is_missing)
    if (found.n == 0).any():
        names = ", ".join(map(repr, adata.var_names[found.n == 0][:5]))
        raise ValueError(
            f"Expected every feature to have a value in some sample, found {int((found.n == 0).sum())} without any, "
            f"first {names}. Drop them first, for methylation with `filter_probes`."
        )
    values = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)
    return with_values(adata, fill_missing(values, found.mean, zero_is_missing=zero_is_missing), layer)


def values_of(adata: AnnData, layer: str | None) -> Any:
    """Return the values of a layer, CSR or dense; no copy unless it must be."""
    if layer is not None:
        check_keys([layer], [key for key in adata.layers if key], "Layer")
    return as_rows(adata.X if layer is None else adata.layers[layer])


def dense_of(x: Any) -> NDArray[Any]:
    """Return an array, or raise ``ValueError`` if values are sparse."""
    if hasattr(x, "indptr"):
        raise ValueError("Expected a dense array, found a sparse matrix. Pass `X.toarray()`.")
    return np.asarray(x)


def with_values(adata: AnnData, values: Any, layer: str | None) -> AnnData:
    """Return a copy with other values in the layer."""
    out = adata.copy()
    if layer is None:
        out.X = values
    else:
        out.layers[layer] = values
    return out


def _subset(adata: AnnData, keep: NDArray[np.bool_], reasons: dict[str, NDArray[np.bool_]], remedy: str) -> AnnData:
    counted = ", ".join(f"{int(bad.sum())} {why}" for why, bad in reasons.items())
    if not keep.any():
        raise ValueError(f"No feature is left of {adata.n_vars} ({counted}). {remedy}")
    logger.info("Kept %d of %d features (%s).", int(keep.sum()), adata.n_vars, counted)
    return adata[:, keep].copy()
