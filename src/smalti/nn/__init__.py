"""Tensor parts of networks; knows torch and nothing of AnnData."""

from __future__ import annotations

from ._attention import ChannelTransformer
from ._channels import Stream
from ._decoder import Decoder, MeanLink, OutputLayer, add_to_first
from ._discriminator import Discriminator, JudgedLatent, SharedDiscriminator
from ._dropout import Dropout
from ._encoder import Gaussian, GaussianEncoder, SkipEncoder
from ._everything_at_once import EverythingAtOnce
from ._experts import Fusion, fuse, masked_mean, product_of_experts
from ._feature_gate import DrawnGate, FeatureGate, GateKind
from ._gates import (
    GATE_CONVENTION,
    SIGMA,
    START,
    GateSchedule,
    GlobalGate,
    GroupGate,
    draw_gate,
    expected_gate,
    from_shifted,
    gate_rows,
    open_probability,
    project_,
)
from ._inputs import ByModality, CountsInput, DenseInput, ScaledInput
from ._local_gate import LocalGate
from ._mlp import MLP, Activation, Block, Norm
from ._projection import FrozenProjection, ProjectionKind
from ._rows import row_gradient, take_features
from ._sparse import SparseLinear, SparseRows, rows_of, sparse_matmul
from ._tokens import (
    ColumnTokens,
    LogNormalised,
    PatchTokens,
    TokenKind,
    Tokens,
    VectorToken,
    activation_bytes,
    make_tokens,
)
from ._transformer import TransformerBlock, Wiring
from ._warm_encoder import WarmEncoder, run_together

__all__ = [
    "GATE_CONVENTION",
    "MLP",
    "SIGMA",
    "START",
    "Activation",
    "Block",
    "ByModality",
    "ChannelTransformer",
    "ColumnTokens",
    "CountsInput",
    "Decoder",
    "DenseInput",
    "Discriminator",
    "DrawnGate",
    "Dropout",
    "EverythingAtOnce",
    "FrozenProjection",
    "FeatureGate",
    "Fusion",
    "Gaussian",
    "GateKind",
    "GateSchedule",
    "GaussianEncoder",
    "GlobalGate",
    "GroupGate",
    "JudgedLatent",
    "LocalGate",
    "LogNormalised",
    "MeanLink",
    "Norm",
    "PatchTokens",
    "OutputLayer",
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
    "WarmEncoder",
    "Wiring",
    "activation_bytes",
    "add_to_first",
    "draw_gate",
    "expected_gate",
    "from_shifted",
    "fuse",
    "gate_rows",
    "make_tokens",
    "masked_mean",
    "open_probability",
    "product_of_experts",
    "project_",
    "rows_of",
    "run_together",
    "sparse_matmul",
    "row_gradient",
    "take_features",
]
