"""What linear methods know before any network is trained: a warm start, and balancing weights."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from smalti.data import INDEX, to_device
from smalti.nn import FrozenProjection, ScaledInput
from smalti.pp import LinearCCA

from ._sizes import largest_linked_group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.nn import AlignmentEncoder, ByModality, FeatureGate

    from ._inputs import MosaicInputs
    from ._mosaic_model import MosaicModel

logger = logging.getLogger(__name__)

MIN_PAIRS = 20
"""Pairs below which linear CCA says nothing that a random start does not."""


def encoder_inputs(
    model: MosaicModel, inputs: MosaicInputs
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]]:
    """Return the encoder inputs of all cells that have each modality, and row maps into them.

    Modalities with a trainable input layer are left out: there is nothing fixed to look at.
    """
    fixed = [name for name, size in inputs.sizes.modalities.items() if size.input_kind != "counts"]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in fixed}
    cells: dict[str, list[NDArray[np.int64]]] = {name: [] for name in fixed}
    dataset = model.adata_manager.create_torch_dataset()
    n = len(dataset)
    device, was_training = inputs.mean_log_library.device, inputs.training
    inputs.eval()  # gates without noise
    with torch.no_grad():
        for start in range(0, n, 2048):
            batch = dataset[np.arange(start, min(start + 2048, n))]
            batch = to_device(batch, device)
            for name, here in inputs.present(batch).items():
                if name in parts:
                    parts[name].append(inputs.encode(batch, name, here).cpu().numpy())
                    cells[name].append(batch[INDEX][here].cpu().numpy())
    inputs.train(was_training)
    maps = {}
    parts = {name: part for name, part in parts.items() if part}
    for name in parts:
        at = np.concatenate(cells[name])
        maps[name] = np.full(n, -1, dtype=np.int64)
        maps[name][at] = np.arange(len(at))
    return {name: np.concatenate(part) for name, part in parts.items()}, maps


def linear_alignment(
    model: MosaicModel, inputs: MosaicInputs, cells: NDArray[np.int64] | None = None
) -> tuple[LinearCCA, dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]] | None:
    """Fit linear CCA to the encoder inputs of the paired ones among ``cells``; ``None`` if there are too few."""
    components, maps = encoder_inputs(model, inputs)
    fit_maps = maps
    if cells is not None:
        fit_maps = {name: np.where(np.isin(np.arange(len(rows)), cells), rows, -1) for name, rows in maps.items()}
    names = largest_linked_group(fit_maps)
    if len(names) < 2:
        return None
    present = np.column_stack([fit_maps[name] >= 0 for name in names])
    if min(int((present.sum(axis=1) >= 2)[present[:, i]].sum()) for i in range(len(names))) < MIN_PAIRS:
        logger.info("Fewer than %d pairs: no warm start from linear CCA.", MIN_PAIRS)
        return None
    cca = LinearCCA().fit({name: components[name] for name in names}, {name: fit_maps[name] for name in names})
    return cca, components, maps


def warm_start(
    model: MosaicModel,
    train_cells: NDArray[np.int64],
    inputs: MosaicInputs,
    aligners: ByModality[AlignmentEncoder],
) -> None:
    """Start the linear part of alignment encoders from linear CCA of the paired training cells, and gates from it."""
    fitted = linear_alignment(model, inputs, train_cells)
    if fitted is None:
        return
    cca = fitted[0]
    for name in cca.axes:
        weight = torch.from_numpy((cca.axes[name] * cca.correlations).astype(np.float32))
        aligners[name].warm_start(weight, torch.from_numpy(cca.means[name].astype(np.float32)))
        layer = inputs.layers[name]
        if name not in list(inputs.gates):
            continue
        gate, weight = cast("FeatureGate", inputs.gates[name]), weight.to(inputs.mean_log_library.device)
        if isinstance(layer, FrozenProjection):
            gate.warm_start(((layer.weight * layer.scale) @ weight).norm(dim=1) * gate.spread)
        elif isinstance(layer, ScaledInput):
            gate.warm_start(weight.norm(dim=1))


def balancing_weights(model: MosaicModel, inputs: MosaicInputs, random_state: int) -> torch.Tensor | None:
    """Weight down profiles of populations that have no counterpart in another modality.

    Each modality is clustered in the linear CCA embedding (k-means); for clusters ``a``, ``b`` of two modalities the
    cosine of their centroids, 0 below 0.5 and to the power 4, measures whether they correspond. With more than two
    modalities the products over pairs of modalities are summed per cluster. A cluster's weight is that sum divided by
    its size, normalised to mean 1 over profiles (release of :cite:t:`Tu2022`, which clusters by Leiden).

    Returns
    -------
    ``(n_obs, M)``, 1 where unknown; ``None`` without pairs to start from.
    """
    from sklearn.cluster import MiniBatchKMeans

    fitted = linear_alignment(model, inputs)
    if fitted is None:
        logger.info("No pairs to match populations by: the modality game is not balanced.")
        return None
    cca, components, maps = fitted
    names = list(cca.axes)
    embedded = cca.transform({name: components[name] for name in names})
    clusters, centroids, sizes = {}, {}, {}
    for name in names:
        z = embedded[name]
        z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        k = int(np.clip(np.sqrt(len(z) / 20), 2, 30))
        found = MiniBatchKMeans(k, n_init=3, random_state=random_state).fit(z)
        clusters[name] = found.labels_
        centroids[name] = found.cluster_centers_ / np.maximum(
            np.linalg.norm(found.cluster_centers_, axis=1, keepdims=True), 1e-12
        )
        sizes[name] = np.bincount(found.labels_, minlength=k)
    table = np.ones((len(next(iter(maps.values()))), len(inputs.names)), dtype=np.float32)
    for name in names:
        match = np.ones(len(centroids[name]))
        for other in names:
            if other != name:
                cosine = centroids[name] @ centroids[other].T
                match = match * (np.where(cosine < 0.5, 0.0, cosine) ** 4).sum(axis=1)
        weight = match / np.maximum(sizes[name], 1)
        per_profile = weight[clusters[name]]
        per_profile = per_profile / max(per_profile.mean(), 1e-12)
        here = maps[name] >= 0
        table[here, inputs.position(name)] = per_profile[maps[name][here]]
    return torch.from_numpy(table)
