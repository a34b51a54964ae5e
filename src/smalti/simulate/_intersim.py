"""InterSIM: methylation, expression and protein of the same samples, with clusters and realistic covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import expit

from smalti._mudata import build_mudata
from smalti._validate import check_choice, check_count, check_in_range, check_unique, shorten

from ._common import numbered, per_modality
from ._intersim_parameters import InterSIMParameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Covariance = Literal["full", "independent"]
COVARIANCES: tuple[Covariance, ...] = ("full", "independent")

BLOCK = 4096  # rows drawn at once, so that values in double precision are never there as a whole
SMALLEST, LARGEST = np.finfo(np.float32).tiny, 1 - np.finfo(np.float32).epsneg  # beta stays inside (0, 1)


def intersim(
    parameters: InterSIMParameters | str | Path,
    n_obs: int = 500,
    *,
    proportions: Sequence[float] = (0.3, 0.3, 0.4),
    delta: float | Mapping[str, float] = 2.0,
    p_shift: float = 0.2,
    p_shift_expression: float | None = None,
    p_shift_protein: float | None = None,
    covariance: Covariance | Mapping[str, Covariance] = "full",
    rho_methylation_expression: ArrayLike | None = None,
    rho_expression_protein: ArrayLike | None = None,
    modalities: Sequence[str] = ("methylation", "expression", "protein"),
    random_state: int | np.random.Generator = 0,
) -> MuData:
    r"""Simulate three paired omics with clusters as InterSIM does :cite:p:`Chalise2016`.

    In each cluster :math:`k` a random set of CpGs is shifted, independently of other clusters; a gene is shifted where
    one of its CpGs is, a protein where its gene is. With the indicators :math:`D, E, F` of these sets, a sample of
    cluster :math:`k` is

    .. math::
        m &\sim N(\mu_M + \delta_M D_k,\ \Sigma_M), \qquad \beta = 1 / (1 + e^{-m}) \\
        x &\sim N(r \mu_{MG} + \sqrt{1 - r^2}\, \mu_X + \delta_X E_k,\ \Sigma_X) \\
        y &\sim N(q \mu_{XP} + \sqrt{1 - q^2}\, \mu_Y + \delta_Y F_k,\ \Sigma_Y)

    with :math:`\mu_{MG}` the methylation of a gene, :math:`\mu_{XP}` the expression of a protein's gene, and
    :math:`r, q` the correlations between omics. These enter the means only: **given the cluster, the modalities are
    independent**, so that pairs tell nothing but the cluster.

    Parameters
    ----------
    parameters
        Means, covariances and links, or the path of an archive of them; see :class:`InterSIMParameters`.
    n_obs
        Number of samples.
    proportions
        Share of each cluster, at least two; they sum to 1. All but the last are rounded to whole samples (halves to the
        even number), the last gets the rest.
    delta
        Shift of features, for all or by modality; of methylation in M-values. If that of expression or protein is
        exactly 0, the correlation that enters its mean is 0, too.
    p_shift
        Probability that a CpG is shifted in a cluster, in [0, 1].
    p_shift_expression
        The same for genes, which then do not depend on CpGs.
    p_shift_protein
        The same for proteins, which then do not depend on genes.
    covariance
        ``"full"``: as in the parameters; ``"independent"``: only its diagonal. For all or by modality.
    rho_methylation_expression, rho_expression_protein
        Correlations :math:`r` ``(G,)`` and :math:`q` ``(P,)``, or one number for all, in [-1, 1]; by default those of
        the parameters.
    modalities
        Names of methylation, expression and protein, in this order.
    random_state
        Seed or generator. Clusters and each modality draw from streams of their own.

    Returns
    -------
    MuData of ``n_obs`` samples in random order, all of them measured in all modalities; values are dense ``float32``:
    beta values in (0, 1), expression and protein on the scale of their parameters. ``obs["cluster"]`` is the cluster.
    In each modality, ``varm["shifted"]`` is a boolean table of features by clusters (D, E, F), ``var["mean"]`` the mean
    of an unshifted feature (for methylation the M-value) and ``var["gene"]`` its gene. Features are named as in the
    parameters; a CpG or protein with the name of another feature has its modality before it (``"protein:AR"``).

    Raises
    ------
    ValueError
        If an argument is out of range, or a cluster would have no sample.

    Examples
    --------
    Shifts below 1 are informative; larger ones are trivial to see in expression and protein of the original cohort.

    >>> import smalti as sm
    >>> mdata = sm.simulate.intersim("intersim.npz", n_obs=200, delta=0.5)  # doctest: +SKIP
    """
    if not isinstance(parameters, InterSIMParameters):
        parameters = InterSIMParameters.load(parameters)
    names = _three(modalities)
    methylation, expression, protein = names
    n_genes, n_proteins = len(parameters.gene_names), len(parameters.protein_names)
    sizes = _sizes(check_count(n_obs, "n_obs"), proportions)
    shift = per_modality(delta, names, "delta")
    for name, value in shift.items():
        if not np.isfinite(value):
            raise ValueError(f"Expected `delta` of modality {name!r} to be a finite number, found {value!r}.")
    kinds = per_modality(covariance, names, "covariance")
    for name, kind in kinds.items():
        check_choice(kind, COVARIANCES, f"covariance of modality {name!r}")
    r = _rho(rho_methylation_expression, parameters.rho_methyl_expr, "rho_methylation_expression")
    q = _rho(rho_expression_protein, parameters.rho_expr_protein, "rho_expression_protein")
    r, q = (r if shift[expression] != 0 else 0 * r), (q if shift[protein] != 0 else 0 * q)

    rng, *streams = np.random.default_rng(random_state).spawn(4)
    chosen, values = zip(*(stream.spawn(2) for stream in streams), strict=True)
    cluster = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    cpgs = _bernoulli(chosen[0], (len(parameters.cpg_names), len(sizes)), p_shift, "p_shift")
    if p_shift_expression is None:
        genes = np.zeros((n_genes, len(sizes)), dtype=bool)
        np.logical_or.at(genes, parameters.cpg_gene_index, cpgs)
    else:
        genes = _bernoulli(chosen[1], (n_genes, len(sizes)), p_shift_expression, "p_shift_expression")
    if p_shift_protein is None:
        proteins = genes[parameters.protein_gene_index]
    else:
        proteins = _bernoulli(chosen[2], (n_proteins, len(sizes)), p_shift_protein, "p_shift_protein")

    mean = {
        methylation: parameters.mean_M,
        expression: r * parameters.methyl_gene_level_mean + np.sqrt(1 - r**2) * parameters.mean_expr,
        protein: q * parameters.mean_expr_with_mapped_protein + np.sqrt(1 - q**2) * parameters.mean_protein,
    }
    shifted = dict(zip(names, (cpgs, genes, proteins), strict=True))
    sigma = dict(zip(names, (parameters.cov_M, parameters.cov_expr, parameters.cov_protein), strict=True))
    gene = dict(zip(names, (parameters.cpg_gene, parameters.gene_names, parameters.protein_gene), strict=True))
    obs = pd.DataFrame(index=pd.Index(numbered("sample", n_obs)))
    clusters = numbered("cluster", len(sizes))
    obs["cluster"] = pd.Categorical.from_codes(cluster, clusters)
    data = {}
    for name, features, stream in zip(names, _features(parameters, names), values, strict=True):
        centers = (mean[name][:, None] + shift[name] * shifted[name]).T
        x = _normal(stream, centers, _factor(sigma[name], kinds[name]), cluster, beta=name == methylation)
        var = pd.DataFrame({"gene": gene[name], "mean": mean[name]}, index=features)
        data[name] = AnnData(x, obs=obs[[]].copy(), var=var)
        data[name].varm["shifted"] = pd.DataFrame(shifted[name], index=features, columns=clusters)
    mdata = build_mudata(data, obs=obs)
    mdata.uns["simulation"] = {"delta": {name: float(value) for name, value in shift.items()}}
    return mdata


def _normal(
    rng: np.random.Generator, centers: Floats, factor: NDArray[Any], cluster: NDArray[np.int64], *, beta: bool
) -> NDArray[np.float32]:
    """Draw one modality: normal around the center of the sample's cluster, and through the logistic if asked."""
    x = np.empty((len(cluster), centers.shape[1]), dtype=np.float32)
    for start in range(0, len(cluster), BLOCK):
        rows = slice(start, start + BLOCK)
        noise = rng.standard_normal(x[rows].shape)
        drawn = centers[cluster[rows]] + (noise @ factor.T if factor.ndim == 2 else noise * factor)
        x[rows] = np.clip(expit(drawn), SMALLEST, LARGEST) if beta else drawn
    return x


def _factor(sigma: Floats, kind: str) -> NDArray[Any]:
    return np.linalg.cholesky(sigma) if kind == "full" else np.sqrt(np.diag(sigma))


def _bernoulli(rng: np.random.Generator, shape: tuple[int, int], p: float, what: str) -> NDArray[np.bool_]:
    return rng.random(shape) < check_in_range(p, 0, 1, what)


def _sizes(n_obs: int, proportions: Sequence[float]) -> NDArray[np.int64]:
    share = np.asarray(proportions, dtype=float)
    if share.ndim != 1 or len(share) < 2 or not (share > 0).all() or not np.isclose(share.sum(), 1):
        raise ValueError(
            f"Expected `proportions` to be at least two numbers > 0 that sum to 1, found {shorten(share.ravel())}."
        )
    sizes = np.rint(share * n_obs).astype(np.int64)
    sizes[-1] = n_obs - sizes[:-1].sum()
    if (sizes < 1).any():
        raise ValueError(
            f"With {n_obs} samples, the sizes of clusters would be {shorten(sizes, 20)}; each needs at least one. Ask "
            "for more samples or other `proportions`."
        )
    return sizes


def _rho(value: ArrayLike | None, default: Floats, what: str) -> Floats:
    if value is None:
        return default
    rho = np.asarray(value, dtype=float)
    if rho.ndim and rho.shape != default.shape:
        raise ValueError(f"Expected `{what}` to be one number or {len(default)}, found shape {rho.shape}.")
    for extreme in (rho.min(), rho.max()):
        check_in_range(float(extreme), -1, 1, what)
    return np.broadcast_to(rho, default.shape)


def _three(modalities: Sequence[str]) -> list[str]:
    names = list(modalities)
    if isinstance(modalities, str) or len(names) != 3:
        raise ValueError(
            f"Expected `modalities` to name methylation, expression and protein, found {len(names)} names: "
            f"{shorten(names)}."
        )
    check_unique(names, "`modalities`")
    return names


def _features(parameters: InterSIMParameters, names: Sequence[str]) -> list[pd.Index]:
    """Return names of features that no two modalities share; those of genes stay, since `gene` refers to them."""
    own = [pd.Index(names) for names in (parameters.cpg_names, parameters.gene_names, parameters.protein_names)]
    taken, out = own[1], []
    for name, features in zip(names, own, strict=True):
        if features is not own[1]:
            clash = features.isin(taken)
            features = pd.Index(np.where(clash, f"{name}:" + features, features))
            taken = taken.append(features)
        out.append(features)
    return out
