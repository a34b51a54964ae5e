"""From a minibatch to what networks see: encoder inputs, covariates, library sizes, masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from torch import nn

from smalti.data import INDEX, INPUT_PREFIX, PREFIX, PRESENT
from smalti.losses import FAMILIES
from smalti.nn import ByModality, CountsInput, DenseInput, FrozenProjection, ScaledInput, SparseRows

from ._gating import make_gate

if TYPE_CHECKING:
    from torch import Tensor

    from ._sizes import ModalitySize, MosaicSizes


class MosaicInputs(nn.Module):
    """Everything models of a mosaic derive from a minibatch before their own networks start.

    It holds what was fitted to the training data in buffers: input transforms, feature masks, mean library sizes and
    how the library size of one modality predicts that of another.

    Parameters
    ----------
    sizes
        What the data look like.
    n_embed
        Output width of trainable input layers (encoder input ``"counts"``).
    """

    mean_log_library: Tensor
    library_slope: Tensor
    balance_table: Tensor | None

    def __init__(self, sizes: MosaicSizes, *, n_embed: int = 128) -> None:
        super().__init__()
        self.sizes = sizes
        self.names = list(sizes.modalities)
        self.layers: ByModality[nn.Module] = ByModality(
            {name: _input_layer(size, sizes.n_batch, n_embed) for name, size in sizes.modalities.items()}
        )
        self.n_cov = sizes.n_batch if sizes.n_batch > 1 else 0
        m = len(self.names)
        self.register_buffer("mean_log_library", torch.zeros(m))
        self.register_buffer("library_slope", torch.zeros(m, m))
        self.masks = nn.Module()
        for i, size in enumerate(sizes.modalities.values()):
            if size.masked:
                mask = torch.ones(sizes.n_batch + 1, size.n_features, dtype=torch.bool)
                self.masks.register_buffer(f"mask_{i}", mask)
        self.balance_table = None
        self.gates = ByModality({name: make_gate(size) for name, size in sizes.modalities.items() if size.gate})
        self.contexts = ByModality(
            {
                name: FrozenProjection(**size.gate["context"])
                for name, size in sizes.modalities.items()
                if size.gate and size.gate["context"]
            }
        )

    def position(self, name: str) -> int:
        """Return the column of modality ``name`` in presence."""
        return self.names.index(name)

    def width(self, name: str) -> int:
        """Return the width of the encoder input of modality ``name``."""
        layer = self.layers[name]
        if isinstance(layer, FrozenProjection):
            return layer.n_components
        if isinstance(layer, CountsInput):
            return layer.linear.weight.shape[1]
        return int(cast("Tensor", layer.centre).shape[1])

    def present(self, tensors: dict[str, Any]) -> dict[str, Tensor]:
        """Return presence by name, ``(B,)`` bool; modalities that the data do not have at all are left out."""
        return {name: tensors[PRESENT][:, i] for i, name in enumerate(self.names) if PREFIX + name in tensors}

    def batch(self, tensors: dict[str, Any]) -> Tensor:
        """Return batch codes ``(B,)``; -1 stands for an average batch."""
        return tensors[REGISTRY_KEYS.BATCH_KEY].ravel()

    def values(self, tensors: dict[str, Any], name: str) -> SparseRows | Tensor:
        """Return the values of modality ``name``, all cells of the batch."""
        return tensors[PREFIX + name]

    def encode(self, tensors: dict[str, Any], name: str, here: Tensor) -> Tensor:
        """Return the encoder input of the present cells, ``(n, width)``."""
        key = INPUT_PREFIX + name if self.sizes.modalities[name].input_kind == "dense" else PREFIX + name
        x = tensors[key]
        rows = x.drop_empty(here) if isinstance(x, SparseRows) else x[here]
        batch = self.batch(tensors)[here]
        if self.sizes.modalities[name].input_kind == "counts":  # fixed transforms know the mask themselves
            rows = self.measured(rows, name, batch)
        if name not in list(self.gates):
            return self.layers[name](rows, batch)
        gate, context = self.gates[name], None
        if gate.local is not None:
            context = (self.contexts if name in list(self.contexts) else self.layers)[name](rows, batch)
        return self.layers[name](rows, batch, gate(context))

    def context(self, tensors: dict[str, Any], name: str, here: Tensor) -> Tensor:
        """Return what local gates of the present cells are predicted from, ``(n, width)``."""
        x = tensors[PREFIX + name]
        rows, batch = x.drop_empty(here) if isinstance(x, SparseRows) else x[here], self.batch(tensors)[here]
        return (self.contexts if name in list(self.contexts) else self.layers)[name](rows, batch)

    def covariates(self, batch: Tensor) -> Tensor | None:
        """Return one-hot batches, ``(B, n_batch)``; equal shares for -1; ``None`` if there is only one batch."""
        if self.n_cov == 0:
            return None
        one_hot = F.one_hot(batch.clamp(min=0), self.n_cov).to(self.mean_log_library.dtype)
        return torch.where((batch < 0)[:, None], torch.full_like(one_hot, 1 / self.n_cov), one_hot)

    def mask_table(self, name: str) -> Tensor | None:
        """Return the feature mask of modality ``name``, ``(n_batch + 1, G)`` bool, or ``None`` if all were measured."""
        return getattr(self.masks, f"mask_{self.position(name)}", None)

    def feature_mask(self, name: str, batch: Tensor, features: Tensor | None) -> Tensor | None:
        """Return which ``features`` the batch of each cell measured, ``(B, S)`` bool, or ``None`` for all."""
        table = self.mask_table(name)
        if table is None:
            return None
        table = table if features is None else table[:, features]
        return table[torch.where(batch < 0, table.shape[0] - 1, batch)]

    def measured(self, x: SparseRows | Tensor, name: str, batch: Tensor) -> SparseRows | Tensor:
        """Return the values of ``B`` cells with zeros where their batch did not measure a feature."""
        table = self.mask_table(name)
        if table is None:
            return x
        at = torch.where(batch < 0, table.shape[0] - 1, batch)
        if isinstance(x, SparseRows):
            return x.map_values(x.values * table[at[x.row_index()], x.indices])
        return x * table[at]

    def log_library(self, tensors: dict[str, Any], name: str) -> Tensor:
        """Return the log of the observed total of measured features, ``(B,)``; 0 for an empty cell."""
        x = self.measured(tensors[PREFIX + name], name, self.batch(tensors))
        total = x.row_sums() if isinstance(x, SparseRows) else x.sum(dim=1)
        return total.clamp(min=1).log()

    def predicted_log_library(self, tensors: dict[str, Any], source: str, target: str) -> Tensor:
        """Predict the log library size of ``target`` from that of ``source``, ``(B,)``.

        A line fitted on paired training cells; where the training data had none, the mean of the target.
        """
        a, b = self.position(source), self.position(target)
        excess = self.log_library(tensors, source) - self.mean_log_library[a]
        return self.mean_log_library[b] + self.library_slope[a, b] * excess

    def modality_weights(self, weights: dict[str, float]) -> dict[str, float]:
        """Return one weight per modality, 1 if not given, normalised to mean 1."""
        raw = {name: weights.get(name, 1.0) for name in self.names}
        mean = sum(raw.values()) / len(raw)
        return {name: value / mean for name, value in raw.items()}

    def balance(self, tensors: dict[str, Any], codes: Tensor, cells: Tensor) -> Tensor | None:
        """Return the balancing weight of profiles given modality codes and positions in the batch, ``(N,)``."""
        if self.balance_table is None:
            return None
        table = self.balance_table.to(codes.device)
        return table[tensors[INDEX][cells], codes]

    def uses_library(self, name: str) -> bool:
        """Return whether the likelihood of modality ``name`` scales with the library size."""
        return FAMILIES[self.sizes.modalities[name].likelihood].uses_library


def _input_layer(size: ModalitySize, n_batch: int, n_embed: int) -> nn.Module:
    if size.input_kind == "projection":
        return FrozenProjection(**size.input_config)
    if size.input_kind == "counts":
        return CountsInput(size.n_features, n_embed, **size.input_config)
    if size.input_kind == "scaled":
        return ScaledInput(size.n_features, n_batch, masked=size.masked, **size.input_config)
    return DenseInput(n_batch=n_batch, **size.input_config)
