"""How well a reference covers a query, and a query a reference, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.neighbors import KDTree, NearestNeighbors

from smalti._validate import check_count

from ._label_fit import cell_distances
from ._label_transfer import stored_latents
from ._pattern_latents import pattern_latents

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from smalti.model.base import MosaicModel


@dataclass(frozen=True, kw_only=True)
class ReferenceScores:
    """What :func:`reference_scores` found."""

    out_of_reference: pd.Series
    """``(n_query,)`` in [0, 1]: share of the reference's cells that lie closer to others of the reference than the cell
    does; near 1 for what the reference lacks, evenly spread for what it has. Missing without a latent."""
    presence: pd.Series
    """``(n_ref,)`` in [0, 1]: 0 where the query has no cell like this one of the reference, 0.5 where it has them in
    the
    same share as the reference, near 1 where it has many more."""

    def __repr__(self) -> str:
        far = float((self.out_of_reference > 0.99).mean())
        absent = float((self.presence < 0.1).mean())
        return (
            f"Of {len(self.out_of_reference):,} cells of the query {far:.1%} lie outside the reference (1.0% would by "
            f"chance); of {len(self.presence):,} cells of the reference {absent:.1%} have hardly any like them in "
            f"the query"
        )


def reference_scores(
    ref: MuData | AnnData,
    query: MuData | AnnData,
    *,
    use_rep: str = "X_clue",
    model: MosaicModel | None = None,
    n_neighbors: int = 15,
) -> ReferenceScores:
    r"""Score how well the cells of a query and of a reference cover each other.

    With :math:`r_i` the distance of a reference cell to its k-th nearest other reference cell and :math:`n_i` the
    number
    of query cells within :math:`r_i`, its presence is :math:`q_i / (q_i + k / n_\text{ref})` with
    :math:`q_i = n_i / n_\text{query}`.

    Parameters
    ----------
    ref, query
        The reference, and the cells that were mapped into its latent.
    use_rep
        Key of ``.obsm`` with the latent in both, with or without ``X_``; not used with ``model``.
    model
        Model that embeds both, such as what ``load_query`` returned. Query cells that were measured in fewer
        modalities are
        then compared with the reference as seen from these.
    n_neighbors
        Neighbours of a cell, k.

    Returns
    -------
    :class:`ReferenceScores`.

    Raises
    ------
    KeyError
        If the latent does not exist.
    ValueError
        If latents have different widths.
    """
    check_count(n_neighbors, "n_neighbors")
    parts = [stored_latents(ref, query, use_rep)] if model is None else pattern_latents(model, ref, query)
    novelty = pd.Series(np.nan, index=query.obs_names)
    near, total = np.zeros(ref.n_obs), 0
    seen = np.zeros(ref.n_obs, dtype=bool)
    for part in parts:
        k = min(n_neighbors, len(part.ref) - 1)
        search = NearestNeighbors(n_neighbors=k).fit(part.ref)
        others = search.kneighbors()[0]  # of the reference itself, without the cell
        own = np.sort(others.mean(axis=1))
        novelty.iloc[part.query_cells] = np.searchsorted(own, cell_distances(part.ref, part.query)) / len(own)
        tree = KDTree(part.query)
        found = tree.query_radius(part.ref, others[:, -1], count_only=True)  # a ball of its own for each
        near[part.ref_cells] += found
        seen[part.ref_cells] = True
        total += len(part.query)
    share = near / max(total, 1)
    least = n_neighbors / max(int(seen.sum()), 1)
    presence = pd.Series(np.where(seen, share / (share + least), np.nan), index=ref.obs_names)
    return ReferenceScores(out_of_reference=novelty, presence=presence)
