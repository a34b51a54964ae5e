"""From what a decoder says to rates that add up to a known total, feature by feature as measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_COUNTS = 1.0
"""Counts added to observed and expected totals of a feature, so that rare ones are not calibrated by chance."""
STEPS = 4
"""Scaling to the total moves features that were right; after four rounds they are within a tenth of a percent."""
TINY = 1e-12
EDGE = 1e-6


@dataclass
class RateCalibration:
    """What turns decoded rates of a modality into counts of a known total.

    Decoders are trained on samples of the latent and read at its mean, where their rates add up to more than the total
    (decision 015). Rates are therefore taken as shares of it, each feature corrected by a factor.
    """

    factor: NDArray[np.float32]
    """``(G,)`` observed over expected totals of features."""
    adds_up: bool
    """Whether rates add up to the total; not if they are probabilities of a value that is not zero."""

    def __call__(
        self, rates: NDArray[Any], total: NDArray[Any], measured: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Return expected counts, or probabilities where rates do not add up, ``(n, G)``.

        Parameters
        ----------
        rates
            ``(n, G)`` as decoded.
        total
            ``(n,)`` total of the measured features.
        measured
            ``(n, G)`` features that make up the total; all by default.
        """
        if self.adds_up:
            return shared_out(rates * self.factor, total, measured)
        return np.asarray(-np.expm1(np.log1p(-np.clip(rates, 0, 1 - EDGE)) * self.factor), dtype=np.float32)


def shares_of(rates: NDArray[Any], measured: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return rates ``(n, G)`` in units of their sum over what was measured, ``(n, G)`` bool."""
    total = (rates if measured is None else rates * measured).sum(axis=1, keepdims=True)
    return np.asarray(rates / np.maximum(total, TINY), dtype=np.float32)


def shared_out(
    rates: NDArray[Any], total: NDArray[Any], measured: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Return rates ``(n, G)`` scaled to add up to ``total``, ``(n,)``, over what was measured."""
    return shares_of(rates, measured) * np.asarray(total, dtype=np.float32)[:, None]


def fit_rates(
    rates: NDArray[Any],
    counts: NDArray[Any],
    measured: NDArray[np.bool_] | None = None,
    *,
    adds_up: bool = True,
) -> RateCalibration:
    """Fit to cells whose counts are known: afterwards every feature has its observed total.

    Parameters
    ----------
    rates
        ``(n, G)`` as decoded, for the total of each cell.
    counts
        ``(n, G)`` observed, zero where not measured.
    measured
        ``(n, G)``; all by default.
    adds_up
        Whether rates add up to the total; if not they are probabilities, and ``counts`` are 0 or 1.
    """
    here = np.ones((1, counts.shape[1])) if measured is None else measured
    observed, total = counts.sum(axis=0, dtype=np.float64), counts.sum(axis=1)
    found = RateCalibration(np.ones(counts.shape[1], dtype=np.float32), adds_up)
    for _ in range(STEPS):
        expected = (found(rates, total, measured) * here).sum(axis=0, dtype=np.float64)
        step = (observed + PRIOR_COUNTS) / (expected + PRIOR_COUNTS)
        found = RateCalibration((found.factor * step).astype(np.float32), adds_up)
    return found
