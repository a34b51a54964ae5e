"""The parts of a task's score, under the names of its table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti.benchmark._data import TEST, UNLABELED
from smalti.metrics import biology_scores, label_transfer, matching_scores, mixing_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.benchmark._data import PairedData
    from smalti.metrics import Neighbors


def matching(
    data: PairedData, roles: NDArray[Any], z: dict[str, NDArray[np.float32]], *, one_batch: bool
) -> dict[str, float]:
    """Return how well hidden pairs are found within batches, and types carried across; nothing without such pairs."""
    test = np.flatnonzero(roles == TEST)
    if not len(test):
        return {}
    first, second = data.modalities
    x, y = z[first][test], z[second][test]
    totals = {m: np.log1p(np.asarray(data.counts[m][test].sum(axis=1)).ravel()) for m in data.modalities}
    groups = np.zeros(len(test), int) if one_batch else data.batch[test]
    found = matching_scores(x, y, groups=groups, x_totals=totals[first], y_totals=totals[second])
    out = {"foscttm": found.foscttm, "foscttm_depth": float(found.foscttm_depth or 0), "ms10": found.matching}
    labels = data.labels[test]
    if len(np.setdiff1d(labels, UNLABELED)) > 1:
        ways = ((x, y), (y, x))
        out["transfer"] = float(np.mean([label_transfer(a, labels, b, labels, exclude=UNLABELED) for a, b in ways]))
    return out


def biology(z: NDArray[np.float32], labels: NDArray[Any], neighbors: Neighbors) -> dict[str, float]:
    """Return how well cell types are kept."""
    found = asdict(biology_scores(z, labels, exclude=UNLABELED, neighbors=neighbors))
    names = {"nmi_km": "nmi_kmeans", "ari_km": "ari_kmeans", "bio": "mean"}
    names |= {name: name for name in ("nmi_leiden", "ari_leiden", "asw", "clisi", "connectivity")}
    return {name: float(found[key]) for name, key in names.items()}


def mixing(
    z: NDArray[np.float32], labels: NDArray[Any], groups: NDArray[Any], name: str, neighbors: Neighbors | None
) -> dict[str, float]:
    """Return how well batches (with kBET) or presence patterns (without) mix."""
    use_kbet = name == "batch"
    found = mixing_scores(z, groups, labels=labels, exclude=UNLABELED, use_kbet=use_kbet, neighbors=neighbors)
    scores = {"ilisi": found.ilisi, "asw": found.asw, "kbet": found.kbet}
    return {f"{key}_{name}": value for key, value in scores.items() if value is not None} | {name: found.mean}
