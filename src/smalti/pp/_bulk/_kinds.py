"""Kinds of bulk values: what to do with them before scaling, with every number from the training samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from smalti._validate import check_in_range, check_positive

from ._arrays import (
    check_counts,
    check_factors,
    column_moments,
    dense_betas,
    fill_missing,
    log2_normalised,
    log_reference,
    m_values,
    often_counted,
    ratios,
    varying_probes,
)
from ._scales import BETA_OFFSET, check_offset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from smalti.pp._arrays import Floats


class BulkKind(Protocol):
    """What a kind of values must know; instances hold options only."""

    name: ClassVar[str]

    def fit(self, x: Any) -> tuple[NDArray[np.bool_], dict[str, Floats]]:
        """Return which of ``G`` features to keep, and what was fitted for these, each ``(K,)``."""

    def values(self, x: Any, fitted: Mapping[str, Floats]) -> Any:
        """Return the kept features ``(n, K)`` on a real scale, without missing values; sparse may stay sparse."""


@dataclass(frozen=True, kw_only=True)
class Methylation:
    """Methylation levels in ``[0, 1]``: probe filter, imputation by the mean, M-values.

    Parameters
    ----------
    max_missing, min_sd
        See :func:`filter_probes`.
    zero_is_missing
        Whether a level of exactly 0 is missing: it then does not enter means, and is imputed.
    offset
        See :func:`beta_to_m`.
    """

    name: ClassVar[str] = "methylation"

    max_missing: float = 0.2
    min_sd: float = 0.1
    zero_is_missing: bool = True
    offset: float = BETA_OFFSET

    def __post_init__(self) -> None:
        check_in_range(self.max_missing, 0, 1, "max_missing")
        check_in_range(self.min_sd, 0, 1, "min_sd")
        check_offset(self.offset)

    def fit(self, x: Any) -> tuple[NDArray[np.bool_], dict[str, Floats]]:
        """Choose probes and compute the means that stand for missing levels."""
        x, missing = dense_betas(x), self.zero_is_missing
        often, varied = varying_probes(x, max_missing=self.max_missing, min_sd=self.min_sd, zero_is_missing=missing)
        keep = often & varied
        return keep, {"fill": column_moments(x[:, keep], zero_is_missing=missing).mean}

    def values(self, x: Any, fitted: Mapping[str, Floats]) -> Any:
        """Return M-values."""
        x = as_real(dense_betas(x))
        return m_values(fill_missing(x, fitted["fill"], zero_is_missing=self.zero_is_missing), self.offset)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of reads: filter, size factors against the geometric means of the training samples, ``log2(1 + x)``.

    Missing values (NaN) do not enter size factors, and get the training mean of logarithms.

    Parameters
    ----------
    min_counts, max_share
        See :func:`filter_low_counts`.
    positive
        See :func:`size_factors`.
    """

    name: ClassVar[str] = "counts"

    min_counts: float = 5
    max_share: float = 0.9
    positive: bool = False

    def __post_init__(self) -> None:
        check_positive(self.min_counts, "min_counts", allow_zero=True)
        check_in_range(self.max_share, 0, 1, "max_share")

    def fit(self, x: Any) -> tuple[NDArray[np.bool_], dict[str, Floats]]:
        """Choose features and compute their geometric means and their mean logarithms."""
        check_counts(x.data if hasattr(x, "indptr") else x)
        keep = often_counted(x, min_counts=self.min_counts, max_share=self.max_share)
        if not keep.any():
            return keep, {}
        x = x[:, keep]
        reference = log_reference(x, positive=self.positive)
        return keep, {"reference": reference, "fill": column_moments(self._logs(x, reference)).mean}

    def values(self, x: Any, fitted: Mapping[str, Floats]) -> Any:
        """Return ``log2(1 + normalised counts)``."""
        return fill_missing(self._logs(x, fitted["reference"]), fitted["fill"])

    def _logs(self, x: Any, reference: Floats) -> Any:
        factors = ratios(x, reference)
        return log2_normalised(x, check_factors(factors, [f"row {i}" for i in range(len(factors))]))


@dataclass(frozen=True, kw_only=True)
class Reals:
    """Values on a real scale, such as log-intensities: imputation by the mean, nothing else."""

    name: ClassVar[str] = "reals"

    def fit(self, x: Any) -> tuple[NDArray[np.bool_], dict[str, Floats]]:
        """Keep what was observed at all, and compute means."""
        found = column_moments(x)
        keep = found.n > 0
        return keep, {"fill": found.mean[keep]}

    def values(self, x: Any, fitted: Mapping[str, Floats]) -> Any:
        """Return values as they are, without missing ones."""
        return fill_missing(as_real(x), fitted["fill"])


KINDS: dict[str, type[Methylation] | type[Counts] | type[Reals]] = {
    kind.name: kind for kind in (Methylation, Counts, Reals)
}


def as_real(x: Any) -> Any:
    """Return ``x`` as floating numbers, without a copy if it is."""
    return x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)
