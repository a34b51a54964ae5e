"""The older scores: candidates of all batches pooled, as published for CLUE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smalti.benchmark._data import PAIRED, TEST, UNLABELED
from smalti.metrics import cell_type_asw, foscttm, label_transfer, matching_score, nmi_ari, silhouette_mixing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from smalti.benchmark._data import PairedData


def pooled_scores(
    data: PairedData,
    roles: NDArray[Any],
    z: Mapping[str, NDArray[Any]],
    *,
    joint: NDArray[Any] | None = None,
    leiden: bool = True,
) -> dict[str, float]:
    """Score embeddings of the two modalities, with candidates of all batches.

    An embedding that tells donors apart is rewarded here, although every user knows the donor of a cell: compare by
    :meth:`Task.score`, and with published tables by this.

    Parameters
    ----------
    data
        The data.
    roles
        ``(n_cells,)`` from :func:`mosaic_split`.
    z
        ``{modality: (n_cells, d)}`` from each modality alone, NaN where absent; see :meth:`PairedData.scatter`.
    joint
        ``(n_cells, d)`` of cells that train paired; the mean of both by default.
    leiden
        Whether Leiden clusters are scored, too.

    Returns
    -------
    By name. Of test cells: ``foscttm`` and, by cosine, ``foscttm_cos`` (lower is better); ``ms_k1``, ``ms_k10``,
    ``ms_k20`` and their ``ms_chance``; ``mod_mixing``, ``ct_asw``; ``lt_1to2`` and ``lt_2to1``, the accuracy of labels
    carried by 15 neighbours from the first modality to the second and back. Of all profiles, paired cells once: NMI and
    ARI of k-means and Leiden. ``n_test`` and ``n_profiles`` count both.

    Raises
    ------
    ValueError
        If an embedding of a test cell is missing.
    """
    first, second = data.modalities
    test = np.flatnonzero(roles == TEST)
    x, y, labels = z[first][test], z[second][test], data.labels[test]
    both, twice = np.vstack([x, y]), np.concatenate([labels, labels])
    out: dict[str, float] = {
        "n_test": len(test),
        "foscttm": foscttm(x, y),
        "foscttm_cos": foscttm(x, y, metric="cosine"),
        **{f"ms_k{k}": matching_score(x, y, k=k) for k in (1, 10, 20)},
        "ms_chance": 1 / len(test),
        "mod_mixing": silhouette_mixing(both, np.repeat([0, 1], len(test))),
    }
    if len(np.setdiff1d(labels, UNLABELED)) > 1:
        out["lt_1to2"] = label_transfer(x, labels, y, labels, exclude=UNLABELED)
        out["lt_2to1"] = label_transfer(y, labels, x, labels, exclude=UNLABELED)
        out["ct_asw"] = cell_type_asw(both, twice, exclude=UNLABELED)
    rows = [np.flatnonzero(roles == PAIRED), *(np.flatnonzero(np.isin(roles, (m, TEST))) for m in data.modalities)]
    fused = (z[first][rows[0]] + z[second][rows[0]]) / 2 if joint is None else joint[rows[0]]
    profiles = np.vstack([fused, z[first][rows[1]], z[second][rows[2]]])
    labels = data.labels[np.concatenate(rows)]
    out["n_profiles"] = len(profiles)
    if len(np.setdiff1d(labels, UNLABELED)) > 1:
        kmeans = nmi_ari(profiles, labels, exclude=UNLABELED)
        out |= {"ari_kmeans": kmeans.ari, "nmi_kmeans": kmeans.nmi}
        if leiden:
            found = nmi_ari(profiles, labels, method="leiden", exclude=UNLABELED)
            out |= {"nmi_leiden": found.nmi, "ari_leiden": found.ari, "leiden_resolution": float(found.resolution or 0)}
    return out
