"""Loss terms as pure functions of tensors."""

from __future__ import annotations

from ._adversarial import GAMES, Game, Player, gradient_penalty, modality_game, published_relativistic
from ._clustering import ClusteringTerms, cauchy_schwarz_overlap, divergence_clustering, gaussian_kernel
from ._contrastive import info_nce
from ._deep_cca import CCAState, DeepCCA, canonical_correlations, cholesky_root, deep_cca, whitened_cross
from ._energy import energy_distance
from ._labels import class_cross_entropy
from ._latent import agreement, kl_standard_normal, masked_average, modality_confusion, modality_cross_entropy
from ._likelihoods import FAMILIES, LikelihoodFamily
from ._mca import Negatives, Pair, channel_contrast, channel_pairs, gather_rows
from ._reconstruction import reconstruction_nll, target_constant
from ._target import SparseTarget, Target, make_target, take_rows
from ._transport import (
    covariance_drift,
    gumbel_sinkhorn,
    max_sliced_wasserstein,
    mmd,
    plan_correlation,
    plan_entropy,
    structural_similarity,
)

__all__ = [
    "FAMILIES",
    "GAMES",
    "CCAState",
    "ClusteringTerms",
    "DeepCCA",
    "Game",
    "LikelihoodFamily",
    "Negatives",
    "Pair",
    "Player",
    "SparseTarget",
    "Target",
    "agreement",
    "canonical_correlations",
    "cauchy_schwarz_overlap",
    "channel_contrast",
    "channel_pairs",
    "cholesky_root",
    "class_cross_entropy",
    "covariance_drift",
    "deep_cca",
    "divergence_clustering",
    "energy_distance",
    "gather_rows",
    "gaussian_kernel",
    "gradient_penalty",
    "gumbel_sinkhorn",
    "info_nce",
    "kl_standard_normal",
    "make_target",
    "masked_average",
    "max_sliced_wasserstein",
    "mmd",
    "modality_confusion",
    "modality_cross_entropy",
    "modality_game",
    "plan_correlation",
    "plan_entropy",
    "published_relativistic",
    "reconstruction_nll",
    "structural_similarity",
    "take_rows",
    "target_constant",
    "whitened_cross",
]
