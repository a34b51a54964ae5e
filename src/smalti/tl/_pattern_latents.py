"""Latents of a reference as seen from the modalities that the cells of a query have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smalti._mudata import build_mudata
from smalti.data import find_patterns, presence, row_maps

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.model.base import MosaicModel

MIN_REFERENCE = 50
"""Cells of the reference that must have all modalities of a pattern; with fewer, all cells as they were measured."""


@dataclass(frozen=True, kw_only=True)
class PatternLatents:
    """Comparable latents of some cells of a reference and some of a query."""

    name: str
    """The modalities they are seen from."""
    ref: NDArray[Any]
    """``(n_ref, d)``."""
    ref_cells: NDArray[np.int64]
    """``(n_ref,)`` positions in the reference."""
    query: NDArray[Any]
    """``(n_query, d)``."""
    query_cells: NDArray[np.int64]
    """``(n_query,)`` positions in the query."""


def pattern_latents(model: MosaicModel, ref: MuData, query: MuData) -> list[PatternLatents]:
    """Return latents for every presence pattern of the query.

    Parameters
    ----------
    model
        Embeds both.
    ref, query
        Mosaics with modalities of the model.
    """
    names = [name for name in model.modalities if name in query.mod]
    patterns = find_patterns(presence(query, names))
    here = {name: presence(ref, [name]).ravel() for name in names if name in ref.mod}
    out = []
    for i, row in enumerate(patterns.rows):
        chosen = [name for name, has in zip(names, row, strict=True) if has]
        if not chosen:
            continue
        cells = np.flatnonzero(patterns.group == i)
        having = np.ones(ref.n_obs, dtype=bool)
        for name in chosen:
            having &= here.get(name, np.zeros(ref.n_obs, dtype=bool))
        at = np.flatnonzero(having)
        if len(at) >= MIN_REFERENCE:
            z = seen_from(model, ref, at, chosen)
        else:
            at = np.arange(ref.n_obs)
            z = model.get_latent_representation(ref)
        out.append(
            PatternLatents(
                name=" + ".join(chosen),
                ref=z.astype(np.float64),
                ref_cells=at,
                query=seen_from(model, query, cells, chosen).astype(np.float64),
                query_cells=cells,
            )
        )
    return out


def seen_from(model: MosaicModel, mdata: MuData, cells: NDArray[np.int64], names: list[str]) -> NDArray[np.float32]:
    """Return latents of cells from some of the modalities that they have, ``(n, d)``."""
    if len(names) == 1:
        return model.get_latent_representation(mdata, modality=names[0], indices=cells)
    others = [name for name in model.modalities if name in mdata.mod and name not in names]
    if not others or not presence(mdata, others)[cells].any():
        return model.get_latent_representation(mdata, indices=cells)
    rows = row_maps(mdata, names)
    part = build_mudata({name: mdata.mod[name][rows[name][cells]].copy() for name in names}, obs=mdata.obs)
    z = model.get_latent_representation(part)
    return z[part.obs_names.get_indexer(mdata.obs_names[cells])]
