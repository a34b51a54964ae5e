"""Tensor parts of networks; knows torch and nothing of AnnData."""

from __future__ import annotations

from ._alignment import AlignmentEncoder
from ._attention import ChannelTransformer, Stream, TransformerBlock, Wiring
from ._decoder import Decoder, MeanLink
from ._discriminator import Discriminator, JudgedLatent, SharedDiscriminator
from ._encoder import Gaussian, GaussianEncoder, SkipEncoder
from ._experts import Fusion, fuse, masked_mean, product_of_experts
from ._inputs import ByModality, CountsInput, DenseInput, ScaledInput
from ._mlp import MLP, Activation, Block, Norm
from ._planned import PlannedEncoder, PlanTable
from ._projection import FrozenProjection, ProjectionKind
from ._sparse import SparseLinear, SparseRows, sparse_matmul
from ._tokens import (
    ColumnTokens,
    LinearSkip,
    LogNormalised,
    PatchTokens,
    TokenKind,
    Tokens,
    VectorToken,
    activation_bytes,
    make_tokens,
)

__all__ = [
    "MLP",
    "Activation",
    "AlignmentEncoder",
    "Block",
    "ByModality",
    "ChannelTransformer",
    "ColumnTokens",
    "CountsInput",
    "Decoder",
    "DenseInput",
    "Discriminator",
    "FrozenProjection",
    "Fusion",
    "Gaussian",
    "GaussianEncoder",
    "JudgedLatent",
    "LinearSkip",
    "LogNormalised",
    "MeanLink",
    "Norm",
    "PatchTokens",
    "PlanTable",
    "PlannedEncoder",
    "ProjectionKind",
    "ScaledInput",
    "SharedDiscriminator",
    "SkipEncoder",
    "SparseLinear",
    "SparseRows",
    "Stream",
    "TokenKind",
    "Tokens",
    "TransformerBlock",
    "VectorToken",
    "Wiring",
    "activation_bytes",
    "fuse",
    "make_tokens",
    "masked_mean",
    "product_of_experts",
    "sparse_matmul",
]
