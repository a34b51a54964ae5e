"""Checks and passes over raw matrices that fitted transforms need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp

from smalti._validate import shorten

from ._rows import is_streamed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._rows import Blocks, RowChunks

    Matrix: TypeAlias = NDArray[Any] | sp.spmatrix | sp.sparray | RowChunks
    Floats: TypeAlias = NDArray[np.float64]
    Codes: TypeAlias = NDArray[np.int64]

SMALL_BATCH = 10
"""Batches of fewer cells are centred by the mean over batches, since their own mean is mostly noise."""


def as_rows(x: Any) -> Any:
    """Return ``x`` as CSR without duplicates, or as a dense array, whichever it was; never a densified copy.

    What hands out chunks stays where it is.
    """
    if is_streamed(x):
        return x
    if sp.issparse(x):
        x = x.tocsr()
        if not x.has_canonical_format:
            x = x.copy()
            x.sum_duplicates()
    else:
        x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"Expected a matrix of cells by features, found {x.ndim} dimension(s).")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Expected numbers, found values of type {x.dtype}.")
    return x


def check_batch(batch: ArrayLike | None, n: int, n_batch: int | None) -> tuple[Codes, int]:
    """Return codes ``(n,)`` with the unknown batch as ``n_batch``, and the number of batches."""
    if batch is None:
        return np.zeros(n, dtype=np.int64), 1 if n_batch is None else n_batch
    codes = np.asarray(batch)
    if codes.shape != (n,) or codes.dtype.kind not in "iu":
        raise ValueError(f"Expected `batch` to be {n} whole numbers, found shape {codes.shape} of type {codes.dtype}.")
    codes = codes.astype(np.int64)
    if n_batch is None:
        n_batch = max(int(codes.max(initial=0)) + 1, 1)
    outside = np.unique(codes[(codes < -1) | (codes >= n_batch)])
    if outside.size:
        raise ValueError(f"Expected `batch` codes from -1 to {n_batch - 1}, found {shorten(outside.tolist())}.")
    return np.where(codes < 0, n_batch, codes), n_batch


def check_mask(feature_mask: ArrayLike | None, n_batch: int, g: int) -> NDArray[np.bool_] | None:
    """Return the mask with a last row for the unknown batch, or None if everything was measured."""
    if feature_mask is None:
        return None
    mask = np.asarray(feature_mask)
    if mask.shape != (n_batch, g) or mask.dtype != bool:
        raise ValueError(
            f"Expected `feature_mask` of type bool and shape ({n_batch}, {g}), found {mask.dtype} and {mask.shape}."
        )
    if mask.all():
        return None
    return np.vstack([mask, mask.any(axis=0)])


def moments(values: Blocks, mask: Floats, codes: Codes) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of every feature over the cells that measured it, in two passes."""
    g = values.shape[1]
    n = np.maximum(np.bincount(codes, minlength=len(mask)) @ mask, 1.0)
    mean = np.zeros(g)
    for _, block in values.blocks():
        if sp.issparse(block):
            mean += np.bincount(block.indices, block.data, g)
        else:
            mean += block.sum(axis=0, dtype=np.float64)
    mean /= n
    square, empty = np.zeros(g), n.copy()  # cells of which nothing is stored differ from the mean by the mean
    for at, block in values.blocks():
        if sp.issparse(block):
            square += np.bincount(block.indices, (block.data - mean[block.indices]) ** 2, g)
            empty -= np.bincount(block.indices, minlength=g)
        else:
            centred = (block - mean) * mask[codes[at]]
            square += np.einsum("ij,ij->j", centred, centred)
            empty -= mask[codes[at]].sum(axis=0)
    square += empty * mean**2
    return mean, np.sqrt(np.maximum(square, 0.0) / n)


def batch_means(z: Floats, codes: Codes, n_batch: int) -> Floats:
    """Return the centre of every batch and, last, of the unknown batch: the mean over batches, ``(n_batch + 1, K)``."""
    cells = np.bincount(codes, minlength=n_batch + 1)[:n_batch]
    sums = np.stack([np.bincount(codes, column, n_batch + 1)[:n_batch] for column in z.T], axis=1)
    own = cells >= min(SMALL_BATCH, cells.max(initial=0))
    means = sums / np.maximum(cells, 1)[:, None]
    overall = means[own & (cells > 0)].mean(axis=0) if (cells > 0).any() else z.mean(axis=0)
    return np.vstack([np.where(own[:, None], means, overall), overall])
