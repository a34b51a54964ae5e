"""Geometry of embeddings on the sphere: are partners close, and is the sphere used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from smalti._linalg import unit_rows
from smalti._validate import check_count, check_positive
from smalti.metrics._inputs import as_embedding, as_mask, as_pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def alignment(
    x: ArrayLike,
    y: ArrayLike,
    *,
    alpha: float = 2.0,
    x_mask: ArrayLike | None = None,
    y_mask: ArrayLike | None = None,
) -> float:
    r"""Compute how far the two embeddings of a cell are apart on the unit sphere :cite:p:`Wang2020`.

    .. math:: \frac1n \sum_i \left\| \frac{x_i}{\|x_i\|} - \frac{y_i}{\|y_i\|} \right\|^\alpha

    Parameters
    ----------
    x, y
        ``(n_cells, d)`` embeddings of the same cells, such as one modality and the fusion of all.
    alpha
        Power of the distance.
    x_mask, y_mask
        ``(n_cells,)`` boolean, True where the cell has an embedding. Cells that lack one (NaN allowed) do not count.

    Returns
    -------
    In [0, 2 ** alpha], lower is better: 0 if partners coincide, 2 on average for random directions and ``alpha=2``. An
    embedding that has collapsed to one point has 0, too: read it beside :func:`uniformity`.

    Raises
    ------
    ValueError
        If shapes differ, an embedding that is used is not finite, or no cell has both.
    """
    check_positive(alpha, "alpha")
    x, y = as_pair(x, y, x_mask=x_mask, y_mask=y_mask)
    both = as_mask(x_mask, len(x), "x_mask") & as_mask(y_mask, len(y), "y_mask")
    if not both.any():
        raise ValueError("Expected cells with both embeddings, found no cell that `x_mask` and `y_mask` share.")
    gap = unit_rows(x[both].astype(np.float64)) - unit_rows(y[both].astype(np.float64))
    return float(np.mean(np.linalg.norm(gap, axis=1) ** alpha))


def uniformity(x: ArrayLike, *, t: float = 2.0, mask: ArrayLike | None = None, chunk_size: int = 1024) -> float:
    r"""Compute how evenly embeddings fill the unit sphere :cite:p:`Wang2020`.

    .. math:: \ln \frac{2}{n (n - 1)} \sum_{i < j} e^{-t \| \hat x_i - \hat x_j \|^2}, \qquad \hat x = x / \|x\|

    All pairs are taken, in tiles; the full matrix of distances is never held.

    Parameters
    ----------
    x
        ``(n_cells, d)`` embeddings.
    t
        Sharpness of the kernel.
    mask
        ``(n_cells,)`` boolean, True where the cell has an embedding. Others (NaN allowed) do not count, which matters:
        cells without any measurement would all lie at one point.
    chunk_size
        Rows of a tile.

    Returns
    -------
    In [-4 t, 0], lower is better: 0 if all coincide, about -2 t for directions at random in many dimensions.

    Raises
    ------
    ValueError
        If an embedding that is used is not finite, or there are fewer than two.
    """
    check_positive(t, "t")
    check_count(chunk_size, "chunk_size")
    array = as_embedding(x, "x", mask=mask)
    unit = unit_rows(array[as_mask(mask, len(array), "mask")].astype(np.float64))
    n = len(unit)
    if n < 2:
        raise ValueError(f"Expected at least two embeddings, found {n}.")
    norms, total = (unit**2).sum(axis=1), 0.0
    for start in range(0, n, chunk_size):
        rows = slice(start, start + chunk_size)
        squared = np.maximum(norms[rows, None] + norms[None] - 2 * unit[rows] @ unit.T, 0.0)
        total += float(np.exp(-t * squared).sum())
    return float(np.log((total - n) / (n * (n - 1))))


def stress(x: ArrayLike, truth: ArrayLike, *, chunk_size: int = 1024) -> float:
    r"""Compute how far distances in an embedding are from true ones, whatever its rotation, reflection and shift.

    .. math:: \sum_{i < j} \big(\|x_i - x_j\| - \|t_i - t_j\|\big)^2 \Big/ \sum_{i < j} \|t_i - t_j\|^2

    Parameters
    ----------
    x
        ``(n_cells, d)`` embedding, in the unit of the truth.
    truth
        ``(n_cells, k)`` true coordinates.
    chunk_size
        Rows of a tile; the full matrix of distances is never held.

    Returns
    -------
    At least 0, lower is better: 0 if all distances are right, 1 if all points coincide.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, there are fewer than two cells, or all true points coincide.
    """
    check_count(chunk_size, "chunk_size")
    found, true = as_embedding(x, "x").astype(np.float64), as_embedding(truth, "truth").astype(np.float64)
    if len(found) != len(true):
        raise ValueError(f"Expected as many rows in `x` as in `truth`, found {len(found)} and {len(true)}.")
    if len(found) < 2:
        raise ValueError(f"Expected at least two cells, found {len(found)}.")
    wrong, total = 0.0, 0.0
    for start in range(0, len(found), chunk_size):
        rows = slice(start, start + chunk_size)
        d, t = cdist(found[rows], found), cdist(true[rows], true)
        wrong += float(np.square(d - t).sum())
        total += float(np.square(t).sum())
    if total == 0:
        raise ValueError("Expected true coordinates that differ, found one point for all cells.")
    return wrong / total
