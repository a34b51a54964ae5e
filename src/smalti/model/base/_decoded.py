"""What the network of a model expects, made to add up to library sizes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch

from smalti.model.parts import ALL, fit_rates, shared_out
from smalti.nn import SparseRows

from ._library_size import target_log_library
from ._mosaic_model import MosaicModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.parts import RateCalibration

    from ._library_size import Library

MIN_CELLS = 20
"""Cells below which rates are scaled to the total without calibrating features."""
MAX_NUMBERS = 8_000_000
"""Values of a modality that are dense at once while rates are calibrated."""


class DecodedMixin(MosaicModel):
    """Decoded values of any model, calibrated."""

    @abstractmethod
    def _expected(
        self,
        minibatch: MosaicBatch,
        source: str | None,
        target: str,
        library: Library,
        batch: int | None,
        features: NDArray[np.int64] | None,
    ) -> torch.Tensor:
        """Return what the decoder expects of one minibatch, ``(B, S)``, on the scale of raw values."""

    @torch.no_grad()
    def _decoded(
        self, minibatch: MosaicBatch, source: str | None, target: str, library: Library, batch: int | None
    ) -> NDArray[np.float32]:
        """Return what the network expects of one minibatch, ``(B, G)``; counts add up to the library size."""
        found = self._expected(minibatch, source, target, library, batch, None).float().cpu().numpy()
        inputs = self.module.inputs
        if not inputs.uses_library(target):
            return np.asarray(found, dtype=np.float32)
        total = np.exp(target_log_library(inputs, minibatch, source, target, library).cpu().numpy())
        measured = self._measured_as(minibatch, target, batch)
        out, weight = np.zeros_like(found), np.zeros((len(found), 1), dtype=np.float32)
        for one, rows in self._calibrations(minibatch, source, target):
            out[rows] += one(found[rows], total[rows], None if measured is None else measured[rows])
            weight[rows] += 1
        binary = self.sizes_.modalities[target].likelihood == "bernoulli"
        plain = found if binary else shared_out(found, total, measured)
        return np.asarray(np.where(weight > 0, out / np.maximum(weight, 1), plain), dtype=np.float32)

    def _measured_as(self, minibatch: MosaicBatch, target: str, batch: int | None) -> NDArray[np.bool_] | None:
        """Return the features that a total is of, ``(B, G)`` bool: those that the batch to predict as measured."""
        codes = self.module.inputs.batch(minibatch)
        mask = self.module.inputs.feature_mask(target, codes if batch is None else torch.full_like(codes, batch), None)
        return None if mask is None else mask.cpu().numpy()

    def _calibrations(
        self, minibatch: MosaicBatch, source: str | None, target: str
    ) -> list[tuple[RateCalibration, NDArray[np.bool_]]]:
        """Return what calibrates which cells of a minibatch; of several sources the mean is taken."""
        rates, present = self.module.translator.rates, self.module.inputs.present(minibatch)
        here = {name: rows.cpu().numpy() for name, rows in present.items()}
        if source is not None:
            return [(rates[source, target], here[source])] if (source, target) in rates else []
        own = here.get(target, np.zeros(len(minibatch["batch"]), dtype=bool))
        found = [(rates[ALL, target], own)] if (ALL, target) in rates else []
        others = [name for name in here if name != target and (name, target) in rates]
        return found + [(rates[name, target], here[name] & ~own) for name in others]

    def _fit_rates(self) -> None:
        """Calibrate the rates of every modality that has a library size, from each source and from all of a cell."""
        maps = self.adata_manager.row_maps()
        for target in self.modalities:
            if not self.module.inputs.uses_library(target):
                continue
            for source in (ALL, *self.modalities):
                both = maps[target] >= 0
                if source != ALL:
                    both = both & (maps[source] >= 0)
                cells = np.flatnonzero(both)
                limit = max(MIN_CELLS, MAX_NUMBERS // self.sizes_.modalities[target].n_features)
                cells = np.sort(np.random.default_rng(self.random_state).permutation(cells)[:limit])
                if len(cells) >= MIN_CELLS:
                    self._fit_rate(source, target, cells)

    @torch.no_grad()
    def _fit_rate(self, source: str, target: str, cells: NDArray[np.int64]) -> None:
        inputs, size = self.module.inputs, self.sizes_.modalities[target]
        binary = size.likelihood == "bernoulli"
        rates, counts, masks = [], [], []
        for minibatch in self.iterate(indices=cells):
            batch = inputs.batch(minibatch)
            found = self._expected(minibatch, source or None, target, "observed", None, None).float()
            x = inputs.measured(minibatch["values"][target], target, batch)
            dense = (x.to_dense(size.n_features) if isinstance(x, SparseRows) else x).float()
            rates.append(found.cpu().numpy())
            counts.append((dense.clamp(0, 1) if binary else dense).cpu().numpy())  # what stands for NaN is a share
            masks.append(self._measured_as(minibatch, target, None))
        known = [mask for mask in masks if mask is not None]
        measured = np.concatenate(known) if known else None
        decoded = np.concatenate(rates)
        if np.isfinite(decoded).all():
            self.module.translator.rates[source, target] = fit_rates(
                decoded, np.concatenate(counts), measured, adds_up=not binary
            )
