"""Fitting what networks see to the data they are built for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS

from smalti._disk import DiskMatrix, rows_to_fit
from smalti._validate import check_count
from smalti.data import (
    COUNT_LIKELIHOODS,
    ENCODER_INPUTS,
    fit_scaled,
    linked_pairs,
    make_reader,
    read_blocks,
)
from smalti.losses import FAMILIES
from smalti.nn import DenseInput, FrozenProjection, ScaledInput
from smalti.pp import N_COMPONENTS, components_by_pairs, make_transform

from ._fit_gates import FittedGate
from ._linear_start import CellComponents
from ._sizes import ModalitySize, MosaicSizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.data import ModalityField, MosaicManager

    from ._inputs import MosaicInputs

logger = logging.getLogger(__name__)

MIN_PAIRS = 50
"""Pairs needed for a choice by cross-validation."""
INPUT_SPREAD = 3.0
"""Standard deviation given to the leading component, so that inputs of any unit suit the same learning rate."""
CHUNK_ROWS = 8192


class FittedInputs:
    """Sizes of a mosaic and the state of its input layers, before any network exists.

    Parameters
    ----------
    manager
        Manager of the training data.
    n_components
        Components of transforms; chosen by cross-validated linear CCA on paired cells by default.
    random_state
        Seed of folds and decompositions.
    """

    def __init__(self, manager: MosaicManager, *, n_components: int | None = None, random_state: int = 0) -> None:
        if n_components is not None:
            check_count(n_components, "n_components")
        self.manager = manager
        self.maps = manager.row_maps()
        self.batch = manager.codes()[REGISTRY_KEYS.BATCH_KEY]
        self.n_batch = int(manager.summary_stats["n_batch"])
        self.masks = {field.name: self._mask(field) for field in manager.modality_fields}
        self.layers: dict[str, FrozenProjection | DenseInput | ScaledInput | None] = {}
        self.components: dict[str, NDArray[np.float32]] = {}
        for field in manager.modality_fields:
            self._fit_layer(field, n_components or max(N_COMPONENTS), random_state)
        if n_components is None and self.components:
            self._truncate(self._choose(random_state))
        self.gates = {
            field.name: FittedGate(
                field,
                manager,
                self.layers[field.name],
                batch=self.local_batch(field.name),
                n_batch=self.n_batch,
                feature_mask=self.masks[field.name],
                random_state=random_state,
            )
            for field in manager.modality_fields
            if field.spec.gate
        }
        for name, layer in self.layers.items():
            if isinstance(layer, FrozenProjection | DenseInput):
                spread = float(self.components[name].std(axis=0).max())
                scale = INPUT_SPREAD / spread if spread > 0 else 1.0
                layer.scale.mul_(scale)
                self.components[name] = self.components[name] * np.float32(scale)

    def sizes(self, *, n_labels: int) -> MosaicSizes:
        """Return the sizes of everything."""
        presence = np.column_stack([rows >= 0 for rows in self.maps.values()])
        names = list(self.maps)
        return MosaicSizes(
            modalities={field.name: self._size(field) for field in self.manager.modality_fields},
            n_batch=self.n_batch,
            n_labels=n_labels,
            pairs=tuple((names[i], names[j]) for i, j in linked_pairs(presence)),
        )

    @torch.no_grad()
    def load_into(self, inputs: MosaicInputs) -> dict[str, torch.Tensor]:
        """Copy the fitted state into a model's inputs; return the mean rate of every feature, ``(G,)`` by modality."""
        for name, layer in self.layers.items():
            if layer is not None:
                inputs.layers[name].load_state_dict(layer.state_dict())
            mask = self.masks[name]
            table = inputs.mask_table(name)
            if mask is not None and table is not None:
                table.copy_(torch.from_numpy(np.vstack([mask, mask.any(axis=0)])))
        for gate in self.gates.values():
            gate.load_into(inputs)
        rates, library = {}, {}
        for field in self.manager.modality_fields:
            rates[field.name], library[field.name] = self._rates(field)
        for a, (source, x) in enumerate(library.items()):
            known = x[self.maps[source] >= 0]
            inputs.mean_log_library[a] = float(known.mean())
            for b, (target, y) in enumerate(library.items()):
                both = (self.maps[source] >= 0) & (self.maps[target] >= 0)
                if source != target and both.sum() >= MIN_PAIRS and x[both].std() > 0:
                    inputs.library_slope[a, b] = float(np.polyfit(x[both], y[both], 1)[0])
        return rates

    def standards(self) -> dict[str, ScaledInput]:
        """Return mean and standard deviation of every feature of the modalities with a Gaussian likelihood."""
        return {
            field.name: fit_scaled(
                ScaledInput(int(field.get_field_data(self.manager.adata).shape[1]), 1, log=False),
                field.get_field_data(self.manager.adata),
                np.zeros(int((self.maps[field.name] >= 0).sum()), dtype=np.int64),
            )
            for field in self.manager.modality_fields
            if field.spec.likelihood == "gaussian"
        }

    def cell_components(self) -> CellComponents | None:
        """Return the encoder inputs of all cells, so that nobody computes them again.

        ``None`` if gates stand in front of them, or a modality has an input that is not kept (a row of standardised
        features per cell): then :func:`encoder_inputs` streams them.
        """
        fixed = [name for name, layer in self.layers.items() if layer is not None]
        if self.gates or any(name not in self.components for name in fixed):
            return None
        values, maps = {}, {}
        for name in fixed:
            rows = self.maps[name]
            here = rows >= 0
            values[name] = np.ascontiguousarray(self.components[name][rows[here]])
            maps[name] = np.where(here, np.cumsum(here) - 1, -1)
        return CellComponents(values, maps)

    # ------------------------------------------------------------------ parts

    def _mask(self, field: ModalityField) -> NDArray[np.bool_] | None:
        state = self.manager.get_state_registry(field.registry_key)
        if state.get("feature_mask") is None:
            return None
        columns = list(state["mask_batches"])
        categories = self.manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)["categories"]
        mask: NDArray[np.bool_] = np.asarray(state["feature_mask"], dtype=bool)
        return mask[[columns.index(str(category)) for category in categories]]

    def local_batch(self, name: str) -> NDArray[np.int64]:
        rows = self.maps[name]
        here = rows >= 0
        out = np.empty(int(here.sum()), dtype=np.int64)
        out[rows[here]] = self.batch[here]
        return out

    def _fit_layer(self, field: ModalityField, n_components: int, random_state: int) -> None:
        name, source = field.name, field.spec.encoder_input
        batch = self.local_batch(name)
        if source == "counts":
            self.layers[name] = None
            return
        adata = self.manager.adata.mod[name]
        if source == "scaled":
            counts = field.spec.likelihood in COUNT_LIKELIHOODS
            mask = self.masks[name]
            scaled = ScaledInput(adata.n_vars, self.n_batch, log=counts, masked=mask is not None)
            self.layers[name] = fit_scaled(scaled, field.get_field_data(self.manager.adata), batch, mask)
            return
        if source not in ENCODER_INPUTS:
            layer = DenseInput(int(np.asarray(adata.obsm[source]).shape[1]), self.n_batch)
            z = np.asarray(adata.obsm[source], dtype=np.float32)
            centres = np.stack(
                [z[batch == b].mean(axis=0) if (batch == b).any() else z.mean(axis=0) for b in range(self.n_batch)]
            )
            layer.centre.copy_(torch.from_numpy(np.vstack([centres, centres.mean(axis=0)])))
            self.layers[name], self.components[name] = layer, z - centres[batch]
            return
        x = field.get_field_data(self.manager.adata)
        limit = min(n_components, adata.n_vars, max(adata.n_obs - 1, 1))
        counts = field.spec.likelihood in COUNT_LIKELIHOODS
        transform = make_transform(str(source), counts=counts, n_components=limit, random_state=random_state)
        try:
            transform.fit(
                x, batch=batch, n_batch=self.n_batch, feature_mask=self.masks[name], rows=rows_to_fit(x, random_state)
            )
        except ValueError as error:
            raise ValueError(
                f"Modality {name!r}: {error} Leave it out of `modalities`, or look at its values."
            ) from error
        self.layers[name] = transform.to_module()
        self.components[name] = transform.transform(x, batch=batch)

    def _choose(self, random_state: int) -> int:
        maps = {name: self.maps[name] for name in self.components}
        chosen = components_by_pairs(self.components, maps, batch=self.batch, random_state=random_state)
        logger.info("%d components per modality.", chosen)
        return chosen

    def _truncate(self, n_components: int) -> None:
        for name, layer in self.layers.items():
            if isinstance(layer, FrozenProjection) and layer.n_components > n_components:
                self.layers[name] = layer.truncate(n_components)
                self.components[name] = self.components[name][:, :n_components]

    def _size(self, field: ModalityField) -> ModalitySize:
        layer = self.layers[field.name]
        kind: Any = "counts"
        config: dict[str, Any] = {"log": field.spec.likelihood in COUNT_LIKELIHOODS}
        if isinstance(layer, FrozenProjection):
            kind, config = "projection", dict(layer.config)
        elif isinstance(layer, ScaledInput):
            kind = "scaled"
        elif isinstance(layer, DenseInput):
            kind, config = "dense", {"n_in": int(layer.centre.shape[1])}
        return ModalitySize(
            n_features=int(self.manager.get_state_registry(field.registry_key)["n_vars"]),
            likelihood=str(field.spec.likelihood),
            input_kind=kind,
            input_config=config,
            masked=self.masks[field.name] is not None,
            gate=self.gates[field.name].config if field.name in self.gates else None,
        )

    def _rates(self, field: ModalityField) -> tuple[torch.Tensor, NDArray[np.float64]]:
        """Mean of every feature over the cells that measured it (per unit of library where the family uses it)."""
        family, name = FAMILIES[str(field.spec.likelihood)], field.name
        x = field.get_field_data(self.manager.adata)
        batch, mask = self.local_batch(name), self.masks[name]
        reader = make_reader(x)
        n, g = x.shape
        total, size, log_library = np.zeros(g), np.zeros(g), np.zeros(n)
        step = min(CHUNK_ROWS, x.chunk_rows) if isinstance(x, DiskMatrix) else CHUNK_ROWS
        for rows, block in read_blocks(reader, n, step):
            block = block if mask is None else _measured(block, mask, batch[rows])
            sums, per_row = _sums(block, g, family.name == "bernoulli")
            log_library[rows] = np.log(np.maximum(per_row, 1))
            total += sums
            weight = np.maximum(per_row, 1) if family.uses_library else np.ones(len(rows))
            if mask is None:
                size += weight.sum()
            else:
                size += np.bincount(batch[rows], weight, self.n_batch) @ mask
        full = np.full(len(self.batch), np.nan)
        here = self.maps[name] >= 0
        full[here] = log_library[self.maps[name][here]]
        return torch.from_numpy(total / np.maximum(size, 1e-8)).float(), full


def _measured(block: Any, mask: NDArray[np.bool_], batch: NDArray[np.int64]) -> Any:
    """Return a block with zeros where the batch of a row, ``(B,)``, did not measure a feature, ``(n_batch, G)``."""
    if isinstance(block, torch.Tensor):
        return block * torch.from_numpy(mask[batch])
    return block.map_values(block.values * torch.from_numpy(mask[batch[block.row_index()], block.indices]))


def _sums(block: Any, n_features: int, binary: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Column sums (of zero against non-zero if ``binary``) and row sums of a block."""
    if isinstance(block, torch.Tensor):
        x = block.numpy()
        return (np.clip(x, 0, 1) if binary else x).sum(axis=0).astype(np.float64), x.sum(axis=1).astype(np.float64)
    values = block.values.numpy()
    columns = np.bincount(block.indices.numpy(), np.clip(values, 0, 1) if binary else values, n_features)
    return columns.astype(np.float64), block.row_sums().numpy().astype(np.float64)
