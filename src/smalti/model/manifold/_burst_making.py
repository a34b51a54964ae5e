"""From a registered mosaic to bursts of every modality."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import MiniBatchKMeans

from smalti._validate import check_keys
from smalti.data import COUNT_LIKELIHOODS
from smalti.model.parts import CellComponents, linear_alignment

from ._bursts import Bursts, from_arrays, from_neighbours, from_states

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smalti.data import MosaicManager
    from smalti.model.parts import MosaicInputs

    from ._options import Bursts as Kind
    from ._options import ManifoldOptions

logger = logging.getLogger(__name__)

FEW_COUNTS = 10
"""Counts below which thinning noise is far from normal: its true variance is up to 2.2 times the assumed one."""
MAX_GIVEN = 64
"""Most points of a burst that a column names."""


class BurstMaker:
    """Makes the bursts of all modalities of a mosaic.

    Parameters
    ----------
    manager
        Manager of the data.
    inputs
        Input layers of the network.
    components
        Encoder inputs of all cells.
    options
        Of the model.
    random_state
        Seed of samples and thinning.
    """

    def __init__(
        self,
        manager: MosaicManager,
        inputs: MosaicInputs,
        components: CellComponents,
        options: ManifoldOptions,
        random_state: int,
    ) -> None:
        self.manager, self.inputs, self.options, self.seed = manager, inputs, options, random_state
        self.values, self.maps = components
        self.n_obs = len(next(iter(self.maps.values())))

    def make(self, kind: Kind, burst_key: str | None) -> dict[str, Bursts]:
        """Return bursts by modality."""
        if kind == "given":
            return self._given(burst_key)
        if kind == "thinning":
            return {name: self._thinned(name) for name in self._thinnable()}
        place = self.place()
        if kind == "neighbours":
            return {
                name: from_neighbours(
                    x,
                    self.maps[name],
                    self._place_of(place, name),
                    self.options.n_burst,
                    local=self.options.local_scale,
                )
                for name, x in self.values.items()
            }
        codes = np.full(self.n_obs, -1)
        known = np.isfinite(place).all(axis=1)
        if known.any():
            codes[known] = self._metacells(place[known])
        for name, rows in self.maps.items():  # what pairs do not reach has metacells of its own
            left = (codes < 0) & (rows >= 0)
            if left.any():
                codes[left] = codes.max() + 1 + self._metacells(self.values[name][rows[left]])
        return self._by_state(codes)

    def _metacells(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        n = max(1, len(x) // self.options.n_burst)
        found = MiniBatchKMeans(n, n_init=3, random_state=self.seed).fit_predict(x)
        return np.asarray(found, dtype=np.int64)

    def place(self) -> NDArray[np.float32]:
        """Return coordinates in which cells of all modalities are neighbours: linear CCA, ``(n_obs, k)``.

        NaN where linear CCA, for want of pairs, does not reach a modality: that one has neighbours of its own.
        """
        found = linear_alignment(CellComponents(self.values, self.maps))
        if found is None:
            return np.full((self.n_obs, 1), np.nan, dtype=np.float32)
        names = list(found.axes)
        return found.joint({m: self.values[m] for m in names}, {m: self.maps[m] for m in names})

    def _place_of(self, place: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        rows = self.maps[name]
        here = rows >= 0
        if np.isfinite(place[here]).all():
            return np.nan_to_num(place)
        logger.warning("Too few pairs of %r with other modalities: its neighbours are sought in it alone.", name)
        out = np.zeros((self.n_obs, self.values[name].shape[1]), dtype=np.float32)
        out[here] = self.values[name][rows[here]]
        return out

    # ------------------------------------------------------------------ given

    def _given(self, key: str | None) -> dict[str, Bursts]:
        if key is None:
            raise ValueError(
                "`bursts='given'` needs `burst_key`: a column of `mdata.obs` with the state of every cell, or a key of "
                "`.obsm` of every modality with points, (n_obs, n_points, n_vars)."
            )
        mdata = self.manager.adata
        if key in mdata.obs:
            return self._by_state(pd.factorize(mdata.obs[key])[0].astype(np.int64))
        out = {}
        for name in self.values:
            adata = mdata.mod[name]
            check_keys([key], list(adata.obsm), f"Column of `mdata.obs`, or key of `.obsm` of modality {name!r},")
            x = np.asarray(adata.obsm[key], dtype=np.float32)
            if x.ndim != 3 or x.shape[2] != adata.n_vars or x.shape[1] < 5:
                raise ValueError(
                    f"Expected bursts of modality {name!r} of shape ({adata.n_obs}, at least 5 points, "
                    f"{adata.n_vars}), "
                    f"found {x.shape}."
                )
            rows = self.maps[name]
            cells = np.flatnonzero(rows >= 0)
            # components are kept in the order of cells, values in that of the modality
            order = mdata.obs_names[cells]
            x = x[adata.obs_names.get_indexer(order)]
            out[name] = from_arrays(self._encoded(name, x, cells), cells, self.n_obs, x.shape[1])
        return out

    def _by_state(self, codes: NDArray[np.int64]) -> dict[str, Bursts]:
        rng = np.random.default_rng(self.seed)
        most = min(MAX_GIVEN, int(np.bincount(codes[codes >= 0]).max(initial=2)))
        return {name: from_states(x, self.maps[name], codes, max(most, 2), rng) for name, x in self.values.items()}

    # ------------------------------------------------------------------ thinning

    def _thinnable(self) -> list[str]:
        """Return the modalities if thinning makes sense for them: counts of the same features."""
        fields = list(self.manager.modality_fields)
        variables = [list(self.manager.adata.mod[field.name].var_names) for field in fields]
        if any(v != variables[0] for v in variables[1:]):
            raise ValueError(
                "Thinning makes each modality isometric to its own counting noise, so that modalities with different "
                "features get different lengths: use `bursts='neighbours'`, or give modalities the same variables."
            )
        for field in fields:
            if field.spec.likelihood not in COUNT_LIKELIHOODS:
                raise ValueError(
                    f"Thinning needs counts, but modality {field.name!r} has the likelihood "
                    f"{field.spec.likelihood!r}: use "
                    "`bursts='neighbours'`, or register raw counts."
                )
        return [field.name for field in fields]

    def _thinned(self, name: str) -> Bursts:
        field = next(f for f in self.manager.modality_fields if f.name == name)
        x = field.get_field_data(self.manager.adata)
        rows, rng = self.maps[name], np.random.default_rng(self.seed)
        cells = np.flatnonzero(rows >= 0)
        adata = self.manager.adata.mod[name]
        x = x[adata.obs_names.get_indexer(self.manager.adata.obs_names[cells])]
        x = np.asarray(x.todense() if hasattr(x, "todense") else x)
        mean = float(x[x > 0].mean()) if (x > 0).any() else 0.0
        if mean < FEW_COUNTS:
            logger.warning(
                "Counts of %r that are not zero are %.1f on average; below %d the size of thinning noise is not "
                "known, so that "
                "only its relative size is used. Pool features or cells.",
                name,
                mean,
                FEW_COUNTS,
            )
        n, m = x.shape[0], self.options.n_burst
        points = np.empty((n, m, self.values[name].shape[1]), dtype=np.float32)
        for j in range(m):
            thinned = rng.binomial(x.astype(np.int64), self.options.keep) / self.options.keep
            points[:, j] = self._encoded(name, thinned[:, None].astype(np.float32), cells)
        return from_arrays(points.reshape(n * m, -1), cells, self.n_obs, m)

    def _encoded(self, name: str, x: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.float32]:
        """Push points ``(n, M, G)`` of cells through the input layer, ``(n M, width)``."""
        batch = self.manager.codes()["batch"][cells]
        layer: Any = self.inputs.layers[name]
        device = self.inputs.mean_log_library.device
        parts = []
        with torch.no_grad():
            for start in range(0, len(x), 1024):
                block = x[start : start + 1024]
                codes = torch.from_numpy(np.repeat(batch[start : start + 1024], x.shape[1])).to(device)
                rows = torch.from_numpy(np.ascontiguousarray(block.reshape(-1, x.shape[2]))).to(device)
                parts.append(layer(rows, codes).cpu().numpy())
        return np.concatenate(parts).astype(np.float32)
