"""Loss terms as pure functions of tensors."""

from __future__ import annotations

from ._contrastive import info_nce
from ._latent import agreement, kl_standard_normal, masked_average, modality_confusion, modality_cross_entropy
from ._likelihoods import FAMILIES, LikelihoodFamily, reconstruction_nll
from ._mca import Negatives, Pair, channel_contrast, channel_pairs, gather_rows
from ._target import SparseTarget, Target, make_target, take_rows

__all__ = [
    "FAMILIES",
    "LikelihoodFamily",
    "Negatives",
    "Pair",
    "SparseTarget",
    "Target",
    "agreement",
    "channel_contrast",
    "channel_pairs",
    "gather_rows",
    "info_nce",
    "kl_standard_normal",
    "make_target",
    "masked_average",
    "modality_confusion",
    "modality_cross_entropy",
    "reconstruction_nll",
    "take_rows",
]
