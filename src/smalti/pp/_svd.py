"""Leading right singular vectors of a sparse matrix that is centred, weighted and masked without being densified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, svds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DENSE_ENTRIES = 4_000_000  # 32 MB in float64: below this a dense decomposition costs nothing worth saving
DENSE_SIDE = 256  # a dense decomposition of such a short side is faster than ARPACK
GRAM_SIDE = 512  # a Gram matrix of this side takes 2 MB and one pass over the rows
CHUNK_ENTRIES = 2_000_000


@dataclass(frozen=True)
class CentredMatrix:
    r"""The matrix :math:`(Y - m_b \odot \mu) D` of ``n`` rows in batches ``b``, never formed.

    Parameters
    ----------
    values
        ``(n, G)``, :math:`Y`; zero where a feature was not measured.
    batch
        ``(n,)`` codes.
    mask
        ``(n_batch, G)``, 1 where a batch measured a feature, else 0.
    mean
        ``(G,)``, :math:`\mu`.
    weight
        ``(G,)``, the diagonal of :math:`D`.
    """

    values: sp.csr_matrix | Floats
    batch: NDArray[np.int64]
    mask: Floats
    mean: Floats
    weight: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.values.shape

    def operator(self) -> LinearOperator:
        """Return the matrix as a linear operator."""
        n_batch = self.mask.shape[0]

        def forward(v: Floats) -> Floats:
            v = self.weight * v.ravel()
            return self.values @ v - (self.mask @ (self.mean * v))[self.batch]

        def backward(u: Floats) -> Floats:
            u = u.ravel()
            by_mean = (np.bincount(self.batch, u, n_batch) @ self.mask) * self.mean
            return self.weight * (self.values.T @ u - by_mean)

        return LinearOperator(self.shape, matvec=forward, rmatvec=backward, dtype=np.float64)

    def rows(self, start: int, stop: int) -> Floats:
        """Return a dense block of rows."""
        part: Any = self.values[start:stop]
        block = part.toarray() if sp.issparse(part) else np.asarray(part)
        return (block - self.mean * self.mask[self.batch[start:stop]]) * self.weight

    def gram(self) -> Floats:
        """Return ``(G, G)``, the product of the transpose with the matrix, from one pass over the rows."""
        n, g = self.shape
        out = np.zeros((g, g))
        step = max(1, CHUNK_ENTRIES // g)
        for start in range(0, n, step):
            block = self.rows(start, start + step)
            out += block.T @ block
        return out


def right_vectors(matrix: CentredMatrix, n_components: int, random_state: int) -> tuple[Floats, Floats]:
    """Return the leading right singular vectors ``(G, K)`` and singular values ``(K,)``, largest first.

    Exact up to rounding: a dense decomposition for small matrices, the Gram matrix for few features, else ARPACK.
    Directions without variance are left out, so ``K`` may be smaller than asked for. The largest entry of each vector
    is positive.
    """
    n, g = matrix.shape
    side = min(n, g)
    k = min(n_components, side)
    if n * g <= DENSE_ENTRIES and (side <= DENSE_SIDE or 4 * k >= side):
        _, s, vt = scipy.linalg.svd(matrix.rows(0, n), full_matrices=False)
        v = vt.T
    elif g <= GRAM_SIDE:
        eigenvalues, v = scipy.linalg.eigh(matrix.gram())
        s, v = np.sqrt(np.maximum(eigenvalues[::-1], 0.0)), v[:, ::-1]
    else:
        v0 = np.random.default_rng(random_state).standard_normal(side)
        _, s, vt = svds(matrix.operator(), min(k, side - 1), v0=v0, return_singular_vectors="vh")
        order = np.argsort(-s)
        s, v = s[order], vt[order].T
    s, v = s[:k], v[:, :k]
    real = s > 1e-6 * max(s.max(initial=0.0), 1e-300)
    s, v = s[real], v[:, real]
    peak = np.abs(v).argmax(axis=0)
    return v * np.where(v[peak, np.arange(v.shape[1])] < 0, -1.0, 1.0), s
