"""What several simulators need: arguments by modality, numbered names, dealing in turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from smalti._validate import check_keys, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

T = TypeVar("T")


def per_modality(value: T | Mapping[str, T], names: Sequence[str], what: str) -> dict[str, T]:
    """Return a value for each of ``names``, from one for all or a mapping that names each of them."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    check_keys(value, names, f"`{what}` by modality")
    check_keys(names, list(value), f"`{what}` by modality")
    return {name: value[name] for name in names}


def numbered(stem: str, n: int) -> list[str]:
    """Return ``n`` names that sort as they are numbered."""
    width = len(str(n - 1))
    return [f"{stem}_{i:0{width}d}" for i in range(n)]


def round_robin(n: int, weights: Sequence[float] | NDArray[np.float64], what: str) -> NDArray[np.int64]:
    """Deal ``n`` items to groups in turns, so that every start of the sequence has nearly the right proportions."""
    weight = np.asarray(weights, dtype=float)
    if not np.isfinite(weight).all() or (weight < 0).any() or weight.sum() == 0:
        raise ValueError(f"Expected `{what}` to be numbers >= 0, not all zero, found {shorten(weight.tolist())}.")
    groups = np.flatnonzero(weight)
    due = (np.arange(n)[:, None] + 0.5) / weight[groups]
    return groups[np.argsort(due.ravel(), kind="stable")[:n] % len(groups)]
