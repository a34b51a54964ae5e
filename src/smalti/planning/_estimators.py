"""Estimators of the first pair of canonical vectors, on arrays: those whose need for cells is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cholesky, solve_triangular
from scipy.stats import norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LinearMethod = Literal["cca", "soft", "truncated"]
LINEAR: tuple[LinearMethod, ...] = ("cca", "soft", "truncated")

RIDGE = 0.1
"""Of ridge CCA, in units of the variance of a feature."""
REFIT_RIDGE = 1e-3
SOFT_FRACTION = 0.5
"""Threshold of soft-threshold CCA, as a share of the largest entry."""
STEPS = 50
SMALL = 64
"""Side of a matrix up to which it is decomposed as a whole."""
HELD_OUT = 0.2
CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of features that are compared on held-out cells if the number is not known."""


class Pair(NamedTuple):
    """An estimate of one pair of canonical vectors."""

    x: Floats
    """``(p_x,)`` of unit length."""
    y: Floats
    """``(p_y,)``."""


def ridge_cca(x: Floats, y: Floats, *, ridge: float = RIDGE) -> Pair:
    """Return the first pair of CCA with ``ridge`` times the mean variance of a feature added to covariances.

    Parameters
    ----------
    x, y
        ``(n, p)`` centred values of the same cells.
    ridge
        Regularisation.
    """
    n = len(x)
    roots = []
    for z in (x, y):
        covariance = z.T @ z / n
        covariance[np.diag_indices_from(covariance)] += ridge * max(
            float(np.trace(covariance)) / len(covariance), 1e-12
        )
        roots.append(cholesky(covariance, lower=True))
    left = solve_triangular(roots[0], x.T @ y / n, lower=True)
    whitened = solve_triangular(roots[1], left.T, lower=True).T
    u, v = leading(whitened)
    return Pair(*(unit(solve_triangular(root.T, w, lower=False)) for root, w in zip(roots, (u, v), strict=True)))


def soft_threshold_cca(x: Floats, y: Floats, *, fraction: float = SOFT_FRACTION) -> Pair:
    """Return the penalised matrix decomposition :cite:p:`Witten2009` of the cross-covariance.

    From its leading singular pair, vectors are multiplied with it in turns and soft-thresholded at a share of their
    largest entry.
    """
    cross = x.T @ y / len(x)
    u, v = leading(cross)
    for _ in range(STEPS):
        before = u
        u = _soft(cross @ v, fraction)
        v = _soft(cross.T @ u, fraction)
        if np.linalg.norm(u - before) < 1e-6:
            break
    return Pair(u, v)


def truncated_cca(x: Floats, y: Floats, *, n_active: tuple[int, int] | None = None, seed: int = 0) -> Pair:
    """Return sparse CCA with a fixed number of features: the fast stand-in for gates.

    Warm start as for gates (leading pair of the thresholded cross-covariance), products with the cross-covariance that
    keep the largest entries, and ordinary CCA of the features that are left.

    Parameters
    ----------
    x, y
        ``(n, p)`` centred values.
    n_active
        Features of each vector; by default the number, one for both, with the largest correlation on a fifth of the
        cells that is held out.
    seed
        Of the held-out cells.
    """
    if n_active is None:
        n_active = _choose(x, y, seed)
    cross = x.T @ y / len(x)
    _, v = warm_start(cross, len(x))
    u = np.zeros(len(cross))
    for _ in range(STEPS):
        before = u
        u = _keep(cross @ v, n_active[0])
        v = _keep(cross.T @ u, n_active[1])
        if np.linalg.norm(u - before) < 1e-6:
            break
    return refit(x, y, (u != 0, v != 0))


def warm_start(cross: Floats, n: int) -> Pair:
    r"""Return the leading pair of the cross-covariance of standardised features after small entries are set to zero.

    The limit is :math:`\sqrt{2 \log(p_x p_y) / n}`, which pure noise rarely reaches; if nothing does, it is what
    noise reaches about once per two features, so that a block of weak entries can still be found.
    """
    limit = np.sqrt(2 * np.log(cross.size) / n)
    kept = np.where(np.abs(cross) > limit, cross, 0.0)
    if not kept.any():
        kept = np.where(np.abs(cross) > norm.isf(0.25 / max(cross.shape)) / np.sqrt(n), cross, 0.0)
    if not kept.any():
        kept = cross
    return Pair(*leading(sp.csr_matrix(kept)))


def refit(x: Floats, y: Floats, support: Sequence[NDArray[np.bool_]]) -> Pair:
    """Return ordinary CCA (ridge 0.001) of the features in ``support``, ``(p,)`` bool each; others get zero."""
    out = [np.zeros(z.shape[1]) for z in (x, y)]
    if all(at.any() for at in support):
        found = ridge_cca(x[:, support[0]], y[:, support[1]], ridge=REFIT_RIDGE)
        for vector, at, value in zip(out, support, found, strict=True):
            vector[at] = value
    return Pair(*out)


def leading(matrix: Floats | sp.csr_matrix, steps: int = STEPS) -> tuple[Floats, Floats]:
    """Return the leading singular vectors: four vectors are iterated together, so that close ones do not mix."""
    if min(matrix.shape) <= SMALL:
        u, _, vt = np.linalg.svd(sp.csr_matrix(matrix).toarray(), full_matrices=False)
        return u[:, 0], vt[0]
    block = np.random.default_rng(0).standard_normal((matrix.shape[1], 4))
    for _ in range(steps):
        block, _ = np.linalg.qr(matrix.T @ (matrix @ block))
    u, _, vt = np.linalg.svd(matrix @ block, full_matrices=False)
    return u[:, 0], block @ vt[0]


def correlation(x: Floats, y: Floats, pair: Pair) -> float:
    """Return the correlation of the scores along a pair, 0 if one of them is constant."""
    u, v = x @ pair.x, y @ pair.y
    u, v = u - u.mean(), v - v.mean()
    size = float(np.linalg.norm(u) * np.linalg.norm(v))
    return float(u @ v / size) if size > 1e-12 else 0.0


def unit(vector: Floats) -> Floats:
    """Return a vector of length 1; zeros stay."""
    return vector / max(float(np.linalg.norm(vector)), 1e-300)


def deflate(x: Floats, vector: Floats) -> Floats:
    """Return values without what the score along ``vector`` predicts of them."""
    score = x @ vector
    return x - np.outer(score, score @ x) / max(float(score @ score), 1e-300)


def _choose(x: Floats, y: Floats, seed: int) -> tuple[int, int]:
    order = np.random.default_rng(seed).permutation(len(x))
    out, kept = np.split(order, [max(2, round(HELD_OUT * len(x)))])
    scores = {}
    for k in CANDIDATES:
        ks = min(k, x.shape[1]), min(k, y.shape[1])
        if ks not in scores and max(ks) < len(kept):
            scores[ks] = correlation(x[out], y[out], truncated_cca(x[kept], y[kept], n_active=ks))
    # The sparsest within one standard error of the best: a correlation of n cells has an error of about 1 / sqrt(n).
    best = max(scores.values())
    error = (1 - best**2) / np.sqrt(len(out))
    return min((ks for ks, score in scores.items() if score >= best - error), key=sum)


def _keep(vector: Floats, k: int) -> Floats:
    if k < len(vector):
        vector = np.where(np.abs(vector) >= np.partition(np.abs(vector), -k)[-k], vector, 0.0)
    return unit(vector)


def _soft(vector: Floats, fraction: float) -> Floats:
    size = np.abs(vector)
    return unit(np.sign(vector) * np.maximum(size - fraction * size.max(), 0.0))
