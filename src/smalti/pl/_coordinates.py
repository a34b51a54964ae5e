"""Two coordinates for a latent."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from smalti._compat import umap_key
from smalti._validate import check_count

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray


def umap_coordinates(
    z: NDArray[Any], *, n_neighbors: int = 15, min_dist: float = 0.5, random_state: int = 0
) -> NDArray[np.float32]:
    """Return a UMAP of a latent as scanpy computes it.

    Parameters
    ----------
    z
        ``(n, d)``. Rows with NaN get NaN.
    n_neighbors
        Neighbours of each cell; fewer if there are fewer cells.
    min_dist
        Distance that UMAP keeps between near points.
    random_state
        Seed.

    Returns
    -------
    ``(n, 2)``.
    """
    import scanpy as sc  # takes seconds to import, and only this needs it

    check_count(n_neighbors, "n_neighbors")
    z = np.asarray(z, dtype=np.float32)
    here = np.isfinite(z).all(axis=1)
    if here.sum() < 4:
        raise ValueError(f"Expected at least 4 cells with a latent, found {int(here.sum())}.")
    cells = AnnData(z[here])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.neighbors(cells, n_neighbors=min(n_neighbors, cells.n_obs - 1), use_rep="X", random_state=random_state)
        sc.tl.umap(cells, min_dist=min_dist, random_state=random_state)
    out = np.full((len(z), 2), np.nan, dtype=np.float32)
    out[here] = cells.obsm[umap_key(cells.obsm)]
    return out


def stored_umap(mdata: MuData, key: str) -> NDArray[Any] | None:
    """Return scanpy's UMAP in ``mdata.obsm`` if it was computed from ``mdata.obsm[key]``, else ``None``.

    Parameters
    ----------
    mdata
        The mosaic.
    key
        Key of ``.obsm`` with the latent.
    """
    neighbors = mdata.uns.get("neighbors", {})
    made_from = neighbors.get("params", {}).get("use_rep")
    stored = umap_key(mdata.obsm)
    if made_from != key or stored is None or np.isnan(mdata.obsm[key]).any():
        return None
    return np.asarray(mdata.obsm[stored])
