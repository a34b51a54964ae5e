"""What linear methods know before a network is trained: components of all cells, a start of encoders and gates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from smalti.data import linked_groups, to_device
from smalti.nn import FeatureGate, FrozenProjection, ScaledInput, WarmEncoder
from smalti.pp import LinearCCA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from smalti.data import MosaicManager
    from smalti.nn import ByModality

    from ._inputs import MosaicInputs

logger = logging.getLogger(__name__)

MIN_PAIRS = 20
"""Pairs below which linear CCA says nothing that a random start does not."""
RIDGE = 0.1
"""Ridge of the CCA that networks start from: with 30 components and 256 pairs, ten times that of
:func:`smalti.tl.linear_cca` lets a network end at a FOSCTTM of 0.055 instead of 0.060 (decision 013)."""
CHUNK_CELLS = 2048


class CellComponents(NamedTuple):
    """Encoder inputs of all cells that have each modality, and where to find a cell among them.

    Modalities with a trainable input layer are left out: there is nothing fixed to look at.
    """

    values: dict[str, NDArray[np.float32]]
    """``(n, width)`` by modality."""
    maps: dict[str, NDArray[np.int64]]
    """``(n_obs,)`` row of every cell by modality, -1 where absent."""

    def of(self, cells: NDArray[np.int64]) -> CellComponents:
        """Return the same components with maps that know only the cells at these positions."""
        n = len(next(iter(self.maps.values()))) if self.maps else 0
        here = np.isin(np.arange(n), cells)
        return CellComponents(self.values, {name: np.where(here, rows, -1) for name, rows in self.maps.items()})


@torch.no_grad()
def encoder_inputs(manager: MosaicManager, inputs: MosaicInputs) -> CellComponents:
    """Return the encoder inputs of all cells, streamed in chunks, gates without noise."""
    fixed = [name for name, size in inputs.sizes.modalities.items() if size.input_kind != "counts"]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in fixed}
    dataset = manager.create_torch_dataset()
    n = len(dataset)
    device, was_training = inputs.mean_log_library.device, inputs.training
    inputs.eval()
    for start in range(0, n, CHUNK_CELLS):
        minibatch = to_device(dataset[np.arange(start, min(start + CHUNK_CELLS, n))], device)
        for name, here in inputs.present(minibatch).items():
            if name in parts:
                parts[name].append(inputs.encode(minibatch, name, here).cpu().numpy())
    inputs.train(was_training)
    maps = {}
    for i, name in enumerate(inputs.names):
        if parts.get(name):
            has = dataset.presence[:, i]
            maps[name] = np.where(has, np.cumsum(has) - 1, -1)
    return CellComponents({name: np.concatenate(parts[name]) for name in maps}, maps)


def linear_alignment(components: CellComponents) -> LinearCCA | None:
    """Fit linear CCA to the encoder inputs of the paired cells; ``None`` if there are too few."""
    if len(components.maps) < 2:
        return None
    every = list(components.maps)
    present = np.column_stack([components.maps[name] >= 0 for name in every])
    linked = linked_groups(present)[0]
    if len(linked) < 2:
        return None
    names, present = [every[i] for i in linked], present[:, linked]
    if min(int((present.sum(axis=1) >= 2)[present[:, i]].sum()) for i in range(len(names))) < MIN_PAIRS:
        logger.info("Fewer than %d pairs: no warm start from linear CCA.", MIN_PAIRS)
        return None
    if not all(np.isfinite(components.values[name]).all() for name in names):
        return None  # whoever checks losses says where it comes from
    return LinearCCA(ridge=RIDGE).fit(
        {name: components.values[name] for name in names}, {name: components.maps[name] for name in names}
    )


def warm_start(inputs: MosaicInputs, encoders: Iterable[ByModality[WarmEncoder]], components: CellComponents) -> None:
    """Start the linear part of encoders from linear CCA of the paired cells, and gates from it.

    Parameters
    ----------
    inputs
        Input layers and gates of the network.
    encoders
        Sets of encoders by modality; all start alike.
    components
        Encoder inputs; only the cells that their maps know are looked at.
    """
    encoders, cca = list(encoders), linear_alignment(components)
    if cca is None:
        return
    for name in cca.axes:
        # an axis on which held-out pairs disagree is none
        weight = torch.from_numpy((cca.axes[name] * np.maximum(cca.correlations, 0)).astype(np.float32))
        mean = torch.from_numpy(cca.means[name].astype(np.float32))
        for members in encoders:
            members[name].warm_start(weight, mean)
        if name in inputs.gates:
            _start_gate(inputs.gates[name], inputs.layers[name], weight.to(inputs.mean_log_library.device))


def _start_gate(gate: FeatureGate, layer: torch.nn.Module, weight: torch.Tensor) -> None:
    if gate.shared is None:  # gates of each cell have no common order to start in
        return
    if isinstance(layer, FrozenProjection):
        gate.warm_start(((layer.weight * layer.scale) @ weight).norm(dim=1) * gate.spread)
    elif isinstance(layer, ScaledInput):
        gate.warm_start(weight.norm(dim=1))
