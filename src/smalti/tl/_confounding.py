"""What mixing batches would take away with them: kinds of cells, or of measurements, that go with the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import shorten
from smalti.data import find_patterns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SURELY_EXPECTED = 5.0
"""Cells of a label expected in a batch before its absence there is remarked on: by chance it is then absent once in 150
times."""


def confounded_labels(
    labels: NDArray[np.int64], label_names: Sequence[str], batch: NDArray[np.int64], batch_names: Sequence[str]
) -> list[str]:
    """Return a remark on labels that one batch alone has although others are large enough to show them.

    Parameters
    ----------
    labels, batch
        ``(n_obs,)`` codes, -1 where not known.
    label_names, batch_names
        Their names.
    """
    if len(batch_names) < 2 or not label_names:
        return []
    known = (labels >= 0) & (batch >= 0)
    count = np.zeros((len(label_names), len(batch_names)))
    np.add.at(count, (labels[known], batch[known]), 1)
    size = count.sum(axis=0)
    found = []
    for row, name in zip(count, label_names, strict=True):
        here = np.flatnonzero(row)
        if len(here) != 1:
            continue
        share = row[here[0]] / size[here[0]]
        if any(share * size[b] >= SURELY_EXPECTED for b in range(len(size)) if b != here[0]):
            found.append(f"{name} ({batch_names[here[0]]})")
    if not found:
        return []
    return [
        f"Labels that one batch alone has: {shorten(found)}. Mixing batches may move such cells towards others: "
        "compare with `get_latent_representation(batch_correction='off')`."
    ]


def confounded_presence(presence: NDArray[np.bool_], batch: NDArray[np.int64], batch_names: Sequence[str]) -> list[str]:
    """Return a remark if every batch was measured in a way of its own, so that nothing can tell the two apart.

    Parameters
    ----------
    presence
        ``(n_obs, M)``.
    batch
        ``(n_obs,)`` codes, -1 where not known.
    batch_names
        Their names.
    """
    if len(batch_names) < 2:
        return []
    codes = find_patterns(presence).group
    per_batch = [set(codes[batch == b]) for b in range(len(batch_names))]
    used = [code for found in per_batch for code in found]
    if len(used) < 2 or any(len(found) > 1 for found in per_batch) or len(set(used)) < len(used):
        return []
    return [
        "Every batch was measured in a way of its own: differences between batches and between what was measured "
        "cannot be told apart, and are mixed away together."
    ]
