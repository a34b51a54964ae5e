"""Means and standard deviations of features, in blocks of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._reader import make_reader, read_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from smalti.nn import ScaledInput

BLOCK_VALUES = 2_000_000
"""Values that are dense at once."""


@torch.no_grad()
def fit_scaled(
    layer: ScaledInput, x: Any, batch: NDArray[np.int64], mask: NDArray[np.bool_] | None = None
) -> ScaledInput:
    """Fit a layer in place: means per batch, standard deviations around them.

    Parameters
    ----------
    layer
        An unfitted layer; returned.
    x
        ``(n, G)`` raw values, sparse or dense.
    batch
        ``(n,)`` codes from 0. Batches without a cell get the mean over the others, and so do unknown ones.
    mask
        ``(n_batch, G)`` bool, features that each batch measured; all by default.
    """
    reader, (n, g), n_batch = make_reader(x), x.shape, layer.centre.shape[0] - 1
    if mask is not None:
        layer.feature_mask.copy_(torch.from_numpy(np.vstack([mask, mask.any(axis=0)])))
    step = max(1, BLOCK_VALUES // max(g, 1))

    def blocks() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows, block in read_blocks(reader, n, step):
            codes = torch.from_numpy(batch[rows])
            yield layer.normalised(block, codes).double(), codes

    cells = np.bincount(batch, minlength=n_batch)
    measured = torch.ones(n_batch, g, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
    weight = torch.from_numpy(cells)[:, None] * measured
    total = torch.zeros(n_batch, g, dtype=torch.float64)
    for values, codes in blocks():
        total.index_add_(0, codes, values)
    means = total / weight.clamp(min=1)
    known = weight > 0
    overall = (means * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)
    means = torch.where(known, means, overall)
    square = torch.zeros(g, dtype=torch.float64)
    for values, codes in blocks():
        square += ((values - means[codes]) * measured[codes]).square().sum(dim=0)
    sd = (square / weight.sum(dim=0).clamp(min=1)).sqrt()
    layer.centre.copy_(torch.cat([means, overall[None]]))
    layer.scale.copy_(torch.where(sd > 1e-8, 1 / sd.clamp(min=1e-8), torch.zeros_like(sd)))
    return layer
