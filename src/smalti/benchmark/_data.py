"""Data with two modalities, the mosaic that a tool trains on, and the way back from its latent to the cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from smalti._mudata import build_mudata

if TYPE_CHECKING:
    import scipy.sparse as sp
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

TEST, PAIRED, BOTH = "test", "paired", "both"
UNLABELED = ("", "nan", "None", "Mis")
"""Labels that mean "unlabelled": their cells train, but no score of cell types looks at them."""


@dataclass(frozen=True, kw_only=True)
class PairedData:
    """Cells of two modalities, some of them measured in one only, with the truth that scores need."""

    name: str
    """Of the data set."""
    counts: dict[str, sp.csr_matrix]
    """``{modality: (n_cells, n_features)}`` raw counts, zero in rows of cells that were not measured."""
    measured: dict[str, NDArray[np.bool_]]
    """``{modality: (n_cells,)}``, True where the cell was measured."""
    features: dict[str, NDArray[Any]]
    """``{modality: (n_features,)}`` names."""
    likelihoods: dict[str, str]
    """``{modality: "nb" or "bernoulli"}``, what the values are to a model."""
    labels: NDArray[Any]
    """``(n_cells,)`` cell types, see ``UNLABELED``."""
    batch: NDArray[Any]
    """``(n_cells,)`` donor, day or library of each cell."""
    cells: NDArray[Any]
    """``(n_cells,)`` names."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @property
    def modalities(self) -> tuple[str, str]:
        """Names of the two modalities."""
        first, second = self.counts
        return first, second

    @property
    def complete(self) -> NDArray[np.bool_]:
        """``(n_cells,)``, True where both modalities were measured."""
        first, second = self.measured.values()
        return first & second

    def subset(self, rows: NDArray[Any]) -> PairedData:
        """Return the same data with some of the cells."""
        return PairedData(
            name=self.name,
            counts={m: x[rows] for m, x in self.counts.items()},
            measured={m: has[rows] for m, has in self.measured.items()},
            features=self.features,
            likelihoods=self.likelihoods,
            labels=self.labels[rows],
            batch=self.batch[rows],
            cells=self.cells[rows],
        )

    def training_mudata(self, roles: NDArray[Any]) -> MuData:
        """Return the mosaic that a tool trains on: an observation is a paired cell, or one profile of a cell.

        Parameters
        ----------
        roles
            ``(n_cells,)``: ``"paired"``, ``"test"`` (both profiles train, as if of two cells), or the name of the one
            modality that trains; see :func:`mosaic_split`.

        Returns
        -------
        MuData without labels. ``obs`` has ``row`` (of the cell in this data), ``profile`` ("both", or the modality that
        the observation has), ``role`` and ``batch``.
        """
        modalities, tables = {}, []
        for name, x in self.counts.items():
            rows = np.flatnonzero(np.isin(roles, (TEST, PAIRED, name)))
            paired = roles[rows] == PAIRED
            index = pd.Index(
                np.where(paired, self.cells[rows], [f"{c}_{name}" for c in self.cells[rows]]), dtype=object
            )
            var = pd.DataFrame(index=pd.Index(self.features[name], dtype=object))
            modalities[name] = AnnData(x[rows].astype(np.float32), obs=pd.DataFrame(index=index), var=var)
            profile = np.where(paired, BOTH, name)
            tables.append(pd.DataFrame({"row": rows, "profile": profile, "role": roles[rows]}, index=index))
        table = pd.concat(tables)
        table = table[~table.index.duplicated()]
        table["batch"] = self.batch[table["row"].to_numpy()].astype(str)
        return build_mudata(modalities, obs=table)

    def scatter(self, mdata: MuData, z: ArrayLike) -> dict[str, NDArray[np.float32]]:
        """Sort a latent of the training mosaic by cells.

        Parameters
        ----------
        mdata
            What :meth:`training_mudata` returned.
        z
            ``(mdata.n_obs, d)``, in the order of ``mdata.obs_names``.

        Returns
        -------
        ``{modality: (n_cells, d)}``, and the same for ``"both"``: the latent of the observation of each cell that has
        the modality (of cells that train paired: both), NaN for other cells.
        """
        rows, profile = mdata.obs["row"].to_numpy(int), mdata.obs["profile"].to_numpy()
        z = np.asarray(z, np.float32)
        out = {}
        for name in (*self.modalities, BOTH):
            here = np.isin(profile, (name, BOTH))
            out[name] = np.full((self.n_cells, z.shape[1]), np.nan, np.float32)
            out[name][rows[here]] = z[here]
        return out
