"""From a minibatch to what networks see: encoder inputs, batch codes, library sizes, feature masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from smalti.losses import FAMILIES
from smalti.nn import (
    ByModality,
    CountsInput,
    DenseInput,
    FeatureGate,
    FrozenProjection,
    ScaledInput,
    SparseRows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from smalti.data import MosaicBatch

    from ._sizes import ModalitySize, MosaicSizes

NOT_OF_THE_GATE = ("context", "convention", "sigma")
"""Entries of a stored gate that its constructor does not take."""


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

    def __init__(self, sizes: MosaicSizes, *, n_embed: int = 128) -> None:
        super().__init__()
        self.sizes = sizes
        self.names = list(sizes.modalities)
        self.layers: ByModality[nn.Module] = ByModality(
            {name: _input_layer(size, sizes.n_batch, n_embed) for name, size in sizes.modalities.items()}
        )
        m = len(self.names)
        self.register_buffer("mean_log_library", torch.zeros(m))
        self.register_buffer("library_slope", torch.zeros(m, m))
        self.masks = nn.Module()
        for i, size in enumerate(sizes.modalities.values()):
            if size.masked:
                mask = torch.ones(sizes.n_batch + 1, size.n_features, dtype=torch.bool)
                self.masks.register_buffer(f"mask_{i}", mask)
        self.gates = ByModality({name: _gate(size) for name, size in sizes.modalities.items() if size.gate})
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

    def present(self, minibatch: MosaicBatch) -> dict[str, Tensor]:
        """Return presence by name, ``(B,)`` bool; modalities that the data do not have at all are left out."""
        return {name: minibatch["present"][:, i] for i, name in enumerate(self.names) if name in minibatch["values"]}

    def having(self, minibatch: MosaicBatch) -> dict[str, Tensor]:
        """Return the cells of each modality as positions, ``(n,)`` int64; masks would let a GPU wait."""
        found = minibatch["cells"].having
        return {name: found[name] for name in self.names if name in minibatch["values"]}

    def batch(self, minibatch: MosaicBatch) -> Tensor:
        """Return batch codes ``(B,)``; -1 stands for an average batch, and so do those that a query brought."""
        codes = minibatch["batch"].ravel()
        return torch.where(codes < self.sizes.n_batch, codes, -1)

    def encode(self, minibatch: MosaicBatch, name: str, here: Tensor) -> Tensor:
        """Return the encoder input of the cells that have a modality, ``(n, width)``.

        ``here`` are their positions, ``(n,)`` int64 ascending, or ``(B,)`` bool.
        """
        size = self.sizes.modalities[name]
        rows = _of(minibatch["components" if size.input_kind == "dense" else "values"][name], here)
        batch = self.batch(minibatch)[here]
        if size.input_kind == "counts":  # fixed transforms know the mask themselves
            rows = self.measured(rows, name, batch)
        if isinstance(self.layers[name], FrozenProjection):  # which knows the batches of a query, too
            batch = minibatch["batch"].ravel()[here]
        if name not in self.gates:
            return self.layers[name](rows, batch)
        gate = self.gates[name]
        return self.layers[name](rows, batch, gate(self._context(rows, name, batch) if gate.local else None))

    def context(self, minibatch: MosaicBatch, name: str, here: Tensor) -> Tensor:
        """Return what local gates of the present cells are predicted from, ``(n, width)``."""
        return self._context(_of(minibatch["values"][name], here), name, self.batch(minibatch)[here])

    def _context(self, rows: SparseRows | Tensor, name: str, batch: Tensor) -> Tensor:
        return (self.contexts if name in self.contexts else self.layers)[name](rows, batch)

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

    def log_library(self, minibatch: MosaicBatch, name: str) -> Tensor:
        """Return the log of the observed total of measured features, ``(B,)``; 0 for an empty cell."""
        x = self.measured(minibatch["values"][name], name, self.batch(minibatch))
        total = x.row_sums() if isinstance(x, SparseRows) else x.sum(dim=1)
        return total.clamp(min=1).log()

    def predicted_log_library(self, minibatch: MosaicBatch, source: str, target: str) -> Tensor:
        """Predict the log library size of ``target`` from that of ``source``, ``(B,)``.

        A line fitted on paired training cells; where the training data had none, the mean of the target.
        """
        a, b = self.position(source), self.position(target)
        excess = self.log_library(minibatch, source) - self.mean_log_library[a]
        return self.mean_log_library[b] + self.library_slope[a, b] * excess

    def uses_library(self, name: str) -> bool:
        """Return whether the likelihood of modality ``name`` scales with the library size."""
        return FAMILIES[self.sizes.modalities[name].likelihood].uses_library


def modality_weights(given: Mapping[str, float], modalities: Sequence[str]) -> dict[str, float]:
    """Return one weight per modality, 1 if not given, normalised to mean 1."""
    raw = {name: given.get(name, 1.0) for name in modalities}
    mean = sum(raw.values()) / len(raw)
    return {name: value / mean for name, value in raw.items()}


def spread_rows(x: Tensor, here: Tensor, fill: float = 0.0, *, n: int | None = None) -> Tensor:
    """Put the rows of some cells, ``(n, ...)``, back among all ``B`` cells of the minibatch, ``(B, ...)``.

    Parameters
    ----------
    x
        Rows.
    here
        ``(B,)`` bool; or positions, ``(n,)`` int64, which need ``n``.
    fill
        For other cells.
    n
        Number ``B`` of all cells.
    """
    if here.dtype != torch.bool:
        return x.new_full((n or 0, *x.shape[1:]), fill).index_copy(0, here, x)
    out = x.new_full((here.shape[0], *x.shape[1:]), fill)
    out[here] = x
    return out


def _of(block: SparseRows | Tensor, here: Tensor) -> SparseRows | Tensor:
    """Return the rows of present cells."""
    return block.drop_empty(here) if isinstance(block, SparseRows) else block[here]


def _gate(size: ModalitySize) -> FeatureGate:
    return FeatureGate(size.n_features, **{k: v for k, v in (size.gate or {}).items() if k not in NOT_OF_THE_GATE})


def _input_layer(size: ModalitySize, n_batch: int, n_embed: int) -> nn.Module:
    if size.input_kind == "projection":
        return FrozenProjection(**size.input_config)
    if size.input_kind == "counts":
        return CountsInput(size.n_features, n_embed, **size.input_config)
    if size.input_kind == "scaled":
        return ScaledInput(size.n_features, n_batch, masked=size.masked, **size.input_config)
    return DenseInput(n_batch=n_batch, **size.input_config)
