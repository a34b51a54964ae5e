"""Fitting what gates of a modality need: how many to keep, groups, means of features, the context of local gates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from smalti._disk import rows_to_fit
from smalti._validate import check_keys
from smalti.data import COUNT_LIKELIHOODS, infer_encoder_input, make_reader, read_blocks
from smalti.nn import GATE_CONVENTION, SIGMA, FrozenProjection, SparseRows
from smalti.pp import make_transform

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from smalti.data import Likelihood, ModalityField, MosaicManager

    from ._inputs import MosaicInputs

logger = logging.getLogger(__name__)

DEFAULT_KEEP = 0.2
N_CONTEXT = 20
BLOCK_VALUES = 2_000_000


class FittedGate:
    """Sizes and state of the gates of one modality.

    Parameters
    ----------
    field
        The modality.
    manager
        Manager of the training data.
    layer
        Its fitted input layer; ``None`` if that is trained.
    batch
        ``(n,)`` batch codes of its cells.
    n_batch
        Number of batches.
    feature_mask
        ``(n_batch, G)`` bool, or ``None`` if all features were measured.
    random_state
        Seed of the decomposition.
    """

    def __init__(
        self,
        field: ModalityField,
        manager: MosaicManager,
        layer: nn.Module | None,
        *,
        batch: NDArray[np.int64],
        n_batch: int,
        feature_mask: NDArray[np.bool_] | None,
        random_state: int,
    ) -> None:
        spec, self.name, self.n_batch, self.feature_mask = field.spec, field.name, n_batch, feature_mask
        adata = manager.adata.mod[field.name]
        self.x, self.batch = field.get_field_data(manager.adata), batch
        n_features = adata.n_vars
        keep = None
        if spec.gate_penalty is None:
            wanted = DEFAULT_KEEP if spec.gate_keep is None else spec.gate_keep
            keep = int(min(max(1, round(wanted * n_features if wanted < 1 else wanted)), n_features))
            logger.info("Modality %r: %s gates, %d of %d features are kept.", field.name, spec.gate, keep, n_features)
        groups = None
        if spec.gate_groups is not None:
            check_keys([spec.gate_groups], list(adata.var), f"Groups of gates of modality {field.name!r} (`.var`)")
            groups = pd.factorize(adata.var[spec.gate_groups].astype(object))[0].tolist()
        self.context: FrozenProjection | None = None
        local = "local" in str(spec.gate)
        if local and not isinstance(layer, FrozenProjection):
            self.context = self._fit_context(spec.likelihood, n_features, random_state)
        looks_at = self.context if self.context is not None else layer
        projected = isinstance(layer, FrozenProjection)
        self.config: dict[str, Any] = {
            "kind": spec.gate,
            "keep": keep,
            "penalty": spec.gate_penalty,
            "groups": groups,
            "n_context": looks_at.n_components if local and isinstance(looks_at, FrozenProjection) else 0,
            "n_means": n_batch + 1 if projected and spec.gate != "local" else 0,
            "context": None if self.context is None else dict(self.context.config),
            "convention": GATE_CONVENTION,
            "sigma": SIGMA,
        }

    def _fit_context(self, likelihood: Likelihood | None, n_features: int, random_state: int) -> FrozenProjection:
        counts = likelihood in COUNT_LIKELIHOODS
        kind = infer_encoder_input(self.x, likelihood or "gaussian")
        limit = min(N_CONTEXT, n_features, max(self.x.shape[0] - 1, 1))
        transform = make_transform(kind, counts=counts, n_components=limit, random_state=random_state)
        rows = rows_to_fit(self.x, random_state)
        transform.fit(self.x, batch=self.batch, n_batch=self.n_batch, feature_mask=self.feature_mask, rows=rows)
        return transform.to_module()

    @torch.no_grad()
    def load_into(self, inputs: MosaicInputs) -> None:
        """Copy means and context into a model's inputs."""
        gate, layer = inputs.gates[self.name], inputs.layers[self.name]
        if self.context is not None:
            inputs.contexts[self.name].load_state_dict(self.context.state_dict())
        if len(gate.mean) and isinstance(layer, FrozenProjection):
            for buffer, value in zip((gate.mean, gate.spread), self._moments(layer), strict=True):
                buffer.copy_(value)

    def _moments(self, layer: FrozenProjection) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means of the mapped values by batch, ``(n_batch + 1, G)``, the last one over batches, and spreads.

        Standard deviations, ``(G,)``, are those within batches, as what batches differ by leaves components anyway.
        """
        reader, (n, g) = make_reader(self.x), self.x.shape
        n_batch = self.n_batch
        total, squares = np.zeros(n_batch * g), np.zeros(g)
        step = max(1, min(8192, BLOCK_VALUES // g if not hasattr(self.x, "nnz") else 8192))
        for rows, block in read_blocks(reader, n, step):
            codes = torch.from_numpy(self.batch[rows])
            values, _ = layer.map_values(block, codes)
            if isinstance(values, SparseRows):
                at = (codes[values.row_index()] * g + values.indices).numpy()
                total += np.bincount(at, values.values.numpy(), n_batch * g)
                squares += np.bincount(values.indices.numpy(), values.values.square().numpy(), g)
            else:
                by = torch.zeros(n_batch, g).index_add_(0, codes, values)
                total += by.numpy().ravel()
                squares += values.square().sum(dim=0).numpy()
        cells = np.bincount(self.batch, minlength=n_batch)
        means = total.reshape(n_batch, g) / np.maximum(cells, 1)[:, None]
        spread = np.sqrt(np.maximum((squares - cells @ np.square(means)) / max(n, 1), 0.0))
        overall = means[cells > 0].mean(axis=0)
        means[cells == 0] = overall
        table = np.vstack([means, overall]).astype(np.float32)
        return torch.from_numpy(table), torch.from_numpy(spread.astype(np.float32))
