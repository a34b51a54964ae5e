"""Standardised rows of a modality, on request: nothing but a batch is ever dense."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from smalti._text import as_text
from smalti._validate import check_count, check_keys
from smalti.data import (
    CategoryField,
    fit_scaled,
    looks_like_counts,
    make_reader,
    measured_matrix,
    refuse_view,
    row_maps,
)
from smalti.nn import ScaledInput, SparseRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

CLIP = 10.0
"""Standard deviations beyond which values are cut, so that a gene seen in three cells does not rule all distances."""
CACHE_VALUES = 20_000_000
"""Values that are kept dense if a modality holds no more."""


class Values:
    """Rows of one modality, counts log-normalised, every feature with mean 0 and standard deviation 1.

    Parameters
    ----------
    mdata
        The mosaic.
    modality
        Name of the modality.
    layer
        Layer with the values; ``.X`` by default.
    batch_key
        Column of ``mdata.obs``: features are centred within each batch.
    n_top
        Keep the features that vary most (log-normalised counts, or reals), ``None`` for all. Constant ones never stay.

    Attributes
    ----------
    columns
        ``(D,)`` positions of the features that are kept.
    rows
        ``(n_obs,)`` row of each cell of the mosaic, -1 where absent.
    """

    def __init__(
        self,
        mdata: MuData,
        modality: str,
        *,
        layer: str | None = None,
        batch_key: str | None = None,
        n_top: int | None = None,
    ) -> None:
        refuse_view(mdata)
        check_keys([modality], list(mdata.mod), "Modality")
        adata = mdata.mod[modality]
        x = measured_matrix(adata, layer, modality, in_memory=False)
        self.modality, self.names = modality, adata.var_names
        self.rows = row_maps(mdata, [modality])[modality]
        codes = np.zeros(mdata.n_obs, dtype=np.int64)
        if batch_key is not None:
            CategoryField("batch", batch_key).validate_field(mdata)
            codes = np.unique(as_text(mdata.obs[batch_key]).astype(str), return_inverse=True)[1]
        here = self.rows >= 0
        self.batch = np.zeros(adata.n_obs, dtype=np.int64)
        self.batch[self.rows[here]] = codes[here]
        self.layer = ScaledInput(adata.n_vars, int(codes.max(initial=0)) + 1, log=looks_like_counts(x))
        fit_scaled(self.layer, x, self.batch)
        deviation = torch.where(self.layer.scale > 0, 1 / self.layer.scale.clamp(min=1e-12), 0.0).numpy()
        self.deviation: NDArray[np.float32] = deviation
        self.columns = np.flatnonzero(deviation > 0)
        if len(self.columns) == 0:
            raise ValueError(f"No feature of modality {modality!r} varies over its {adata.n_obs} cells.")
        if n_top is not None and len(self.columns) > check_count(n_top, "n_top"):
            logger.info("Modality %r: the %d most variable of %d features.", modality, n_top, len(self.columns))
            order = np.argsort(-deviation[self.columns], kind="stable")[:n_top]
            self.columns = np.sort(self.columns[order])
        self._reader, self._cache = make_reader(x), None
        self._removed: list[tuple[torch.Tensor, torch.Tensor]] = []
        if adata.n_obs * len(self.columns) <= CACHE_VALUES:
            parts = np.array_split(np.arange(adata.n_obs), max(1, adata.n_obs // 1024))
            self._cache = torch.cat([self._read(part) for part in parts])

    @property
    def n_features(self) -> int:
        """Number of features that are kept."""
        return len(self.columns)

    def read(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return ``(len(rows), D)`` standardised values; rows are those of the modality."""
        return self._read(rows) if self._cache is None else self._cache[rows]

    def unscaled(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return ``(len(rows), D)`` values before standardisation and, of counts, the sums of the rows."""
        x = self._reader.read(rows)
        found = self.layer.normalised(x, torch.from_numpy(self.batch[rows]))
        dense = found.to_dense(len(self.names)) if isinstance(found, SparseRows) else found
        values = dense[:, torch.from_numpy(self.columns)]
        if not self.layer.log:
            return values, None
        return values, (x.row_sums() if isinstance(x, SparseRows) else x.sum(dim=1)).clamp(min=1e-8)

    def remove(self, weight: NDArray[np.float64]) -> None:
        """Take the score along ``weight``, ``(D,)``, out of every feature by regression over all rows."""
        w = torch.from_numpy(weight.astype(np.float32))
        parts = np.array_split(np.arange(len(self.batch)), max(1, len(self.batch) // 1024))
        score = torch.cat([self.read(part) @ w for part in parts])
        score = score - score.mean()
        loading = sum((score[part] @ self.read(part) for part in parts), torch.zeros(self.n_features))
        self._removed.append((score, loading / score.square().sum().clamp(min=1e-12)))
        if self._cache is not None:
            self._cache = self._cache - score[:, None] * self._removed[-1][1]

    def _read(self, rows: NDArray[np.int64]) -> torch.Tensor:
        codes = torch.from_numpy(self.batch[rows])
        z = self.layer.some(self._reader.read(rows), codes, torch.from_numpy(self.columns)).clamp(-CLIP, CLIP)
        for score, loading in self._removed:
            z = z - score[rows, None] * loading
        return z


def paired_rows(values: Sequence[Values]) -> NDArray[np.int64]:
    """Return the rows of the cells that all modalities have, one column each, ``(n, V)``.

    Raises
    ------
    ValueError
        If there are fewer than ten.
    """
    rows = np.column_stack([v.rows for v in values])
    rows = rows[(rows >= 0).all(axis=1)]
    if len(rows) < 10:
        names = " and ".join(repr(v.modality) for v in values)
        raise ValueError(
            f"Expected at least 10 cells that were measured in {names}, found {len(rows)}. Shared features "
            "need pairs; use `dufs` on each modality instead."
        )
    return rows
