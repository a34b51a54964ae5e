"""One number or category per cell, by name: columns, features of any modality, predictions."""

from __future__ import annotations

import re
from collections.abc import Hashable
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._mudata import check_mudata
from smalti._validate import check_text, shorten
from smalti.data import looks_like_counts, matrix_of, measured_matrix, row_maps

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

PREDICTED = re.compile(r"(?P<key>\S+) (?P<modality>[^:]+):(?P<feature>.+)")
SCALE = "scale"
"""Entry of ``.attrs`` of what :func:`cell_values` returns, the unit in words."""


def cell_values(mdata: MuData, name: str, *, layer: str | None = None, log: bool = True) -> pd.Series:
    """Return what is known of every cell under a name.

    Parameters
    ----------
    mdata
        The mosaic.
    name
        A column of ``mdata.obs``; a feature, with its modality (``"adt:CD3"``) or alone (``"CD3D"``) if only one
        modality has it; or a feature of a table in ``mdata.obsm``, such as the one that ``model.impute(mdata,
        key_added="predicted")`` writes for proteins (``"predicted adt:CD3"``, from ``mdata.obsm["predicted_adt"]``). If
        a name has several meanings, the first of these is taken.
    layer
        Layer of the modality that holds the values of features; ``.X`` by default.
    log
        Whether counts become comparable between cells: ``log(1 + x)`` of counts per median total of their modality, and
        ``log(1 + x)`` of predictions that are nowhere negative. Other values stay as they are.

    Returns
    -------
    ``(n_obs,)``, indexed by ``mdata.obs_names``; missing where the feature was not measured. ``.attrs["scale"]`` says
    the unit in words, if there is one.

    Raises
    ------
    KeyError
        If nothing has that name, or several modalities have such a feature.
    """
    check_mudata(mdata)
    if isinstance(name, Hashable) and name in mdata.obs:
        return pd.Series(mdata.obs[name])
    check_text(name, "name")
    if (found := PREDICTED.fullmatch(name)) and f"{found['key']}_{found['modality']}" in mdata.obsm:
        return _predicted(mdata, name, f"{found['key']}_{found['modality']}", found["feature"], log)
    modality, _, feature = name.partition(":")
    if modality in mdata.mod and feature in mdata.mod[modality].var_names:
        return _feature(mdata, name, modality, feature, layer, log)
    having = [m for m, adata in mdata.mod.items() if name in adata.var_names]
    if len(having) > 1:
        raise KeyError(f"Feature {name!r} is in modalities {shorten(having)}: say which, {having[0] + ':' + name!r}.")
    if having:
        return _feature(mdata, name, having[0], name, layer, log)
    raise KeyError(_unknown(mdata, name))


def _feature(mdata: MuData, name: str, modality: str, feature: str, layer: str | None, log: bool) -> pd.Series:
    matrix = matrix_of(mdata.mod[modality], layer, modality)
    column = matrix[:, [mdata.mod[modality].var_names.get_loc(feature)]]
    values = np.asarray(column.todense() if sp.issparse(column) else column, dtype=float).ravel()
    scale = layer or ""
    if log and looks_like_counts(matrix):
        total = np.asarray(measured_matrix(mdata.mod[modality], layer, modality).sum(axis=1), dtype=float).ravel()
        typical = float(np.median(total[total > 0])) if (total > 0).any() else 1.0
        values = np.log1p(values * typical / np.maximum(total, 1))
        scale = "log(1 + counts per median cell)"
    rows = row_maps(mdata, [modality])[modality]
    return _series(mdata, name, np.where(rows >= 0, values[rows], np.nan), scale)


def _predicted(mdata: MuData, name: str, key: str, feature: str, log: bool) -> pd.Series:
    table = mdata.obsm[key]
    if not isinstance(table, pd.DataFrame):
        raise KeyError(f"`mdata.obsm[{key!r}]` has no names of features; {name!r} needs a table with columns.")
    if feature not in table:
        raise KeyError(f"`mdata.obsm[{key!r}]` has no column {feature!r}{_near(feature, list(table.columns))}.")
    values = table[feature].to_numpy(dtype=float)
    if log and not (values < 0).any():
        return _series(mdata, name, np.log1p(values), "log(1 + predicted value)")
    return _series(mdata, name, values, "predicted value")


def _series(mdata: MuData, name: str, values: NDArray[np.float64], scale: str) -> pd.Series:
    out = pd.Series(values, index=mdata.obs_names, name=name)
    if scale:
        out.attrs[SCALE] = scale
    return out


def _unknown(mdata: MuData, name: str) -> str:
    modality, colon, feature = name.partition(":")
    if colon and modality in mdata.mod:
        near = _near(feature, list(mdata.mod[modality].var_names))
        return f"Modality {modality!r} has no feature {feature!r}{near}."
    features = [v for adata in mdata.mod.values() for v in adata.var_names]
    return (
        f"{name!r} not found: neither a column of `mdata.obs` ({shorten(mdata.obs.columns, 20)}) nor a feature of "
        f"{shorten(mdata.mod)}{_near(name, features)}."
    )


def _near(name: str, names: list[str]) -> str:
    same = [n for n in names if str(n).lower() == name.lower()]
    found = same or get_close_matches(name, map(str, names[:50_000]), n=3)
    return f"; did you mean {shorten(found)}?" if found else ""
