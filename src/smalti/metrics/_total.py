"""One number for an embedding, with the weights of scIB."""

from __future__ import annotations

import numpy as np

BIOLOGY_WEIGHT = 0.6


def total_score(biology: float, *, batch: float | None = None, presence: float | None = None) -> float:
    r"""Weigh how well types are kept and how well batches and presence patterns mix (Luecken et al., 2022).

    .. math:: 0.6\,\text{biology} + 0.4\,\text{mean of batch and presence}

    Parameters
    ----------
    biology
        Mean of the scores of cell types, see :func:`biology_scores`.
    batch, presence
        Means of the mixing scores, see :func:`mixing_scores`; None where there is only one batch or pattern.

    Returns
    -------
    At most 1, higher is better. Without batch and presence the score of biology alone, so that totals of data with and
    without batches cannot be compared.
    """
    mixing = [score for score in (batch, presence) if score is not None]
    if not mixing:
        return float(biology)
    return float(BIOLOGY_WEIGHT * biology + (1 - BIOLOGY_WEIGHT) * np.mean(mixing))
