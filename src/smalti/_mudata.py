"""Make MuData objects alike under mudata 0.3 and 0.4, which differ in what they copy into ``mdata.obs``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
from anndata import AnnData
from mudata import MuData

from smalti._compat import SETUP_PREFIX
from smalti._validate import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@contextmanager
def no_pull() -> Iterator[None]:
    """Keep mudata 0.3 from copying columns of the modalities into ``mdata.obs`` (and from warning about it)."""
    if hasattr(mudata, "set_options"):
        with mudata.set_options(pull_on_update=False):
            yield
    else:  # mudata 0.4 never pulls unless told so
        yield


def build_mudata(modalities: Mapping[str, AnnData], *, obs: pd.DataFrame | None = None) -> MuData:
    """Join modalities by cell name; ``mdata.obs`` gets the columns of ``obs`` and nothing else.

    Parameters
    ----------
    modalities
        AnnData by name of the modality.
    obs
        One row per cell, in any order; must name every cell.
    """
    with no_pull():
        mdata = MuData(dict(modalities))
    if obs is not None:
        mdata.obs = obs.loc[mdata.obs_names].copy()
    return mdata


def take_cells(mdata: MuData, cells: Any) -> MuData:
    """Return a MuData of some cells, positions or a slice; its columns are those that it has, none are pulled."""
    with no_pull():
        return mdata[cells].copy()


def rebuild_mudata(mdata: MuData, modalities: Mapping[str, AnnData], source: pd.Series) -> MuData:
    """Join ``modalities`` and give each new cell what ``mdata`` says of the cell it comes from.

    Parameters
    ----------
    mdata
        The MuData that the modalities were made from; left as it is.
    modalities
        New AnnData by name of the modality; same features.
    source
        Row in ``mdata`` by name of the new cell.

    Returns
    -------
    A MuData with ``obs``, ``obsm``, ``obsp``, ``var`` and ``uns`` carried over, but not the marks that a model's
    ``setup_mudata`` left.
    """
    new = build_mudata(modalities)
    rows: NDArray[np.int64] = source.loc[new.obs_names].to_numpy()
    obs = mdata.obs.iloc[rows].copy()
    obs.index = new.obs_names
    new.obs = obs.drop(columns=[c for c in obs.columns if str(c).startswith(SETUP_PREFIX)])
    own = set(mdata.mod)  # `obsm` and `obsp` also hold mudata's own mask of each modality
    for key in set(mdata.obsm) - own:
        new.obsm[key] = _take(mdata.obsm[key], rows, new.obs_names)
    for key in set(mdata.obsp) - own:
        new.obsp[key] = mdata.obsp[key][rows][:, rows]
    if new.var_names.equals(mdata.var_names):
        new.var = mdata.var.copy()
    for key, value in mdata.uns.items():
        if not str(key).startswith(SETUP_PREFIX):
            new.uns[key] = deepcopy(value)
    return new


def _take(values: Any, rows: NDArray[np.int64], names: pd.Index) -> Any:
    if hasattr(values, "iloc"):
        table = values.iloc[rows].copy()
        table.index = names
        return table
    return values[rows]


def check_mudata(data: object) -> None:
    """Raise ``TypeError`` unless ``data`` is a MuData, and say what to do with what it is."""
    if isinstance(data, MuData):
        if any(isinstance(modality, MuData) for modality in data.mod.values()):
            nested = [name for name, modality in data.mod.items() if isinstance(modality, MuData)]
            raise TypeError(
                f"Modality {shorten(nested)} is itself a MuData, expected an AnnData: lift its modalities to the top, "
                f"`mudata.MuData({{**mdata.mod, **mdata[{nested[0]!r}].mod}})` without {nested[0]!r}."
            )
        return
    kind = type(data).__name__
    remedy = "Make one with `mudata.MuData({'rna': rna, 'adt': adt})` or `sm.from_anndata({'rna': rna, 'adt': adt})`."
    if isinstance(data, AnnData):
        remedy = (
            "Split it with `sm.from_anndata(adata)`, or put it beside the others, `sm.from_anndata({'rna': adata})`."
        )
    elif isinstance(data, Mapping):
        remedy = "Join them with `sm.from_anndata(modalities)`."
    elif isinstance(data, list | tuple):
        remedy = "Name them and join them with `sm.from_anndata({'rna': first, 'adt': second})`."
    elif isinstance(data, str | Path):
        remedy = f"Read it first, `mdata = sm.read({str(data)!r})`."
    raise TypeError(f"Expected a MuData, found {'nothing' if data is None else f'the type {kind}'}. {remedy}")
