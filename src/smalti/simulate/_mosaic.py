"""Take measurements away: mosaics of any presence pattern out of more complete ones."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._mudata import rebuild_mudata
from smalti._validate import check_in_range, check_keys, check_unique, shorten
from smalti.data import presence, row_maps

from ._common import round_robin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray


def drop(mdata: MuData, pattern: ArrayLike | pd.DataFrame) -> MuData:
    """Keep of every cell only the modalities in ``pattern``; the primitive of all masks.

    Parameters
    ----------
    mdata
        Any mosaic; left as it is.
    pattern
        ``(n_obs, M)`` boolean, ``True`` where the modality is kept; columns in the order of ``mdata.mod``, or a table
        whose columns are names of modalities. The presence that results is ``presence(mdata) & pattern``.

    Returns
    -------
    A new MuData. Cells left without any modality are gone; ``obs``, ``obsm``, ``obsp`` and ``uns`` of the others stay
    theirs. Cells come in the order that MuData gives them (those of the first modality first): find them by name.

    Raises
    ------
    ValueError
        If the shape does not fit, the pattern is not boolean, or a modality would keep no cell.
    """
    keep = presence(mdata) & _as_pattern(mdata, pattern)
    empty = [name for name, column in zip(mdata.mod, keep.T, strict=True) if not column.any()]
    if empty:
        raise ValueError(
            f"The pattern keeps no cell of modality {shorten(empty)}. Keep at least one cell of each, or leave the "
            "modality out of the MuData first."
        )
    modalities = {}
    for (name, rows), kept in zip(row_maps(mdata).items(), keep.T, strict=True):
        modalities[name] = mdata.mod[name][rows[kept]].copy()
    return rebuild_mudata(mdata, modalities, pd.Series(np.arange(mdata.n_obs), index=mdata.obs_names))


def mosaic(
    mdata: MuData,
    *,
    paired: float = 0.5,
    patterns: Mapping[str | tuple[str, ...], float] | None = None,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Keep a fraction of the complete cells paired; the others lose modalities.

    Parameters
    ----------
    mdata
        Mosaic in which some cells are measured in all modalities; cells that lack one stay as they are.
    paired
        Fraction of the complete cells that stay complete, in [0, 1]. With one seed, the paired cells of a smaller
        fraction are among those of a larger one.
    patterns
        What the others keep and in which proportions, such as ``{"a": 2, "b": 1, ("a", "c"): 1}``; by default one
        modality each, all equally often. Numbers are exact up to rounding.
    random_state
        Seed or generator.

    Returns
    -------
    A new MuData, as :func:`drop` makes it.
    """
    check_in_range(paired, 0, 1, "paired")
    names = list(mdata.mod)
    if patterns is None:
        patterns = dict.fromkeys(names, 1.0)
    kept = np.array([_as_row(key, names) for key in patterns])
    before = presence(mdata)
    order = np.random.default_rng(random_state).permutation(np.flatnonzero(before.all(1)))
    loses = order[round(paired * len(order)) :][::-1]
    keep = before.copy()
    keep[loses] = kept[round_robin(len(loses), list(patterns.values()), "patterns")]
    return drop(mdata, keep)


def diagonal(
    mdata: MuData,
    *,
    proportions: Mapping[str, float] | None = None,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Leave every cell exactly one of the modalities it has, so that nothing is paired.

    Parameters
    ----------
    mdata
        Any mosaic.
    proportions
        How often each modality is kept, by name; equally often by default. Proportions hold within every set of cells
        that have the same modalities.
    random_state
        Seed or generator.

    Returns
    -------
    A new MuData, as :func:`drop` makes it; no cell is lost.
    """
    names = list(mdata.mod)
    weights = dict.fromkeys(names, 1.0) if proportions is None else dict(proportions)
    check_keys(weights, names, "`proportions` by modality")
    weight = np.array([weights.get(name, 0.0) for name in names])
    rng = np.random.default_rng(random_state)
    before = presence(mdata)
    distinct, group = np.unique(before, axis=0, return_inverse=True)
    keep = np.zeros_like(before)
    for i, has in enumerate(distinct):
        cells = rng.permutation(np.flatnonzero(group.ravel() == i))
        what = f"proportions of {shorten(np.array(names)[has].tolist())}"
        choice = np.flatnonzero(has)[round_robin(len(cells), weight[has], what)]
        keep[cells, choice] = True
    return drop(mdata, keep)


def indirect(
    mdata: MuData,
    *,
    chain: Sequence[str] | None = None,
    proportions: Sequence[float] | None = None,
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Pair only neighbours in a chain of modalities: a with b and b with c, but never a with c.

    Parameters
    ----------
    mdata
        At least three modalities, every cell measured in all of them.
    chain
        All names of modalities in the order of the chain; by default that of ``mdata.mod``.
    proportions
        How often each link (first with second, second with third, ...) is kept; equally often by default.
    random_state
        Seed or generator.

    Returns
    -------
    A new MuData, as :func:`drop` makes it; every cell has two modalities.

    Raises
    ------
    ValueError
        If there are fewer than three modalities or a cell lacks one.
    """
    names = list(mdata.mod)
    if len(names) < 3:
        raise ValueError(f"Indirect pairing needs at least three modalities, found {len(names)}: {shorten(names)}.")
    chain = names if chain is None else list(chain)
    check_keys(chain, names, "`chain` of modalities")
    check_keys(names, chain, "`chain` of modalities")
    check_unique(chain, "Modalities in `chain`")
    before = presence(mdata)
    incomplete = mdata.obs_names[~before.all(1)]
    if len(incomplete):
        raise ValueError(
            f"Indirect pairing needs cells measured in all modalities, but {len(incomplete)} of {mdata.n_obs} are not: "
            f"{shorten(incomplete, 3)}. Subset to complete cells first, for example with `drop`."
        )
    links = np.array([_as_row(link, names) for link in pairwise(chain)])
    weights = [1.0] * len(links) if proportions is None else list(proportions)
    if len(weights) != len(links):
        raise ValueError(f"Expected {len(links)} numbers in `proportions`, one per link, found {len(weights)}.")
    keep = np.zeros_like(before)
    order = np.random.default_rng(random_state).permutation(mdata.n_obs)
    keep[order] = links[round_robin(mdata.n_obs, weights, "proportions")]
    return drop(mdata, keep)


def _as_row(key: str | tuple[str, ...], names: list[str]) -> NDArray[np.bool_]:
    """Turn names of modalities into a row of presence."""
    wanted = (key,) if isinstance(key, str) else key
    check_keys(wanted, names, "Modality")
    return np.isin(names, wanted)


def _as_pattern(mdata: MuData, pattern: ArrayLike | pd.DataFrame) -> NDArray[np.bool_]:
    names = list(mdata.mod)
    if isinstance(pattern, pd.DataFrame):
        check_keys(names, list(pattern.columns), "`pattern` by modality")
        pattern = pattern[names].to_numpy()
    array = np.asarray(pattern)
    if array.dtype != bool or array.shape != (mdata.n_obs, len(names)):
        raise ValueError(
            f"Expected `pattern` to be boolean of shape ({mdata.n_obs}, {len(names)}), cells by modalities, found "
            f"{array.dtype} of shape {array.shape}."
        )
    return array
