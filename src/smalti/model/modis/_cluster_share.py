"""Whether samples cluster by their labels at all, before a network is made to cluster them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

ENOUGH = 0.2
"""Adjusted Rand index of clusters and labels above which clustering terms have their full weight."""
MIN_LABELLED = 8
"""Labelled samples of a modality below which it does not take part."""
MAX_CELLS = 5000


def cluster_share(
    values: Mapping[str, NDArray[np.float32]],
    maps: Mapping[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
    random_state: int = 0,
) -> float:
    """Return which share of their weight clustering terms deserve, in [0, 1].

    Terms that press samples into as many clusters as there are classes find the strongest structure. If that is not the
    classes but, say, how pure a sample is, they turn classes over. Each modality is clustered by k-means into as many
    clusters as it has labelled classes, without the labels, and the adjusted Rand index with the labels is averaged
    over labelled samples: the full weight is given at 0.2, nothing at 0, in between in proportion.

    Parameters
    ----------
    values, maps
        Encoder inputs and the row of every sample in them, -1 where absent.
    labels
        ``(n_obs,)``, -1 where not known.
    random_state
        Seed.

    Returns
    -------
    1 if there are too few labels to tell.
    """
    total = weight = 0.0
    for name, x in values.items():
        rows = maps[name]
        known = (rows >= 0) & (labels >= 0)
        n_classes = len(np.unique(labels[known]))
        if known.sum() < MIN_LABELLED or n_classes < 2 or not np.isfinite(x).all():
            continue
        rng = np.random.default_rng(random_state)
        some = np.sort(rng.permutation(len(x))[:MAX_CELLS])
        found = KMeans(n_classes, n_init=4, random_state=random_state).fit(x[some])
        agreement = adjusted_rand_score(labels[known], found.predict(x[rows[known]]))
        total, weight = total + agreement * known.sum(), weight + known.sum()
    if weight == 0:
        return 1.0
    share = float(np.clip(total / weight / ENOUGH, 0, 1))
    if share < 1:
        logger.info(
            "Samples do not cluster by their labels (adjusted Rand index %.2f): clustering terms have %.0f %% of their "
            "weight.",
            *(total / weight, 100 * share),
        )
    return share
