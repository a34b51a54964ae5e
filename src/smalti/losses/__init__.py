"""Loss terms as pure functions of tensors."""

from __future__ import annotations

from ._adversarial import GAMES, Game, Player, gradient_penalty, modality_game, published_relativistic
from ._clustering import ClusteringTerms, cauchy_schwarz_overlap, divergence_clustering, gaussian_kernel
from ._contrastive import info_nce
from ._energy import energy_distance
from ._labels import class_cross_entropy
from ._latent import agreement, kl_standard_normal, masked_average, modality_confusion, modality_cross_entropy
from ._likelihoods import FAMILIES, LikelihoodFamily, reconstruction_nll
from ._mca import Negatives, Pair, channel_contrast, channel_pairs, gather_rows
from ._target import SparseTarget, Target, make_target, take_rows

__all__ = [
    "FAMILIES",
    "GAMES",
    "ClusteringTerms",
    "Game",
    "LikelihoodFamily",
    "Negatives",
    "Pair",
    "Player",
    "SparseTarget",
    "Target",
    "agreement",
    "cauchy_schwarz_overlap",
    "channel_contrast",
    "channel_pairs",
    "class_cross_entropy",
    "divergence_clustering",
    "energy_distance",
    "gather_rows",
    "gaussian_kernel",
    "gradient_penalty",
    "info_nce",
    "kl_standard_normal",
    "make_target",
    "masked_average",
    "modality_confusion",
    "modality_cross_entropy",
    "modality_game",
    "published_relativistic",
    "reconstruction_nll",
    "take_rows",
]
