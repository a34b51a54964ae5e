"""Views of shared and private factors: the simplest data in which integration has a right answer."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from smalti._mudata import build_mudata
from smalti._validate import check_choice, check_count, check_in_range, check_positive

from ._common import numbered, per_modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

ViewLikelihood = Literal["gaussian", "nb", "poisson", "bernoulli"]
LIKELIHOODS: tuple[ViewLikelihood, ...] = ("gaussian", "nb", "poisson", "bernoulli")

DEFAULT_NOISE = {"gaussian": 1.0, "nb": 0.5, "poisson": 0.0, "bernoulli": 0.0}
SIZE_SPREAD = 0.3  # standard deviation of log library size, about that of filtered droplet data
BERNOULLI_OFFSET = -1.0  # mean logit: about 30 % ones
BLOCK = 4096  # rows drawn at once, so that counts are never dense as a whole


class _View(NamedTuple):
    """All that is needed to draw one modality."""

    name: str
    n_features: int
    n_private: int
    likelihood: str
    noise: float
    depth: float


def factor_views(
    n_obs: int = 3000,
    *,
    n_features: Mapping[str, int] | Sequence[int] = (200, 200),
    n_shared: int = 10,
    n_private: int | Mapping[str, int] = 5,
    likelihood: ViewLikelihood | Mapping[str, ViewLikelihood] = "gaussian",
    n_clusters: int | None = None,
    cluster_share: float = 0.5,
    n_batches: int = 1,
    batch_effect: float = 0.5,
    noise: float | Mapping[str, float] | None = None,
    depth: float | Mapping[str, float] = 1000.0,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    r"""Simulate fully paired modalities that share some factors and keep others to themselves.

    Cell :math:`i` has shared factors :math:`z_i` and, in each modality :math:`m`, private factors :math:`u_i^m`, all of
    mean 0 and variance 1. Both reach the features through the loadings :math:`W^m`, whose rows have length 1:

    .. math::
        \eta_{ij}^m = o_j^m + W_j^m \cdot [z_i, u_i^m] + s_{j, \mathrm{batch}(i)}^m

    so that the factors give every feature a variance of 1 in :math:`\eta`. Only :math:`z` tells which profiles of two
    modalities belong to one cell.

    Parameters
    ----------
    n_obs
        Number of cells.
    n_features
        Features by name of the modality; a sequence names them ``"a"``, ``"b"``, ...
    n_shared
        Number of factors that all modalities see.
    n_private
        Number of factors that one modality sees alone; may be 0.
    likelihood
        How values are drawn: ``"gaussian"`` with mean :math:`\eta`; ``"nb"`` and ``"poisson"`` with mean proportional
        to library size times :math:`e^{\eta}`; ``"bernoulli"`` with logit :math:`\eta`.
    n_clusters
        Number of equally large clusters of the shared factors, named in ``obs["label"]``; ``None``: no clusters and no
        such column.
    cluster_share
        Share of the variance of the shared factors that lies between the clusters, in [0, 1]. Unused without clusters.
    n_batches
        Number of equally large batches, named in ``obs["batch"]``.
    batch_effect
        Standard deviation of the batch's shift :math:`s_j` of a feature, in units of :math:`\eta`. Unused with one
        batch.
    noise
        What measurement adds. Gaussian: standard deviation (default 1, that of the signal). NB: square root of the
        inverse dispersion, so that the variance of a count with mean :math:`\mu` is :math:`\mu + (noise \cdot \mu)^2`
        (default 0.5). Poisson and Bernoulli: standard deviation of an error of :math:`\eta` (default 0).
    depth
        Mean total count of a cell, about; the library size varies log-normally around it. Only for NB and Poisson.
    random_state
        Seed or generator. A modality's values depend on the seed and on its position alone, not on what other
        modalities there are.

    Returns
    -------
    MuData of ``n_obs`` cells, all of them measured in all modalities. Gaussian values are dense, all others CSR, both
    ``float32``. The truth is in ``mdata.obsm["shared"]`` ``(n_obs, n_shared)``, ``mdata.obs["label"]``,
    ``mdata.obs["batch"]`` and, in each modality, ``obsm["private"]`` ``(n_obs, n_private)``, ``varm["loadings"]``
    ``(n_features, n_shared + n_private)`` with the shared factors first, ``var["offset"]``, ``varm["batch_shift"]``
    (table, one column per batch; only with more than one) and ``obs["size_factor"]`` (NB and Poisson; mean 1).

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.simulate.factor_views(100, n_features={"rna": 50, "adt": 10}, likelihood="nb", n_clusters=4)
    >>> mdata.shape
    (100, 60)
    """
    for value, what in ((n_obs, "n_obs"), (n_shared, "n_shared"), (n_batches, "n_batches")):
        check_count(value, what)
    if n_clusters is not None:
        check_in_range(n_clusters, 2, n_obs, "n_clusters")
    check_in_range(n_batches, 1, n_obs, "n_batches")
    check_in_range(cluster_share, 0, 1, "cluster_share")
    check_positive(batch_effect, "batch_effect", allow_zero=True)
    views = _views(n_features, n_private, likelihood, noise, depth)

    rng, *streams = np.random.default_rng(random_state).spawn(1 + len(views))
    width = len(str(n_obs - 1))
    obs = pd.DataFrame(index=pd.Index([f"cell_{i:0{width}d}" for i in range(n_obs)]))
    batch = _equal_groups(rng, n_obs, n_batches)
    obs["batch"] = pd.Categorical.from_codes(batch, numbered("batch", n_batches))
    shared = rng.standard_normal((n_obs, n_shared))
    if n_clusters is not None:
        label = _equal_groups(rng, n_obs, n_clusters)
        obs["label"] = pd.Categorical.from_codes(label, numbered("label", n_clusters))
        centers = rng.standard_normal((n_clusters, n_shared))
        centers = (centers - centers.mean(0)) / centers.std(0)
        shared = np.sqrt(cluster_share) * centers[label] + np.sqrt(1 - cluster_share) * shared

    modalities = {}
    for view, stream in zip(views, streams, strict=True):
        shift = np.zeros((view.n_features, n_batches))
        modalities[view.name] = adata = _simulate(stream, view, shared, batch, shift, batch_effect)
        adata.obs_names = obs.index
        if n_batches > 1:
            adata.varm["batch_shift"] = pd.DataFrame(shift, adata.var_names, numbered("batch", n_batches))
    mdata = build_mudata(modalities, obs=obs)
    mdata.obsm["shared"] = shared
    mdata.uns["simulation"] = {"likelihood": {view.name: view.likelihood for view in views}}
    return mdata


def _simulate(
    rng: np.random.Generator,
    view: _View,
    shared: NDArray[np.float64],
    batch: NDArray[np.int64],
    shift: NDArray[np.float64],
    batch_effect: float,
) -> AnnData:
    """Draw one modality; ``shift`` is filled in place."""
    n_obs, n_features = len(shared), view.n_features
    private = rng.standard_normal((n_obs, view.n_private))
    loadings = rng.standard_normal((n_features, shared.shape[1] + view.n_private))
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True)
    offset = rng.standard_normal(n_features) + (BERNOULLI_OFFSET if view.likelihood == "bernoulli" else 0.0)
    size = np.exp(SIZE_SPREAD * rng.standard_normal(n_obs) - SIZE_SPREAD**2 / 2)
    if shift.shape[1] > 1:
        shift += batch_effect * rng.standard_normal(shift.shape)
        shift -= shift.mean(1, keepdims=True)

    factors = np.hstack([shared, private])
    # E exp(eta) = exp(offset + shift + 1/2) for normal factors: with this scale, totals are `depth` on average.
    scale = view.depth / np.exp(offset[:, None] + shift + 0.5).sum(0).mean()
    blocks = []
    for start in range(0, n_obs, BLOCK):
        rows = slice(start, start + BLOCK)
        eta = offset + factors[rows] @ loadings.T + shift[:, batch[rows]].T
        blocks.append(_draw(rng, view, eta, size[rows, None] * scale))
    x = np.vstack(blocks) if view.likelihood == "gaussian" else sp.vstack(blocks, format="csr")

    adata = AnnData(x, var=pd.DataFrame({"offset": offset}, index=numbered(view.name, n_features)))
    adata.varm["loadings"] = loadings
    if view.n_private:
        adata.obsm["private"] = private
    if view.likelihood in ("nb", "poisson"):
        adata.obs["size_factor"] = size
    return adata


def _draw(rng: np.random.Generator, view: _View, eta: NDArray[np.float64], size: NDArray[np.float64]) -> Any:
    """Draw values for a block of cells: dense for Gaussian, CSR for all else."""
    match view.likelihood:
        case "gaussian":
            return (eta + view.noise * rng.standard_normal(eta.shape)).astype(np.float32)
        case "nb":
            rate = size * np.exp(eta)
            if view.noise > 0:
                rate *= rng.gamma(view.noise**-2, view.noise**2, size=eta.shape)
            values = rng.poisson(rate)
        case "poisson":
            error = view.noise * rng.standard_normal(eta.shape) - view.noise**2 / 2
            values = rng.poisson(size * np.exp(eta + error))
        case _:
            eta = eta + view.noise * rng.standard_normal(eta.shape)
            values = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    return sp.csr_matrix(values, dtype=np.float32)


def _views(n_features: Any, n_private: Any, likelihood: Any, noise: Any, depth: Any) -> list[_View]:
    """Check the arguments that may differ between modalities, and sort them by modality."""
    if not isinstance(n_features, Mapping):
        if len(n_features) > len(ascii_lowercase):
            raise ValueError(f"Expected at most 26 numbers in `n_features`, found {len(n_features)}; pass a mapping.")
        n_features = dict(zip(ascii_lowercase, n_features, strict=False))
    names = list(n_features)
    if len(names) < 2:
        raise ValueError(f"Expected `n_features` of at least two modalities, found {len(names)}.")
    likelihoods = per_modality(likelihood, names, "likelihood")
    for name, value in likelihoods.items():
        check_choice(value, LIKELIHOODS, f"likelihood of modality {name!r}")
    if noise is None:
        noise = {name: DEFAULT_NOISE[value] for name, value in likelihoods.items()}
    noises, depths = per_modality(noise, names, "noise"), per_modality(depth, names, "depth")
    privates = per_modality(n_private, names, "n_private")
    for name in names:
        check_positive(n_features[name], f"n_features[{name!r}]")
        check_positive(privates[name], f"n_private[{name!r}]", allow_zero=True)
        check_positive(noises[name], f"noise[{name!r}]", allow_zero=True)
        check_positive(depths[name], f"depth[{name!r}]")
    return [_View(m, n_features[m], privates[m], likelihoods[m], noises[m], depths[m]) for m in names]


def _equal_groups(rng: np.random.Generator, n: int, n_groups: int) -> NDArray[np.int64]:
    return rng.permutation(n) % n_groups
