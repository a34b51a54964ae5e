"""Which features depend on any other at all: where gates should start, before any graph is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2, rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DEGREE = 4
OPEN, SHUT = 0.75, 0.25
"""Starts of features that do and do not depend on another one."""
LEVEL = 0.05
BLOCK = 256
RANK_TOLERANCE = 1e-3
"""Share of the largest eigenvalue below which polynomials of a tied feature repeat each other."""


def legendre_features(x: Floats) -> tuple[Floats, NDArray[np.int64]]:
    r"""Expand ranks of features in Legendre polynomials of degree 1 to 4, orthonormal within each feature.

    Features with ties (counts) have fewer directions than polynomials; what is left over is zero.

    Parameters
    ----------
    x
        ``(n, D)``.

    Returns
    -------
    ``(n, D, 4)`` with mean 0, variance 1 or 0; and the number of directions of each feature, ``(D,)``.
    """
    n, d = x.shape
    u = (2 * rankdata(x, axis=0) - 1) / n - 1
    phi = np.stack([np.polynomial.legendre.Legendre.basis(k)(u) for k in range(1, DEGREE + 1)], axis=2)
    phi -= phi.mean(axis=0)
    covariance = np.einsum("ndk,ndl->dkl", phi, phi) / n
    values, vectors = np.linalg.eigh(covariance)
    real = values > RANK_TOLERANCE * np.maximum(values[:, -1:], 1e-12)
    whiten = vectors * np.where(real, 1 / np.sqrt(np.maximum(values, 1e-300)), 0.0)[:, None, :]
    out = np.einsum("ndk,dkl->ndl", phi, whiten).astype(np.float32)
    return out, real.sum(axis=1)


def dependence(x: Floats, y: Floats | None = None) -> Floats:
    r"""Return how strongly each feature depends on any other, relative to the level of significance, ``(D,)``.

    For features :math:`d \ne j` the statistic is :math:`n` times the sum of squared entries of their block of
    :math:`\Phi^T \Phi / n`, about :math:`\chi^2` with as many degrees of freedom as entries if they are independent.
    Divided by its quantile at :math:`1 - 0.05` over the number of pairs, the largest is returned: above 1 is a
    dependence. One matrix product of side ``4 D``, in blocks.

    Parameters
    ----------
    x
        ``(n, D)``.
    y
        ``(n, E)``, partners of the same cells; the other features of ``x`` by default.
    """
    return _largest(x, y)[0]


def dependence_across(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return :func:`dependence` of the features of ``x`` on those of ``y`` and the reverse, ``(D,)`` and ``(E,)``."""
    return _largest(x, y)


def _largest(x: Floats, y: Floats | None) -> tuple[Floats, Floats]:
    a, rank_a = legendre_features(x)
    b, rank_b = (a, rank_a) if y is None else legendre_features(y)
    n, d = len(a), a.shape[1]
    pairs = d * (d - 1) / 2 if y is None else d * b.shape[1]
    limit = chi2.isf(LEVEL / max(pairs, 1), np.arange(1, DEGREE**2 + 1))
    flat = b.reshape(n, -1)
    out, other = np.zeros(d, dtype=np.float32), np.zeros(b.shape[1], dtype=np.float32)
    for start in range(0, d, BLOCK):
        part = slice(start, min(start + BLOCK, d))
        rest = slice(start if y is None else 0, None)  # within a modality a pair is looked at once
        block = a[:, part].reshape(n, -1).T @ flat[:, DEGREE * (rest.start or 0) :]
        np.square(block, out=block)
        size = part.stop - part.start
        total = block.reshape(size, DEGREE, -1, DEGREE).sum(axis=(1, 3)) / n
        freedom = np.maximum(rank_a[part, None] * rank_b[None, rest], 1)
        ratio = total / limit[freedom - 1]
        if y is None:
            np.fill_diagonal(ratio, 0)
        out[part] = np.maximum(out[part], ratio.max(axis=1, initial=0))
        other[rest] = np.maximum(other[rest], ratio.max(axis=0, initial=0))
        if y is None:
            out[rest] = np.maximum(out[rest], other[rest])
    return out, other


def warm_start(statistic: Floats, shut: float = SHUT) -> Floats:
    """Return starts of gates, 0.75 for features with a dependence and ``shut`` for others, ``(D,)``."""
    return np.where(statistic > 1, OPEN, shut).astype(np.float32)
