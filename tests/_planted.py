"""Data with planted features among nuisance ones: two moons, factors, the clusters of Yang et al. 2023, sparse CCA."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from mudata import MuData
from sklearn.datasets import make_moons

from smalti._mudata import no_pull


def mosaic(**blocks: np.ndarray) -> MuData:
    """Join dense tables of the same cells."""
    modalities = {}
    for name, x in blocks.items():
        modalities[name] = AnnData(x.astype(np.float32))
        modalities[name].var_names = [f"{name}_{j}" for j in range(x.shape[1])]
        modalities[name].obs_names = [f"cell_{i}" for i in range(len(x))]
    with no_pull():
        return MuData(modalities)


def moons(n: int = 300, n_nuisance: int = 50, seed: int = 0) -> np.ndarray:
    """Two moons in the first two columns."""
    x, _ = make_moons(n, noise=0.1, random_state=seed)
    return np.hstack([x, np.random.default_rng(seed).standard_normal((n, n_nuisance))])


def factors(n: int = 500, n_nuisance: int = 170, seed: int = 0) -> np.ndarray:
    """Three factors with ten features each, loading 0.7 and noise 0.7, in the first thirty columns."""
    rng = np.random.default_rng(seed)
    z = np.repeat(rng.standard_normal((n, 3)), 10, axis=1)
    return np.hstack([0.7 * z + 0.7 * rng.standard_normal((n, 30)), rng.standard_normal((n, n_nuisance))])


def clusters(seed: int = 0, n_noise: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Shared: the first 30 columns of x and 20 of y. Of x alone: columns 60 to 99."""
    rng = np.random.default_rng(seed)
    blocks = []
    for sizes, informative, empty in (
        ((100, 100, 30, 30), (20, 10, 30, 40), slice(200, 230)),
        ((100, 100, 60), (10, 10, 40), slice(230, 260)),
    ):
        x = rng.standard_normal((260, sum(informative)))
        row = column = 0
        for size, width in zip(sizes, informative, strict=True):
            x[row : row + size, column : column + width] += rng.uniform(2, 4, width)
            row, column = row + size, column + width
        x[empty] = rng.standard_normal((30, x.shape[1]))
        blocks.append(np.hstack([x, rng.standard_normal((260, n_noise))]))
    return blocks[0], blocks[1]


def sparse_pair(
    n: int = 400, d: int = 800, k: int = 5, rho: float = 0.9, toeplitz: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two views whose only correlation, rho, lies between k columns each; and the true directions."""
    rng = np.random.default_rng(seed)
    a, b = np.zeros(d), np.zeros(d)
    a[rng.choice(d, k, replace=False)] = k**-0.5
    b[rng.choice(d, k, replace=False)] = k**-0.5
    views = []
    covariance = toeplitz ** np.abs(np.subtract.outer(np.arange(d), np.arange(d))) if toeplitz else np.eye(d)
    root = np.linalg.cholesky(covariance)
    for _ in range(2):
        views.append(rng.standard_normal((n, d)) @ root.T)
    z = rng.standard_normal(n)
    out = []
    for x, v in zip(views, (a, b), strict=True):
        v = v / np.sqrt(v @ covariance @ v)
        loading = covariance @ v
        u = x @ v  # unit variance; mixed with the common score without changing the covariance of x
        mixed = np.sqrt(rho) * z + np.sqrt(1 - rho) * u
        out.append(x + np.outer(mixed - u, loading))
    return out[0], out[1], a, b


def f1(selected: np.ndarray, truth: np.ndarray) -> float:
    """Return the F1 score of a selection, positions or bool, against true positions."""
    selected = np.flatnonzero(selected) if np.asarray(selected).dtype == bool else np.asarray(selected)
    hits = len(np.intersect1d(selected, truth))
    return 2 * hits / max(len(selected) + len(truth), 1)
