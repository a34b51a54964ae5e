"""The part of an evaluation that looks at all cells: types, batches, presence patterns, total."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti import metrics
from smalti.tl._evaluation import BATCH, PRESENCE, TOTAL, TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.metrics import Neighbors
    from smalti.tl._evaluate_inputs import Latents

LISI_NEIGHBORS = 90
LEAST_CELLS = 20
"""Fewer cells are no neighbourhood."""


def quality_scores(
    latents: Latents,
    labels: NDArray[Any] | None,
    batch: NDArray[Any] | None,
    pattern: NDArray[Any],
    notes: dict[str, str],
    *,
    seed: int,
) -> dict[str, float]:
    """Return the scores of all cells that have a latent; what is not defined is left out, and the notes say why."""
    here = np.isfinite(latents.joint).all(axis=1)
    if not here.all():
        notes[f"all cells, {latents.name}"] = f"{int((~here).sum())} cells without a latent are left out."
    if here.sum() < LEAST_CELLS:
        notes[TOTAL] = f"{int(here.sum())} cells have a latent, too few for neighbourhoods."
        return {}
    z = latents.joint[here]
    labels, batch = (None if values is None else values[here] for values in (labels, batch))
    pattern = pattern[here]
    neighbors = metrics.nearest_neighbors(z, k=min(LISI_NEIGHBORS, len(z) - 2), seed=seed)
    out = _types(z, labels, neighbors, notes, seed=seed)
    inside = labels if _several(labels) else None
    if inside is None:
        notes["silhouettes and kBET"] = "they look within cell types; name a column with several in `labels_key`."
    if batch is None:
        notes[BATCH] = "name the column of batches in `batch_key`."
    elif pd.isna(batch).any():
        notes[BATCH] = f"{int(pd.isna(batch).sum())} cells have no batch."
    elif not _several(batch):
        notes[BATCH] = "there is one batch."
    else:
        out |= _mixing(z, batch, inside, "batch", neighbors)
    groups = np.zeros(len(z), dtype=int) if batch is None else pd.factorize(batch)[0]
    counts = pd.crosstab(groups, pattern) > 0
    rows = np.isin(groups, counts.index[counts.sum(axis=1) > 1])
    if rows.sum() < LEAST_CELLS:
        notes[PRESENCE] = "in every batch all cells were measured in the same modalities."
    else:
        within = None if inside is None else inside[rows]
        out |= _mixing(z[rows], pattern[rows], within, "presence", neighbors if rows.all() else None)
    if "bio" in out:
        out["total"] = metrics.total_score(out["bio"], batch=out.get("batch"), presence=out.get("presence"))
    else:
        notes[TOTAL] = "it needs cell types."
    return out


def _types(
    z: NDArray[Any], labels: NDArray[Any] | None, neighbors: Neighbors, notes: dict[str, str], *, seed: int
) -> dict[str, float]:
    if labels is None:
        notes[TYPES] = "name the column of cell types in `labels_key`."
        return {}
    if not _several(labels):
        notes[TYPES] = "fewer than two types are known."
        return {}
    try:
        found = metrics.biology_scores(z, labels, neighbors=neighbors, seed=seed)
    except ImportError:
        notes[TYPES] = "Leiden clusters need igraph (`pip install igraph`); without them there is no mean and no total."
        clusters = metrics.nmi_ari(z, labels, seed=seed)
        return {"nmi": clusters.nmi, "ari": clusters.ari}
    return {
        "nmi": found.nmi_kmeans,
        "ari": found.ari_kmeans,
        "nmi_leiden": found.nmi_leiden,
        "ari_leiden": found.ari_leiden,
        "asw_types": found.asw,
        "clisi": found.clisi,
        "connectivity": found.connectivity,
        "bio": found.mean,
    }


def _mixing(
    z: NDArray[Any], groups: NDArray[Any], labels: NDArray[Any] | None, name: str, neighbors: Neighbors | None
) -> dict[str, float]:
    use_kbet = name == "batch"  # of rare patterns kBET says little
    found = metrics.mixing_scores(z, groups, labels=labels, use_kbet=use_kbet, neighbors=neighbors)
    scores = {"ilisi": found.ilisi, "asw": found.asw, "kbet": found.kbet}
    return {f"{key}_{name}": value for key, value in scores.items() if value is not None} | {name: found.mean}


def _several(values: NDArray[Any] | None) -> bool:
    return values is not None and pd.Series(values).nunique() > 1
