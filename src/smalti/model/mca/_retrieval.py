"""Retrieval: the nearest cells of a query, with scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from smalti._linalg import unit_rows
from smalti._validate import check_count
from smalti.model.base import MosaicModel, positions

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mudata import MuData
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """The nearest cells of a gallery for every query, best first."""

    query_names: pd.Index
    """Names of the ``n`` cells that asked."""
    names: NDArray[Any]
    """``(n, k)`` names of the cells found."""
    positions: NDArray[np.int64]
    """``(n, k)`` their positions in the gallery's ``obs_names``."""
    scores: NDArray[np.float32]
    """``(n, k)`` cosines, in [-1, 1], higher is nearer."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per query and rank, with columns ``query``, ``rank`` (from 1), ``cell`` and ``score``."""
        n, k = self.names.shape
        return pd.DataFrame(
            {
                "query": np.repeat(self.query_names.to_numpy(), k),
                "rank": np.tile(np.arange(1, k + 1), n),
                "cell": self.names.ravel(),
                "score": self.scores.ravel(),
            }
        )

    def __repr__(self) -> str:
        n, k = self.names.shape
        return f"Retrieval({n} queries x {k} cells, mean score of the first {self.scores[:, 0].mean():.3f})"


class RetrievalMixin(MosaicModel):
    """``retrieve`` of every model whose ``get_latent_representation`` has channels, single modalities among them."""

    def retrieve(
        self,
        query_modality: str,
        k: int = 10,
        *,
        mdata: MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        gallery: MuData | None = None,
        block: str | Collection[str] = "aligned",
        exclude_self: bool = False,
    ) -> Retrieval:
        """Find the cells that are nearest to a modality of other cells, by cosine.

        Queries and gallery are compared in the space for matching (``block="aligned"``): the query from its modality
        alone, a cell of the gallery from all that it has, or from one modality.

        Parameters
        ----------
        query_modality
            Modality that asks. Cells without it ask nothing.
        k
            Cells to find for each.
        mdata, indices
            Data and cells that ask; those of training and all by default.
        gallery
            Data to search, ``mdata`` by default.
        block
            What to search. ``"aligned"``: everything that was measured of a cell. The name of a modality: this modality
            alone, for cross-modal search. ``"root"`` and other channels, see :meth:`get_latent_representation`: fusion
            embeddings of the network, which the unimodal embedding asks as in the paper. Cells without the
            modalities are not in the gallery.
        exclude_self
            Whether a cell is no answer to its own query (told by name).

        Raises
        ------
        ValueError
            If a modality or block does not exist, no cell has it, or there are fewer than ``k`` cells to find.
        """
        self.check_modality(query_modality, "query_modality")
        mdata = self._validate_anndata(mdata)
        here = self.with_modality(mdata, query_modality, indices)
        cells = positions(mdata, indices)[here]
        searched = mdata if gallery is None else gallery
        by_modality = isinstance(block, str) and block in self.modalities
        if self.module.matching.ready and (by_modality or block == "aligned"):
            asked = self.get_latent_representation(mdata, indices=cells, block="aligned", modality=query_modality)
            only = str(block) if by_modality else None
            candidates = self.get_latent_representation(searched, block="aligned", modality=only)
        else:
            asked = self.get_latent_representation(mdata, indices=cells, block=query_modality)
            candidates = self.get_latent_representation(searched, block=block)
        return nearest(
            asked,
            candidates,
            k,
            query_names=mdata.obs_names[cells],
            gallery_names=searched.obs_names,
            exclude_self=exclude_self,
        )


def nearest(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    *,
    query_names: pd.Index,
    gallery_names: pd.Index,
    exclude_self: bool = False,
) -> Retrieval:
    """Find the ``k`` cells of a gallery with the largest cosine to each query.

    Parameters
    ----------
    queries, gallery
        ``(n, d)`` and ``(N, d)`` embeddings. Queries are complete; rows of NaN in the gallery are no candidates.
    k
        Cells per query, at most the number of candidates.
    query_names, gallery_names
        Names of the rows.
    exclude_self
        Whether a cell is no answer to its own query.

    Raises
    ------
    ValueError
        If there are fewer than ``k`` candidates.
    """
    candidates = np.flatnonzero(np.isfinite(gallery).all(axis=1))
    available = len(candidates) - (1 if exclude_self else 0)
    if check_count(k, "k") > available:
        raise ValueError(f"Expected `k` to be at most {available}, the number of cells in the gallery, found {k}.")
    x, y = unit_rows(queries), unit_rows(gallery[candidates])
    found = (
        NearestNeighbors(n_neighbors=k + exclude_self, algorithm="brute").fit(y).kneighbors(x, return_distance=False)
    )
    if exclude_self:
        own = gallery_names[candidates].get_indexer(query_names)
        mine = found == own[:, None]
        mine[~mine.any(axis=1), -1] = True  # a cell that is not among its own neighbours: one too many was asked for
        found = found[~mine].reshape(len(found), k)
    scores = np.einsum("nd,nkd->nk", x, y[found]) if len(x) else np.empty((0, k), dtype=np.float32)
    at = candidates[found]
    return Retrieval(
        query_names=query_names, names=gallery_names.to_numpy()[at], positions=at, scores=scores.astype(np.float32)
    )
