"""Fitting the frozen projection: feature weights, target sum, decomposition, offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smalti.nn import FrozenProjection, SparseRows

from ._arrays import moments
from ._centred import CentredMatrix
from ._median import streamed_median
from ._rows import MappedRows, as_tensors, row_blocks
from ._svd import right_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from smalti.nn import ProjectionKind

    from ._arrays import Codes, Floats

TYPICAL_COUNT = 6.0
"""Median of the stored values before the logarithm that ``target_sum=None`` aims at in ``"tfidf"``.

Held-out pairs of SNARE-seq (RNA and ATAC) and two CITE-seq sets are matched best for 2 to 18; a fixed target of 10,000
is far too large for cells with 84 fragments.
"""
LOGNORM_TARGET = 1e4


@dataclass(frozen=True)
class Recipe:
    """What to do between the map of single values and the components.

    Parameters
    ----------
    kind
        The map of single values.
    center
        Subtract feature means before the decomposition.
    standardize
        Divide features by their standard deviations.
    row_standardize
        Divide components by their singular values and standardise rows.
    n_dropped
        Number of leading components to drop.
    """

    kind: ProjectionKind
    center: bool = True
    standardize: bool = False
    row_standardize: bool = False
    n_dropped: int = 0


def fit_projection(
    x: Any,
    codes: Codes,
    n_batch: int,
    mask: NDArray[np.bool_] | None,
    recipe: Recipe,
    *,
    n_components: int,
    target_sum: float | None,
    random_state: int,
) -> tuple[FrozenProjection, Floats]:
    """Return the projection, without batch centres, and the singular values ``(K,)``; ``K`` may be 0.

    Parameters
    ----------
    x
        ``(n, G)`` raw values, CSR, dense, or in chunks; they are read in a bounded number of passes.
    codes
        ``(n,)`` in ``[0, n_batch]``, the last for unknown batch.
    mask
        ``(n_batch + 1, G)``, or None if all was measured.
    """
    n, g = x.shape
    first = FrozenProjection(g, 0, n_batch, kind=recipe.kind, masked=mask is not None)
    full = np.ones((n_batch + 1, g))
    if mask is not None:
        first.feature_mask.copy_(torch.from_numpy(mask))
        first.n_measured.copy_(torch.from_numpy(mask.sum(axis=1)))
        full = mask.astype(np.float64)
    cells = np.bincount(codes, minlength=n_batch + 1).astype(np.float64)
    _set_map(first, x, codes, cells @ full, target_sum)
    values = MappedRows(first, x, codes)
    mean, weight = np.zeros(g), np.ones(g)
    if recipe.center or recipe.standardize:
        feature_mean, sd = moments(values, full, codes)
        mean = feature_mean if recipe.center else mean
        if recipe.standardize:
            varies = sd > 1e-7 * np.maximum(np.abs(feature_mean), 1e-30)
            weight = np.where(varies, 1.0 / np.where(varies, sd, 1.0), 0.0)
    matrix = CentredMatrix(values, codes, full, mean, weight)
    vectors, singular = right_vectors(matrix, n_components + recipe.n_dropped, random_state)
    vectors, singular = vectors[:, recipe.n_dropped :], singular[recipe.n_dropped :]
    vectors *= weight[:, None]
    if recipe.row_standardize:
        vectors = vectors * (np.sqrt(n) / singular)
    out = FrozenProjection(
        g,
        vectors.shape[1],
        n_batch,
        kind=recipe.kind,
        row_standardize=recipe.row_standardize,
        masked=mask is not None,
    )
    for name in ("target_sum", "feature_weight", "n_measured", "feature_mask"):
        if hasattr(out, name):
            getattr(out, name).copy_(getattr(first, name))
    out.weight.copy_(torch.from_numpy(vectors))
    out.offset.copy_(torch.from_numpy((full * mean) @ vectors))
    return out, singular


def _set_map(module: FrozenProjection, x: Any, codes: Codes, n_measuring: Floats, target_sum: float | None) -> None:
    """Set target sum and feature weights; ``n_measuring`` is the number of cells that measured each feature."""
    if module.kind == "lognorm":
        module.target_sum.fill_(LOGNORM_TARGET if target_sum is None else target_sum)
    elif module.kind == "tfidf":
        seen = np.zeros(module.n_features)
        for rows, shares in _shares(module, x, codes):
            seen += np.bincount(rows.indices[shares > 0], minlength=module.n_features)
        idf = np.where(seen > 0, n_measuring / np.maximum(seen, 1), 1.0)
        module.feature_weight.copy_(torch.from_numpy(idf))
        if target_sum is None:
            typical = streamed_median(lambda: (s * idf[rows.indices] for rows, s in _shares(module, x, codes)))
            target_sum = TYPICAL_COUNT / (typical or 1.0)
        module.target_sum.fill_(target_sum)


def _shares(module: FrozenProjection, x: Any, codes: Codes) -> Iterator[tuple[SparseRows, Floats]]:
    """Yield blocks of rows and, of each of their stored values, the share of what the row measured."""
    for at, block in row_blocks(x, sparse=True):
        rows = as_tensors(block)
        assert isinstance(rows, SparseRows)
        values = module.measured(rows, torch.from_numpy(codes[at]))
        shares = values / rows.repeat(rows.map_values(values).row_sums().clamp_min(1e-12))
        yield rows, shares.double().numpy()
