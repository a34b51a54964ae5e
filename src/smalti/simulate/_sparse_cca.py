"""Two modalities with sparse canonical vectors that are known exactly: the model in which sample sizes are studied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.linalg import cholesky, solve_triangular, toeplitz

from smalti._mudata import build_mudata
from smalti._validate import check_choice, check_count, check_in_range, check_positive

from ._common import numbered, per_modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Covariance = Literal["identity", "toeplitz", "precision"]
Observed = Literal["gaussian", "sine", "power", "poisson"]
COVARIANCES: tuple[Covariance, ...] = ("identity", "toeplitz", "precision")
OBSERVED: tuple[Observed, ...] = ("gaussian", "sine", "power", "poisson")

TOEPLITZ = 0.3
PRECISION = (1.0, 0.5, 0.4)  # bands of the inverse covariance, Gao, Ma and Zhou (2017), Section 5
LOG_SLOPE = 0.5  # change of the log mean of a count per standard deviation
FREQUENCY_SPREAD = 1.0  # standard deviation of the log mean of features
SIZE_SPREAD = 0.3  # standard deviation of the log library size
BLOCK = 4096  # rows drawn at once


class _View(NamedTuple):
    """One modality before anything is drawn."""

    vectors: Floats
    """``(p, r)`` canonical vectors, ``vectors.T @ covariance @ vectors`` is the identity."""
    factor: Floats | None
    """``(p, p)`` lower Cholesky factor of the covariance; ``None``: identity."""

    def spread(self, noise: Floats) -> Floats:
        """Return draws of the modality's marginal distribution from standard normal ``noise``, ``(n, p)``."""
        return noise if self.factor is None else noise @ self.factor.T

    def loadings(self) -> Floats:
        """Return covariance times vectors, ``(p, r)``."""
        return self.vectors if self.factor is None else self.factor @ (self.factor.T @ self.vectors)


def sparse_cca(
    n_obs: int = 1000,
    *,
    n_features: Mapping[str, int] | Sequence[int] = (100, 100),
    n_active: int | Mapping[str, int] = 4,
    correlations: float | Sequence[float] = 0.9,
    covariance: Covariance | Mapping[str, Covariance] = "identity",
    observed: Observed | Mapping[str, Observed] = "gaussian",
    depth: float | Mapping[str, float] = 1000.0,
    random_state: int = 0,
) -> MuData:
    r"""Simulate two modalities that correlate along sparse directions, and nowhere else.

    .. math::
        (X, Y) \sim \mathcal{N}\left(0, \begin{bmatrix} S_x & S_{xy} \\ S_{xy}^\top & S_y \end{bmatrix}\right), \quad
        S_{xy} = \sum_j \rho_j\, S_x \phi_j \eta_j^\top S_y, \quad
        \phi_i^\top S_x \phi_j = \eta_i^\top S_y \eta_j = 1_{i = j}

    so that :math:`\phi_j, \eta_j` are exactly the canonical vectors, :math:`\rho_j` the canonical correlations
    :cite:p:`Suo2017,Gao2017`. Each vector has :math:`k` equal entries at random positions, all others are zero; with
    the identity as covariance the entries are :math:`1 / \sqrt k`.

    Parameters
    ----------
    n_obs
        Number of cells. The canonical vectors depend on the seed alone, so that a larger simulation has the same truth.
    n_features
        Features by name of the modality, two of them; a sequence names them ``"x"`` and ``"y"``.
    n_active
        Number ``k`` of non-zero entries of every canonical vector.
    correlations
        Canonical correlations, in [0, 1], not increasing; one per component. Several components take their positions
        from as many blocks of consecutive features, and features of different blocks are independent within a modality.
    covariance
        Of the features of a block: ``"identity"``; ``"toeplitz"``, :math:`0.3^{|i - j|}`; ``"precision"``, the inverse
        of a matrix with 1 on the diagonal, 0.5 and 0.4 beside it, scaled to unit variances.
    observed
        What is measured of a Gaussian value ``t``: ``"gaussian"``, ``t`` itself; ``"sine"``, ``t + 0.5 sin(2t)``;
        ``"power"``, ``sign(t) |t|^1.5``; ``"poisson"``, a count with mean proportional to library size times
        ``exp(0.5 t)``. The truth is that of the Gaussian values.
    depth
        Mean total count of a cell, about. Only for ``"poisson"``.
    random_state
        Seed.

    Returns
    -------
    MuData of ``n_obs`` cells with both modalities, ``float32``, counts CSR. In each modality ``varm["canonical"]``
    ``(p, r)`` has the canonical vectors, ``varm["canonical_loading"]`` ``(p, r)`` the covariance times them (the
    covariance of features with the canonical variable), and ``obsm["canonical"]`` ``(n_obs, r)`` the canonical
    variables. ``uns["canonical_correlations"]`` of the MuData has the correlations.

    Raises
    ------
    ValueError
        If there are not two modalities, a block has fewer features than ``n_active``, or a correlation is out of range.

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.simulate.sparse_cca(200, n_features={"rna": 50, "adt": 20}, n_active=3, correlations=0.8)
    >>> int((mdata["rna"].varm["canonical"] != 0).sum())
    3
    """
    check_count(n_obs, "n_obs")
    sizes = _sizes(n_features)
    names = list(sizes)
    rho = np.atleast_1d(np.asarray(correlations, dtype=float))
    for value in rho:
        check_in_range(float(value), 0, 1, "correlations")
    if rho.ndim != 1 or (np.diff(rho) > 0).any():
        raise ValueError(f"Expected `correlations` not to increase, found {rho.tolist()}. Sort them.")
    active = per_modality(n_active, names, "n_active")
    shapes = per_modality(covariance, names, "covariance")
    seen = per_modality(observed, names, "observed")
    depths = per_modality(depth, names, "depth")
    truth_rng, row_rng, count_rng = np.random.default_rng(random_state).spawn(3)
    views = []
    for name in names:
        check_choice(shapes[name], COVARIANCES, "covariance")
        check_choice(seen[name], OBSERVED, "observed")
        check_positive(depths[name], "depth")
        views.append(_view(sizes[name], check_count(active[name], "n_active"), len(rho), shapes[name], truth_rng))
    offsets = [FREQUENCY_SPREAD * truth_rng.standard_normal(sizes[name]) for name in names]
    latent, scores = _draw(views, rho, n_obs, row_rng)
    obs = pd.DataFrame(index=pd.Index([f"cell_{i}" for i in range(n_obs)]))
    modalities = {}
    for name, view, values, score, offset in zip(names, views, latent, scores, offsets, strict=True):
        x = _observe(values, seen[name], offset, depths[name], count_rng)
        var = pd.DataFrame(index=pd.Index(numbered(name, sizes[name])))
        adata = AnnData(x, obs=obs.copy(), var=var)
        adata.varm["canonical"], adata.varm["canonical_loading"] = view.vectors, view.loadings()
        adata.obsm["canonical"] = score
        modalities[name] = adata
    mdata = build_mudata(modalities)
    mdata.uns["canonical_correlations"] = rho
    return mdata


def _sizes(n_features: Mapping[str, int] | Sequence[int]) -> dict[str, int]:
    sizes = dict(n_features) if isinstance(n_features, Mapping) else dict(zip("xyzuvw", n_features, strict=False))
    if len(sizes) != 2:
        raise ValueError(f"Expected `n_features` of two modalities, found {len(sizes)}: {list(sizes.values())}.")
    return {name: check_count(size, "n_features") for name, size in sizes.items()}


def _view(p: int, k: int, r: int, shape: str, rng: np.random.Generator) -> _View:
    """Return canonical vectors with their positions drawn, one component to a block of features."""
    blocks = np.array_split(np.arange(p), r)
    if k > min(len(block) for block in blocks):
        raise ValueError(
            f"Expected `n_active` to be at most {min(len(b) for b in blocks)}, the features of one of {r} components "
            f"among {p}, found {k}. Simulate more features, or fewer components."
        )
    vectors = np.zeros((p, r))
    factor = None if shape == "identity" else np.zeros((p, p))
    for j, block in enumerate(blocks):
        at = rng.choice(block, k, replace=False)
        vectors[at, j] = 1.0
        if factor is not None:
            factor[np.ix_(block, block)] = cholesky(_covariance(len(block), shape), lower=True)
    spread = np.linalg.norm(vectors if factor is None else factor.T @ vectors, axis=0)
    return _View(vectors / spread, factor)


def _covariance(p: int, shape: str) -> Floats:
    if shape == "toeplitz":
        return np.asarray(toeplitz(TOEPLITZ ** np.arange(p)))
    bands = np.zeros(p)
    bands[: len(PRECISION)] = PRECISION[:p]
    lower = cholesky(toeplitz(bands), lower=True)
    inverse = solve_triangular(lower, np.eye(p), lower=True)
    covariance = inverse.T @ inverse
    scale = 1 / np.sqrt(np.diag(covariance))
    return np.asarray(covariance * scale * scale[:, None])


def _draw(views: Sequence[_View], rho: Floats, n: int, rng: np.random.Generator) -> tuple[list[Floats], list[Floats]]:
    r"""Draw both modalities without forming their joint covariance.

    With :math:`x \sim N(0, S_x)` and :math:`y_0 \sim N(0, S_y)`, :math:`v = \rho \phi^\top x + \sqrt{1 - \rho^2} w`
    takes the place of the canonical variable :math:`\eta^\top y_0`: :math:`y = y_0 + S_y \eta (v - \eta^\top y_0)`.
    """
    first, second = views
    loading = second.loadings()
    drawn: tuple[list[Floats], ...] = ([], [], [], [])
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        noise = rng.standard_normal((size, len(first.vectors) + len(loading) + len(rho)))
        x = first.spread(noise[:, : len(first.vectors)])
        y = second.spread(noise[:, len(first.vectors) : -len(rho)])
        u = x @ first.vectors
        v = rho * u + np.sqrt(1 - rho**2) * noise[:, -len(rho) :]
        y = y + (v - y @ second.vectors) @ loading.T
        for kept, value in zip(drawn, (x, y, u, v), strict=True):
            kept.append(value)
    joined = [np.concatenate(parts) for parts in drawn]
    return joined[:2], joined[2:]


def _observe(
    t: Floats, observed: str, offset: Floats, depth: float, rng: np.random.Generator
) -> NDArray[np.float32] | sp.csr_matrix:
    if observed == "poisson":
        frequency = np.exp(offset)
        frequency /= (frequency * np.exp(LOG_SLOPE**2 / 2)).sum()
        size = depth * np.exp(SIZE_SPREAD * rng.standard_normal(len(t)) - SIZE_SPREAD**2 / 2)
        return sp.csr_matrix(rng.poisson(size[:, None] * frequency * np.exp(LOG_SLOPE * t)).astype(np.float32))
    if observed == "sine":
        t = t + 0.5 * np.sin(2 * t)
    elif observed == "power":
        t = np.sign(t) * np.abs(t) ** 1.5
    return t.astype(np.float32)
