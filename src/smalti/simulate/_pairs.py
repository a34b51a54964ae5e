"""Hide or break the pairing of cells, and keep the truth for scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._mudata import rebuild_mudata
from smalti._validate import check_in_range, check_keys, shorten
from smalti.data import presence, row_maps

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray


def hide_pairs(mdata: MuData, fraction: float = 0.2, *, random_state: int | np.random.Generator = 0) -> MuData:
    """Split a fraction of the paired cells into one observation per modality, as test cells for matching.

    Parameters
    ----------
    mdata
        Mosaic with cells measured in two or more modalities; left as it is.
    fraction
        Fraction of those cells to split, in [0, 1].
    random_state
        Seed or generator; the cells are the first ones of one random permutation of the paired cells.

    Returns
    -------
    A new MuData. A split cell ``x`` becomes ``x_<modality>``, one observation for each modality it had; ``obs["cell"]``
    is the original name (of every observation) and ``obs["hidden"]`` tells which were split. All that was known of the
    cell (``obs``, ``obsm``) is known of each part. A second call splits further cells.

    Raises
    ------
    ValueError
        If no cell is paired, or a new name exists already.

    See Also
    --------
    hidden_pairs : the rows of the two parts of each split cell.
    """
    check_in_range(fraction, 0, 1, "fraction")
    paired = np.flatnonzero(presence(mdata).sum(1) > 1)
    if len(paired) == 0:
        raise ValueError("No cell is measured in two modalities, so there is no pair to hide.")
    chosen = np.random.default_rng(random_state).permutation(paired)[: round(fraction * len(paired))]
    hide = np.zeros(mdata.n_obs, dtype=bool)
    hide[chosen] = True

    old = mdata.obs_names.to_numpy(dtype=object)
    modalities, parts = {}, []
    for name, rows in row_maps(mdata).items():
        cells = np.flatnonzero(rows >= 0)
        modalities[name] = adata = mdata.mod[name][rows[cells]].copy()
        new = np.where(hide[cells], old[cells] + f"_{name}", old[cells])
        taken = new[hide[cells] & np.isin(new.astype(str), old.astype(str))]
        if len(taken):
            raise ValueError(f"Cells named {shorten(taken)} exist already, so the parts of a split cell cannot be so.")
        adata.obs_names = new.astype(str)
        parts.append(pd.Series(cells, index=adata.obs_names))
    source = pd.concat(parts)
    source = source[~source.index.duplicated()]

    split = rebuild_mudata(mdata, modalities, source)
    rows = source.loc[split.obs_names].to_numpy()
    if "cell" not in split.obs:
        split.obs["cell"] = old[rows].astype(str)
    earlier = split.obs["hidden"].to_numpy(dtype=bool) if "hidden" in split.obs else False
    split.obs["hidden"] = hide[rows] | earlier
    return split


def hidden_pairs(mdata: MuData, first: str, second: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the two parts of each split cell are.

    Parameters
    ----------
    mdata
        What :func:`hide_pairs` returned, or any subset or mask of it.
    first, second
        Names of two modalities.

    Returns
    -------
    Two ``(n,)`` arrays of rows of ``mdata``: the ``i``-th of each are the parts of the same cell, measured in ``first``
    and in ``second``. With ``z`` the latent, ``z[rows_first]`` and ``z[rows_second]`` is what matching scores take.

    Raises
    ------
    KeyError
        If a modality or the columns ``cell`` and ``hidden`` are missing.
    """
    check_keys(("cell", "hidden"), list(mdata.obs), "Columns of `mdata.obs` that `hide_pairs` writes")
    here = presence(mdata, [first, second]) & mdata.obs["hidden"].to_numpy(dtype=bool)[:, None]
    cell = mdata.obs["cell"].to_numpy(dtype=object)
    rows = [pd.Series(np.flatnonzero(column), index=cell[column]) for column in here.T]
    common = rows[0].index.intersection(rows[1].index, sort=False)
    return rows[0].loc[common].to_numpy(), rows[1].loc[common].to_numpy()


def shuffle_pairs(
    mdata: MuData,
    modality: str,
    *,
    within: str | None = None,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Give every paired cell the profile of another one in a modality: the negative control of integration.

    Parameters
    ----------
    mdata
        Mosaic with paired cells; left as it is.
    modality
        The modality whose profiles change places. Cells measured in this modality alone keep theirs.
    within
        Column of ``mdata.obs``, such as the batch: profiles change places only between cells of the same value. A cell
        that is the only paired one of its value keeps its profile.
    random_state
        Seed or generator.

    Returns
    -------
    A new MuData with the same cells and presence. In the modality, values, ``obs`` and ``obsm`` moved together, and
    ``obs["cell"]`` names the cell that the profile was taken from. Otherwise no cell keeps its own.

    Raises
    ------
    KeyError
        If the modality or the column does not exist.
    ValueError
        If fewer than two cells are paired.
    """
    rows = row_maps(mdata, [modality])[modality]
    paired = np.flatnonzero((rows >= 0) & (presence(mdata).sum(1) > 1))
    if len(paired) < 2:
        raise ValueError(f"Expected at least two paired cells in modality {modality!r}, found {len(paired)}.")
    group = np.zeros(len(paired), dtype=np.int64)
    if within is not None:
        check_keys([within], list(mdata.obs), "Column of `mdata.obs`")
        group = pd.factorize(mdata.obs[within])[0][paired]

    mixed = np.random.default_rng(random_state).permutation(len(paired))
    mixed = mixed[np.argsort(group[mixed], kind="stable")]
    # One cycle through each group, in random order: nobody stays in place.
    following = np.arange(1, len(mixed) + 1)
    ends = np.flatnonzero(np.diff(group[mixed], append=-2))
    following[ends] = np.concatenate([[0], ends[:-1] + 1])
    giver = np.arange(mdata.n_obs)
    giver[paired[mixed]] = paired[mixed[following]]

    cells = np.flatnonzero(rows >= 0)
    moved = mdata.mod[modality][rows[giver[cells]]].copy()
    moved.obs["cell"] = mdata.obs_names[giver[cells]].to_numpy(dtype=object)
    moved.obs_names = mdata.obs_names[cells]
    modalities = {name: moved if name == modality else adata.copy() for name, adata in mdata.mod.items()}
    return rebuild_mudata(mdata, modalities, pd.Series(np.arange(mdata.n_obs), index=mdata.obs_names))
