"""Panels that differ between batches: features that some batches never measured."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._mudata import rebuild_mudata
from smalti._validate import check_in_range, check_keys, shorten
from smalti.data import row_maps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray


def panels(
    mdata: MuData,
    modality: str,
    *,
    panels: Mapping[str, float | Sequence[str]],
    batch_key: str = "batch",
    key_added: str = "measured",
    random_state: int | np.random.Generator = 0,
) -> MuData:
    """Let each batch measure only a part of a modality's features.

    Parameters
    ----------
    mdata
        Any mosaic; left as it is.
    modality
        The modality that gets panels.
    panels
        By batch: the features it measured, or the fraction of all features, in [0, 1], which are then chosen at random.
        Batches that are not named measured everything.
    batch_key
        Column of ``mdata.obs`` with the batch.
    key_added
        Key of the modality's ``varm`` for the table; an earlier table there is narrowed, not replaced.
    random_state
        Seed or generator.

    Returns
    -------
    A new MuData, in which unmeasured features are zero in ``X`` and all layers of the modality, and
    ``varm[key_added]`` is a boolean table of features (index) by batches (one column per category of ``batch_key``)
    that tells them from features measured as zero. It is what ``Modality(feature_mask=key_added)`` reads.

    Raises
    ------
    KeyError
        If the modality, the column, a batch or a feature does not exist.
    """
    check_keys([modality], list(mdata.mod), "Modality")
    check_keys([batch_key], list(mdata.obs), "Column of `mdata.obs`")
    rows = row_maps(mdata, [modality])[modality]
    column = mdata.obs[batch_key].astype("category").cat
    batches = [str(category) for category in column.categories]
    check_keys(panels, batches, f"Batch in `mdata.obs[{batch_key!r}]`")

    adata = mdata.mod[modality].copy()
    cells = np.flatnonzero(rows >= 0)
    code = np.empty(adata.n_obs, dtype=np.int64)
    code[rows[cells]] = column.codes.to_numpy()[cells]
    if (code < 0).any():
        raise ValueError(
            f"{int((code < 0).sum())} cells of modality {modality!r} have no batch in `mdata.obs[{batch_key!r}]`: "
            f"{shorten(adata.obs_names[code < 0], 3)}. Every cell needs one."
        )

    rng = np.random.default_rng(random_state)
    measured = pd.DataFrame(True, index=adata.var_names, columns=batches)
    for batch, panel in panels.items():
        measured[batch] = _measured(rng, adata.var_names, panel, batch)
    if key_added in adata.varm:
        earlier = adata.varm[key_added].rename(columns=str)
        measured &= earlier.reindex(columns=batches, fill_value=True)
    adata.varm[key_added] = measured

    mask = measured.to_numpy()
    if adata.X is not None:
        adata.X = _blank(adata.X, code, mask)
    for key in adata.layers:
        adata.layers[key] = _blank(adata.layers[key], code, mask)
    modalities = {name: adata if name == modality else other.copy() for name, other in mdata.mod.items()}
    return rebuild_mudata(mdata, modalities, pd.Series(np.arange(mdata.n_obs), index=mdata.obs_names))


def _measured(rng: np.random.Generator, names: pd.Index, panel: float | Sequence[str], batch: str) -> NDArray[np.bool_]:
    if isinstance(panel, Real):
        check_in_range(float(panel), 0, 1, f"panels[{batch!r}]")
        chosen = np.zeros(len(names), dtype=bool)
        chosen[rng.permutation(len(names))[: round(float(panel) * len(names))]] = True
        return chosen
    check_keys(panel, set(names), f"Feature of panel {batch!r}")  # type: ignore[arg-type]
    return np.asarray(names.isin(list(panel)))  # type: ignore[arg-type]


def _blank(x: Any, code: NDArray[np.int64], mask: NDArray[np.bool_]) -> Any:
    """Set entries of unmeasured features to zero; storage and dtype stay."""
    if not sp.issparse(x):
        x = np.array(x)
        for i in np.unique(code):
            x[np.ix_(code == i, ~mask[:, i])] = 0
        return x
    entries = x.tocoo()
    keep = mask[entries.col, code[entries.row]]
    kept = type(entries)((entries.data[keep], (entries.row[keep], entries.col[keep])), shape=x.shape)
    return kept.asformat(x.format)
