"""What a match is made of: groups to search within, and pairs that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import check_keys, shorten
from smalti.data import as_text

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

MIN_PAIRS = 30
"""Known pairs below which a confidence would be fitted to chance: with an accuracy of one in ten, three are right."""


def groups_of(mdata: MuData, within: str | None) -> NDArray[np.int64]:
    """Return a code per cell, ``(n_obs,)``; partners are sought among cells of the same code."""
    if within is None:
        return np.zeros(mdata.n_obs, dtype=np.int64)
    check_keys([within], list(mdata.obs.columns), "Column of `mdata.obs`")
    text = as_text(mdata.obs[within])
    if text.isna().any():
        raise ValueError(
            f"Column {within!r} is missing for {int(text.isna().sum())} cells, first "
            f"{shorten(mdata.obs_names[text.isna()])}: every cell needs a group to be matched within."
        )
    return np.asarray(np.unique(text.to_numpy(dtype=str), return_inverse=True)[1], dtype=np.int64)


def known_pairs_of(
    mdata: MuData, both: NDArray[np.int64], column: str | None, validation: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], str]:
    """Return the pairs to calibrate by, and what has to be said of them."""
    if column is not None:
        check_keys([column], list(mdata.obs.columns), "Column of `mdata.obs`")
        known, note = both[_truth(mdata, column)[both]], ""
    else:
        known = np.intersect1d(both, validation[0]) if validation else both[:0]
        note = ""
        if len(known) < MIN_PAIRS:
            known, note = both, "calibrated by pairs that may have been trained on: confidences are too high then"
    if len(known) < MIN_PAIRS:
        note = f"not calibrated: {len(known)} known pairs, at least {MIN_PAIRS} are needed"
    return known, note


def _truth(mdata: MuData, column: str) -> NDArray[np.bool_]:
    """Return a boolean column; missing values, which mudata brings where modalities are joined, are false."""
    values = mdata.obs[column]
    known = values.dropna()
    if not all(isinstance(value, bool | np.bool_) for value in known):
        raise ValueError(
            f"Expected column {column!r} of `mdata.obs` to be boolean, found {shorten(known.unique())}. Write such as "
            f"`mdata.obs['known'] = mdata.obs[{column!r}] == {known.iloc[0]!r}`."
        )
    return np.array([isinstance(value, bool | np.bool_) and bool(value) for value in values], dtype=bool)
