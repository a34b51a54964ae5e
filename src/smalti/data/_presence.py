"""Who was measured in what: presence and row maps of a MuData, read from ``obsmap`` and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

from smalti._errors import MosaicAlignmentError
from smalti._mudata import check_mudata
from smalti._validate import check_keys, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

LEAST_SHARED = 2
"""Cells that two modalities must share to count as linked: one pair alone says nothing of what goes with what."""


def row_maps(mdata: MuData, modalities: Sequence[str] | None = None) -> dict[str, NDArray[np.int64]]:
    """Return, for each modality, the row of every cell in that modality's AnnData.

    Parameters
    ----------
    mdata
        The mosaic.
    modalities
        Names to return; all modalities by default.

    Returns
    -------
    ``{modality: (n_obs,)}``; ``-1`` where the cell was not measured in the modality.

    Raises
    ------
    KeyError
        If a modality does not exist.
    MosaicAlignmentError
        If names of cells repeat, or a modality was changed after the MuData was made, so that the map is stale.
    """
    check_mudata(mdata)
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    return {name: _row_map(mdata, name) for name in names}


def presence(mdata: MuData, modalities: Sequence[str] | None = None) -> NDArray[np.bool_]:
    """Return which cell was measured in which modality.

    A cell that was measured but has only zeros counts as present: the answer comes from ``mdata.obsmap``.

    Parameters
    ----------
    mdata
        The mosaic.
    modalities
        Names, in the order of the columns; all modalities by default.

    Returns
    -------
    ``(n_obs, M)`` boolean.
    """
    maps = row_maps(mdata, modalities)
    return np.column_stack([rows >= 0 for rows in maps.values()])


def shared_cells(presence: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many cells every two modalities share, ``(M, M)``; on the diagonal the cells of each.

    Parameters
    ----------
    presence
        ``(n_obs, M)`` boolean, as :func:`presence` returns it.
    """
    counts: NDArray[np.int64] = presence.T.astype(np.int64) @ presence.astype(np.int64)
    return counts


def linked_pairs(presence: NDArray[np.bool_], least: int = LEAST_SHARED) -> list[tuple[int, int]]:
    """Return the pairs of modalities that enough cells have both of, as positions ``(i, j)`` with ``i < j``.

    Parameters
    ----------
    presence
        ``(n_obs, M)`` boolean, as :func:`presence` returns it.
    least
        Cells that two modalities must share to count as linked.
    """
    enough = np.triu(shared_cells(presence) >= least, k=1)
    return [(int(i), int(j)) for i, j in np.argwhere(enough)]


def linked_groups(presence: NDArray[np.bool_], least: int = LEAST_SHARED) -> list[list[int]]:
    """Return which modalities hang together through cells that were measured in several of them.

    Two modalities are linked if they share at least ``least`` cells, or if a chain of linked modalities leads from one
    to the other. This is the one meaning of "linked" in the package: recommendations, linear CCA, the choice of
    components and the start of encoders all ask here.

    Parameters
    ----------
    presence
        ``(n_obs, M)`` boolean, as :func:`presence` returns it.
    least
        Cells that two modalities must share to count as linked.

    Returns
    -------
    Groups of positions of modalities, each in rising order, which together are all ``M``. The largest group comes
    first; of equal ones that with more paired cells (cells with at least two modalities of the group), then the
    leftmost. A modality without a link is a group of its own.
    """
    n_modalities = presence.shape[1]
    if n_modalities == 0:
        return []
    count, group = connected_components(shared_cells(presence) >= least, directed=False)
    groups = [np.flatnonzero(group == i) for i in range(count)]
    paired = [int((presence[:, members].sum(axis=1) >= 2).sum()) for members in groups]
    order = sorted(range(count), key=lambda i: (-len(groups[i]), -paired[i], int(groups[i][0])))
    return [groups[i].tolist() for i in order]


def _row_map(mdata: MuData, name: str) -> NDArray[np.int64]:
    adata = mdata.mod[name]
    if not adata.obs_names.is_unique:
        repeated = adata.obs_names[adata.obs_names.duplicated()].unique()
        raise MosaicAlignmentError(
            f"Modality {name!r} has repeated cell names ({shorten(repeated)}), so cells cannot be matched across "
            f"modalities. Call `mdata[{name!r}].obs_names_make_unique()` and build the MuData again."
        )
    if name not in mdata.obsmap:
        raise MosaicAlignmentError(f"`mdata.obsmap` has no entry for modality {name!r}. Call `mdata.update()` first.")
    rows: NDArray[np.int64] = np.asarray(mdata.obsmap[name]).astype(np.int64).ravel() - 1
    here = rows >= 0
    stale = int(here.sum()) != adata.n_obs or (adata.n_obs > 0 and int(rows.max()) != adata.n_obs - 1)
    stale = stale or not bool((mdata.obs_names[here] == adata.obs_names[rows[here]]).all())
    if stale:
        raise MosaicAlignmentError(
            f"Modality {name!r} has {adata.n_obs} cells, but `mdata.obsmap` claims {int(here.sum())} and other names: "
            "it was subset, reordered or renamed after the MuData was made. Call `mdata.update()` first, or make it "
            "anew with `MuData(mdata.mod)`."
        )
    return rows


def refuse_view(mdata: MuData) -> None:
    """Raise :class:`~smalti._errors.MosaicAlignmentError` for a view: copying one may change the order of its cells."""
    check_mudata(mdata)
    if mdata.is_view:
        raise MosaicAlignmentError(
            "The MuData is a view, and copying one may change the order of its cells. Pass `indices=` instead, or "
            "make the copy yourself (`mdata = mdata[...].copy()`) and use its `obs_names`."
        )


def check_cells(mdata: MuData, names: list[str]) -> None:
    """Check that every cell can be found in every one of the modalities ``names``, and that none is empty.

    Raises
    ------
    ValueError
        If a modality has no cell or no variable.
    MosaicAlignmentError
        If ``mdata`` is a view, maps are stale or ambiguous, or a cell has no modality.
    """
    refuse_view(mdata)
    for name in names:
        if mdata.mod[name].n_obs == 0:
            raise ValueError(
                f"Modality {name!r} has no cell. Leave it out with `modalities={[n for n in names if n != name]}`."
            )
        if mdata.mod[name].n_vars == 0:
            raise ValueError(f"Modality {name!r} has no variable. Leave it out of `modalities`.")
    row_maps(mdata, names)
    lonely = ~presence(mdata, names).any(axis=1)
    if lonely.any():
        raise MosaicAlignmentError(
            f"{int(lonely.sum())} cells were measured in none of the modalities {shorten(names)}: "
            f"{shorten(mdata.obs_names[lonely])}. Remove them (`mdata[keep].copy()`) or name more modalities."
        )
