"""Checks and passes over raw matrices that fitted transforms need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch

from smalti._validate import shorten
from smalti.nn import SparseRows

from ._svd import CHUNK_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from smalti.nn import FrozenProjection

    Matrix: TypeAlias = NDArray[Any] | sp.spmatrix | sp.sparray
    Floats: TypeAlias = NDArray[np.float64]
    Codes: TypeAlias = NDArray[np.int64]

SMALL_BATCH = 10
"""Batches of fewer cells are centred by the mean over batches, since their own mean is mostly noise."""


def as_rows(x: Any) -> Any:
    """Return ``x`` as CSR without duplicates, or as a dense array, whichever it was; never a densified copy."""
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


def chunks(x: Any) -> Iterator[tuple[int, int, SparseRows | torch.Tensor]]:
    """Yield consecutive rows as tensors that hold at most about two million values."""
    n, g = x.shape
    if not sp.issparse(x):
        step = max(1, CHUNK_ENTRIES // max(g, 1))
        for start in range(0, n, step):
            block = np.ascontiguousarray(x[start : start + step], dtype=np.float32)
            yield start, start + len(block), torch.from_numpy(block)
        return
    step = max(1, min(16_384, CHUNK_ENTRIES * n // max(x.nnz, 1)))
    for start in range(0, n, step):
        stop = min(start + step, n)
        a, b = int(x.indptr[start]), int(x.indptr[stop])
        indptr = torch.from_numpy((x.indptr[start : stop + 1] - a).astype(np.int64))
        indices = torch.from_numpy(x.indices[a:b].astype(np.int64))
        yield start, stop, SparseRows(indptr, indices, torch.from_numpy(x.data[a:b].astype(np.float32)))


def mapped(module: FrozenProjection, x: Any, codes: Codes) -> sp.csr_matrix | Floats:
    """Return the mapped values of all cells, stored as they came."""
    out = np.empty(x.nnz if sp.issparse(x) else x.shape)
    for start, stop, rows in chunks(x):
        values, _ = module.map_values(rows, torch.from_numpy(codes[start:stop]))
        if isinstance(values, SparseRows):
            out[x.indptr[start] : x.indptr[stop]] = values.values.numpy()
        else:
            out[start:stop] = values.numpy()
    return sp.csr_matrix((out, x.indices, x.indptr), shape=x.shape) if sp.issparse(x) else out


def moments(values: Any, mask: Floats, codes: Codes) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of every feature over the cells that measured it, in two passes."""
    n = np.maximum(np.bincount(codes, minlength=len(mask)) @ mask, 1.0)
    mean = np.asarray(values.sum(axis=0)).ravel() / n
    if sp.issparse(values):
        g = values.shape[1]
        shift = mean[values.indices]
        stored = np.bincount(values.indices, (values.data - shift) ** 2 - shift**2, g)
        return mean, np.sqrt(np.maximum(stored + n * mean**2, 0.0) / n)
    square = np.zeros(values.shape[1])
    step = max(1, CHUNK_ENTRIES // max(values.shape[1], 1))
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        block = (values[part] - mean) * mask[codes[part]]
        square += np.einsum("ij,ij->j", block, block)
    return mean, np.sqrt(square / n)


def batch_means(z: Floats, codes: Codes, n_batch: int) -> Floats:
    """Return the centre of every batch and, last, of the unknown batch: the mean over batches, ``(n_batch + 1, K)``."""
    cells = np.bincount(codes, minlength=n_batch + 1)[:n_batch]
    sums = np.stack([np.bincount(codes, column, n_batch + 1)[:n_batch] for column in z.T], axis=1)
    own = cells >= min(SMALL_BATCH, cells.max(initial=0))
    means = sums / np.maximum(cells, 1)[:, None]
    overall = means[own & (cells > 0)].mean(axis=0) if (cells > 0).any() else z.mean(axis=0)
    return np.vstack([np.where(own[:, None], means, overall), overall])
