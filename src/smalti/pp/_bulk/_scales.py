"""Scales of bulk assays: methylation levels and M-values, counts normalised by a median of ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from ._arrays import (
    check_factors,
    dense_betas,
    log2_normalised,
    log_reference,
    m_values,
    ratios,
    real_type,
)
from ._filters import dense_of, values_of, with_values

if TYPE_CHECKING:
    from anndata import AnnData

    from smalti.pp._arrays import Floats

BETA_OFFSET = 1e-3
"""Beta values are clipped this far from 0 and 1, so that M-values stay within -10 and 10.

On arrays they rarely go beyond 6, and a few values of 20 would make up the whole variance of a probe.
"""


def beta_to_m(adata: AnnData, *, offset: float = BETA_OFFSET, layer: str | None = None) -> AnnData:
    r"""Turn methylation levels into M-values, :math:`\log_2 (\beta / (1 - \beta))` :cite:p:`Du2010`.

    Parameters
    ----------
    adata
        Samples by probes, levels in ``[0, 1]``, dense. NaN stays NaN.
    offset
        Levels are clipped to ``[offset, 1 - offset]`` before.
    layer
        Layer with the values; ``.X`` by default.

    Returns
    -------
    A new AnnData with M-values in the place of levels.

    Raises
    ------
    KeyError
        If the layer does not exist.
    ValueError
        If values are sparse or outside ``[0, 1]``.
    """
    check_offset(offset)
    return with_values(adata, m_values(dense_betas(values_of(adata, layer)), offset), layer)


def m_to_beta(adata: AnnData, *, layer: str | None = None) -> AnnData:
    r"""Turn M-values into methylation levels in ``[0, 1]``, :math:`2^M / (1 + 2^M)`; the inverse of :func:`beta_to_m`.

    Parameters
    ----------
    adata
        Samples by probes, M-values, dense. NaN stays NaN.
    layer
        Layer with the values; ``.X`` by default.

    Returns
    -------
    A new AnnData with levels in the place of M-values.
    """
    x = dense_of(values_of(adata, layer))
    return with_values(adata, expit(x * np.log(2.0)).astype(real_type(x)), layer)


def size_factors(adata: AnnData, *, positive: bool = False, layer: str | None = None) -> Floats:
    r"""Return how deeply each sample was sequenced, as a median of ratios :cite:p:`Anders2010`.

    The factor of sample ``i`` is the median over features of :math:`x_{ij} / (\prod_k x_{kj})^{1/n}`, among features
    with a positive count in every sample.

    Parameters
    ----------
    adata
        ``n`` samples by features, counts >= 0, sparse or dense.
    positive
        Take every feature with a positive count anywhere: its reference is the ``n``-th root of the product of its
        positive counts, each sample is compared on its own positive counts, and factors get geometric mean 1. For
        data in which no feature is found in all samples.
    layer
        Layer with the values; ``.X`` by default.

    Returns
    -------
    ``(n,)``, positive, about 1.

    Raises
    ------
    KeyError
        If the layer does not exist.
    ValueError
        If a value is negative, no feature can serve as reference, or a sample has no positive count in any of them.
    """
    x = values_of(adata, layer)
    return check_factors(ratios(x, log_reference(x, positive=positive)), adata.obs_names)


def median_of_ratios(
    adata: AnnData,
    *,
    positive: bool = False,
    log: bool = True,
    layer: str | None = None,
    key_added: str | None = "size_factor",
) -> AnnData:
    """Divide counts by the size factors of samples and take ``log2(1 + x)``.

    Parameters
    ----------
    adata
        Samples by features, counts >= 0, sparse or dense. NaN stays NaN.
    positive, layer
        See :func:`size_factors`.
    log
        Whether to take logarithms; otherwise values are normalised counts.
    key_added
        Column of the result's ``obs`` for the size factors; ``None`` for none.

    Returns
    -------
    A new AnnData with the new values in the place of counts.

    Raises
    ------
    KeyError, ValueError
        As :func:`size_factors`.
    """
    factors = size_factors(adata, positive=positive, layer=layer)
    out = with_values(adata, log2_normalised(values_of(adata, layer), factors, log=log), layer)
    if key_added is not None:
        out.obs[key_added] = factors
    return out


def check_offset(offset: float) -> float:
    """Return ``offset`` if it is between 0 and 0.5, else raise ``ValueError``."""
    if not 0 < offset < 0.5:
        raise ValueError(f"Expected `offset` to be between 0 and 0.5, found {offset!r}.")
    return offset
