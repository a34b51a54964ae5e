"""Tensor parts of networks; knows torch and nothing of AnnData."""

from __future__ import annotations

from ._alignment import AlignmentEncoder
from ._decoder import Decoder, MeanLink
from ._discriminator import Discriminator
from ._encoder import Gaussian, GaussianEncoder
from ._experts import Fusion, fuse, masked_mean, product_of_experts
from ._inputs import ByModality, CountsInput, DenseInput
from ._mlp import MLP, Activation, Block, Norm
from ._projection import FrozenProjection, ProjectionKind
from ._sparse import SparseLinear, SparseRows, sparse_matmul

__all__ = [
    "MLP",
    "Activation",
    "AlignmentEncoder",
    "Block",
    "ByModality",
    "CountsInput",
    "Decoder",
    "DenseInput",
    "Discriminator",
    "FrozenProjection",
    "Fusion",
    "Gaussian",
    "GaussianEncoder",
    "MeanLink",
    "Norm",
    "ProjectionKind",
    "SparseLinear",
    "SparseRows",
    "fuse",
    "masked_mean",
    "product_of_experts",
    "sparse_matmul",
]
