r"""Leading right singular vectors of a sparse matrix that is centred, weighted and masked without being densified.

Block Lanczos iteration without restarts: the vectors are sought in the Krylov space of :math:`A^\top A`, or of
:math:`A A^\top` where there are fewer cells than features, that a random block of 16 vectors spans with its images, at
most 30 blocks :cite:p:`Golub1977`. Single precision suffices for the images, since the triangle that follows from them
is solved anew, in double precision, within the space of the vectors that are kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._centred import CentredMatrix

    Floats = NDArray[np.float64]

logger = logging.getLogger(__name__)

DENSE_ENTRIES = 4_000_000  # 32 MB in float64: below this a dense decomposition costs nothing worth saving
DENSE_SIDE = 256  # a dense decomposition of such a short side is faster than the others
GRAM_SIDE = 512  # a Gram matrix of this side takes 2 MB and one pass over the rows
WIDTH = 16
"""Vectors of a block: wider ones need more products for the same accuracy, narrower ones more passes."""
MAX_BLOCKS = 30
"""Blocks of the Krylov space, so that time and memory do not depend on how close singular values are. With 30, the
last of 30 components of 10,309 cells by 25,734 regions has a cosine of 0.98 with the exact one, the first 15 1.0000."""
TOLERANCE = 1e-3
"""Length of the residual of an eigenvector of :math:`A^\\top A`, as a share of its eigenvalue, at which it is done."""
CHECK_EVERY = 5


def right_vectors(matrix: CentredMatrix, n_components: int, random_state: int) -> tuple[Floats, Floats]:
    """Return the leading right singular vectors ``(G, K)`` and singular values ``(K,)``, largest first.

    Exact up to rounding for small matrices (a dense decomposition) and where a side is short (its Gram matrix); else by
    block Lanczos iteration with a bounded number of passes, see above. Directions without variance are left out, so
    ``K`` may be smaller than asked for. The largest entry of each vector is positive.
    """
    n, g = matrix.shape
    side = min(n, g)
    k = min(n_components, side)
    if n * g <= DENSE_ENTRIES and (side <= DENSE_SIDE or 4 * k >= side):
        _, s, vt = scipy.linalg.svd(matrix.dense(), full_matrices=False)
        v = vt.T
    elif g <= GRAM_SIDE:
        eigenvalues, v = scipy.linalg.eigh(matrix.gram())
        s, v = np.sqrt(np.maximum(eigenvalues[::-1], 0.0)), v[:, ::-1]
    else:
        v, s = _improved(matrix, _krylov_vectors(matrix, k, random_state))
    s, v = s[:k], v[:, :k]
    real = s > 1e-6 * max(s.max(initial=0.0), 1e-300)
    s, v = s[real], np.array(v[:, real])
    for column in v.T:
        column *= -1.0 if column[np.abs(column).argmax()] < 0 else 1.0
    return v, s


def _krylov_vectors(matrix: CentredMatrix, k: int, random_state: int) -> Floats:
    """Return vectors ``(G, k)`` that span almost the same space as the leading right singular vectors."""
    n, g = matrix.shape
    if g <= n:
        return block_lanczos(matrix.normal_times, g, k, random_state)

    def product(block: Floats) -> Floats:
        return matrix.times(matrix.transposed_times(block))

    if n <= GRAM_SIDE:
        u = scipy.linalg.eigh(product(np.eye(n)), subset_by_index=(n - k, n - 1))[1][:, ::-1]
    else:
        u = block_lanczos(product, n, k, random_state)
    return matrix.transposed_times(u)


def block_lanczos(product: Callable[[Floats], Floats], size: int, k: int, random_state: int) -> Floats:
    """Return approximate leading eigenvectors ``(size, k)`` of a symmetric matrix without negative eigenvalues.

    Parameters
    ----------
    product
        Function of ``(size, b)`` that returns the product of the matrix with it.
    size
        Rows of the matrix.
    k
        Number of vectors.
    random_state
        Seed of the first block.
    """
    width = min(WIDTH, size)
    n_blocks = min(max(MAX_BLOCKS, -(-2 * k // width)), size // width)
    basis = np.empty((size, n_blocks * width))
    projected = np.zeros((n_blocks * width, n_blocks * width))
    block = scipy.linalg.qr(np.random.default_rng(random_state).standard_normal((size, width)), mode="economic")[0]
    worst = np.inf
    for i in range(n_blocks):
        a, b = i * width, (i + 1) * width
        basis[:, a:b] = block
        image = np.array(product(block), np.float64)
        projected[:b, a:b] = _remove(image, basis[:, :b])
        projected[a:b, :b] = projected[:b, a:b].T
        block, triangle = scipy.linalg.qr(image, mode="economic")
        _remove(block, basis[:, :b])  # where little is left, what is left is rounding
        block = scipy.linalg.qr(block, mode="economic")[0]
        if b < k or ((i + 1) % CHECK_EVERY and i + 1 < n_blocks):
            continue
        values, vectors = scipy.linalg.eigh(projected[:b, :b], subset_by_index=(b - k, b - 1))
        residual = np.linalg.norm(triangle @ vectors[a:b], axis=0)
        worst = float((residual / np.maximum(values, 1e-10 * max(values.max(), 1e-300))).max())
        if worst <= TOLERANCE:
            break
    logger.debug("Block Lanczos: %d products with %d vectors, largest residual %.1e.", i + 1, width, worst)
    leading: Floats = basis[:, :b] @ vectors[:, ::-1]
    return leading


def _remove(image: Floats, basis: Floats) -> Floats:
    """Take the part of ``image`` within ``basis`` out of it, in place; return its coordinates."""
    coordinates = basis.T @ image
    image -= basis @ coordinates
    again = basis.T @ image
    image -= basis @ again
    out: Floats = coordinates + again
    return out


def _improved(matrix: CentredMatrix, v: Floats) -> tuple[Floats, Floats]:
    """Return the best singular vectors and values within the space of ``v``, in double precision."""
    v = v / np.maximum(np.linalg.norm(v, axis=0), 1e-300, dtype=np.float64)
    overlaps, turn = scipy.linalg.eigh(v.T @ v)
    kept = overlaps > 1e-10 * overlaps.max()
    turn = turn[:, kept] / np.sqrt(overlaps[kept])
    product = matrix.times(v, exact=True) @ turn
    eigenvalues, rotation = scipy.linalg.eigh(product.T @ product)
    return v @ (turn @ rotation[:, ::-1]), np.sqrt(np.maximum(eigenvalues[::-1], 0.0))
