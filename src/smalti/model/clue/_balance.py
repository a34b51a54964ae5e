"""Balancing weights of the modality game: populations without a counterpart in another modality count less."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from smalti._linalg import unit_rows
from smalti.model.parts import linear_alignment

if TYPE_CHECKING:
    from smalti.model.parts import CellComponents

logger = logging.getLogger(__name__)


def balancing_weights(components: CellComponents, modalities: list[str], random_state: int) -> torch.Tensor | None:
    """Weight down profiles of populations that have no counterpart in another modality.

    Each modality is clustered in the linear CCA embedding (k-means); for clusters ``a``, ``b`` of two modalities the
    cosine of their centroids, 0 below 0.5 and to the power 4, measures whether they correspond. With more than two
    modalities the products over pairs of modalities are summed per cluster. A cluster's weight is that sum divided by
    its size, normalised to mean 1 over profiles (release of :cite:t:`Tu2022`, which clusters by Leiden).

    Parameters
    ----------
    components
        Encoder inputs of all cells.
    modalities
        Names of all modalities, in the order of set-up.
    random_state
        Seed of k-means.

    Returns
    -------
    ``(n_obs, M)``, 1 where unknown; ``None`` without pairs to start from.
    """
    from sklearn.cluster import MiniBatchKMeans

    cca = linear_alignment(components)
    if cca is None:
        logger.info("No pairs to match populations by: the modality game is not balanced.")
        return None
    names = list(cca.axes)
    embedded = cca.transform({name: components.values[name] for name in names})
    clusters, centroids, sizes = {}, {}, {}
    for name in names:
        z = unit_rows(embedded[name])
        k = int(np.clip(np.sqrt(len(z) / 20), 2, 30))
        found = MiniBatchKMeans(k, n_init=3, random_state=random_state).fit(z)
        clusters[name] = found.labels_
        centroids[name] = unit_rows(found.cluster_centers_)
        sizes[name] = np.bincount(found.labels_, minlength=k)
    maps = components.maps
    table = np.ones((len(maps[names[0]]), len(modalities)), dtype=np.float32)
    for name in names:
        match = np.ones(len(centroids[name]))
        for other in names:
            if other != name:
                cosine = centroids[name] @ centroids[other].T
                match = match * (np.where(cosine < 0.5, 0.0, cosine) ** 4).sum(axis=1)
        weight = match / np.maximum(sizes[name], 1)
        per_profile = weight[clusters[name]]
        per_profile = per_profile / max(per_profile.mean(), 1e-12)
        here = maps[name] >= 0
        table[here, modalities.index(name)] = per_profile[maps[name][here]]
    return torch.from_numpy(table)
