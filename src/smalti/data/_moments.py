"""Means and standard deviations of features, in blocks of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from smalti._disk import DiskMatrix
from smalti.nn import SparseRows

from ._reader import make_reader, read_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from smalti.nn import ScaledInput

BLOCK_VALUES = 1_000_000
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
    stored_sparse = x.sparse if isinstance(x, DiskMatrix) else sp.issparse(x)
    width = x.nnz // max(n, 1) + 1 if stored_sparse else g
    step = max(1, BLOCK_VALUES // max(width, 1))

    def blocks() -> Iterator[tuple[SparseRows | torch.Tensor, torch.Tensor]]:
        for rows, block in read_blocks(reader, n, step):
            codes = torch.from_numpy(batch[rows])
            yield layer.normalised(block, codes), codes

    cells = np.bincount(batch, minlength=n_batch)
    measured = torch.ones(n_batch, g, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
    weight = torch.from_numpy(cells)[:, None] * measured
    total = torch.zeros(n_batch, g, dtype=torch.float64)
    stored = torch.zeros(n_batch, g, dtype=torch.float64)
    for values, codes in blocks():
        if isinstance(values, SparseRows):
            at = (values.repeat(codes), values.indices)
            total.index_put_(at, values.values.double(), accumulate=True)
            stored.index_put_(at, torch.ones(len(values.values), dtype=torch.float64), accumulate=True)
        else:
            total.index_add_(0, codes, values.double())
    means = total / weight.clamp(min=1)
    known = weight > 0
    overall = (means * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)
    means = torch.where(known, means, overall)
    square = torch.zeros(g, dtype=torch.float64)
    sparse = False
    for values, codes in blocks():
        if isinstance(values, SparseRows):
            sparse = True
            row = values.repeat(codes)
            away = (values.values.double() - means[row, values.indices]) * measured[row, values.indices]
            square.index_add_(0, values.indices, away.square())
        else:
            square += ((values.double() - means[codes]) * measured[codes]).square().sum(dim=0)
    if sparse:  # zeros that are not stored differ from the mean by the mean
        unstored = torch.from_numpy(cells)[:, None] - stored
        square += (unstored * (means * measured).square()).sum(dim=0)
    sd = (square / weight.sum(dim=0).clamp(min=1)).sqrt()
    layer.centre.copy_(torch.cat([means, overall[None]]))
    layer.scale.copy_(torch.where(sd > 1e-8, 1 / sd.clamp(min=1e-8), torch.zeros_like(sd)))
    return layer
