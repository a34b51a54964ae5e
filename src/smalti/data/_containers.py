"""From what people have (AnnData, several of them, files) to a MuData."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from smalti._errors import OneModalityError
from smalti._mudata import build_mudata, no_pull
from smalti._validate import check_keys, check_path, check_text, check_unique, shorten

from ._categories import coalesce_obs
from ._values import looks_like_counts, matrix_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEATURE_TYPES = "feature_types"
"""Column of ``.var`` in which files of 10x Genomics say what a feature is."""
SHORT = {"Gene Expression": "rna", "Antibody Capture": "adt", "Peaks": "atac", "CRISPR Guide Capture": "guides"}
"""Names of modalities for the kinds of features that 10x Genomics knows; other kinds keep their names."""


def from_anndata(
    data: AnnData | Mapping[str, AnnData],
    *,
    batch: str | None = None,
    labels: str | None = None,
    layers: str | Mapping[str, str] | None = None,
    obsm: Mapping[str, str] | None = None,
) -> MuData:
    """Make a MuData of AnnData objects, by the names of their cells.

    Parameters
    ----------
    data
        AnnData by name of the modality; cells of the same name are one cell. Or one AnnData that holds several
        modalities: features of several kinds (``.var["feature_types"]``, as 10x Genomics writes them), or tables of
        counts in ``.obsm``, as CITE-seq data often come.
    batch, labels
        Columns of ``.obs`` with batch and label. They are collected into ``mdata.obs`` under the same name; pass that
        name to ``setup_mudata``.
    layers
        Layer with the values to use, for all or by modality; ``.X`` by default.
    obsm
        With one AnnData, keys of ``.obsm`` by name of the modality they become. By default all tables there that hold
        counts.

    Returns
    -------
    A MuData. The objects given are left as they are; matrices are shared with them.

    Raises
    ------
    TypeError
        If ``data`` is something else.
    KeyError
        If a layer, column or key does not exist.
    ValueError
        If names of cells repeat, two modalities disagree on a batch or label, or there is one modality only.
    """
    if isinstance(data, AnnData):
        parts = _split(_in_memory(data), obsm)
    elif isinstance(data, MuData):
        raise TypeError("The data are a MuData already: use them as they are.")
    elif isinstance(data, Mapping):
        if not data:
            raise ValueError("Expected an AnnData for every modality, found none.")
        odd = [name for name, value in data.items() if not isinstance(value, AnnData)]
        if odd:
            raise TypeError(
                f"Expected an AnnData for every modality, found {type(data[odd[0]]).__name__} for {odd[0]!r}."
            )
        if obsm is not None:
            raise ValueError("`obsm` is for a single AnnData: with several, name each of them in the mapping.")
        parts = {str(name): _in_memory(value) for name, value in data.items()}
    else:
        raise TypeError(
            f"Expected an AnnData or a mapping of names to AnnData, found the type {type(data).__name__}. Write "
            "`sm.from_anndata({'rna': rna, 'adt': adt})`."
        )
    if not isinstance(layers, str | Mapping | None):
        raise TypeError(f"Expected `layers` to be a name or names by modality, found {layers!r}.")
    chosen = dict.fromkeys(parts, layers) if isinstance(layers, str) else dict(layers or {})
    check_keys(chosen, list(parts), "`layers`")
    for name, adata in parts.items():
        check_text(name, "name of a modality")
        check_unique(adata.obs_names.to_numpy(), f"Names of cells of modality {name!r}")
        if chosen.get(name) is not None:
            adata.X = matrix_of(adata, chosen[name], name)
    mdata = build_mudata(parts)
    for column in dict.fromkeys(filter(None, (batch, labels))):
        mdata.obs[column] = coalesce_obs(mdata, column)
    return mdata


def read(path: str | Path) -> MuData:
    """Read a MuData from a file of any usual kind.

    Parameters
    ----------
    path
        ``.h5mu``, ``.h5ad`` or ``.h5`` of 10x Genomics, or a ``.zarr`` folder of MuData or AnnData. What holds an
        AnnData is taken apart as by :func:`from_anndata`.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If the file is of another kind or damaged.
    """
    path = check_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    what, readers = _readers(path)
    failures = []
    for reader in readers:
        try:
            with no_pull():
                data = reader(path)
        except Exception as error:  # noqa: BLE001, readers of damaged files raise anything
            failures.append(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            continue
        return from_anndata(data) if isinstance(data, AnnData) else data
    raise ValueError(f"{path} cannot be read as {what}: {failures[-1]}")


def _readers(path: Path) -> tuple[str, list[Callable[[Path], Any]]]:
    import anndata
    import mudata
    import scanpy as sc

    if path.is_dir():
        return "a zarr folder of MuData or AnnData", [mudata.read_zarr, anndata.io.read_zarr]
    kinds: dict[str, tuple[str, list[Callable[[Path], Any]]]] = {
        ".h5ad": ("an AnnData file (.h5ad)", [anndata.io.read_h5ad]),
        ".h5": (
            "a file of 10x Genomics (.h5) or a MuData file",
            [lambda file: sc.read_10x_h5(file, gex_only=False), mudata.read_h5mu],
        ),
    }
    return kinds.get(path.suffix.lower(), ("a MuData file (.h5mu)", [mudata.read_h5mu]))


def _in_memory(adata: AnnData) -> AnnData:
    """Return an AnnData of its own that shares matrices with the one given."""
    for names in (adata.obs.index, adata.var.index):
        if isinstance(names, pd.MultiIndex):
            raise ValueError(
                f"Names of cells and features have to be text, found several levels, {shorten(names.names)}. Join "
                "them first, such as `adata.obs_names = ['_'.join(map(str, name)) for name in adata.obs_names]`."
            )
    if adata.isbacked:
        return adata.to_memory()
    if adata.is_view:
        return adata.copy()
    return AnnData(
        X=adata.X,
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        uns=dict(adata.uns),
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
        layers=dict(adata.layers),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
    )


def _split(adata: AnnData, obsm: Mapping[str, str] | None) -> dict[str, AnnData]:
    """Return the modalities that one AnnData holds."""
    if not isinstance(obsm, Mapping | None):
        raise TypeError(f"Expected `obsm` to be keys by modality, such as {{'adt': {obsm!r}}}, found {obsm!r}.")
    if not adata.var_names.is_unique:  # 10x files name genes twice
        adata.var_names_make_unique()
    parts: dict[str, AnnData] = {}
    if obsm is None and FEATURE_TYPES in adata.var and adata.var[FEATURE_TYPES].nunique() > 1:
        for kind in dict.fromkeys(adata.var[FEATURE_TYPES]):
            parts[modality_name(str(kind))] = adata[:, (adata.var[FEATURE_TYPES] == kind).to_numpy()].copy()
        return parts
    if obsm is None:
        obsm = {_plain(key): key for key, table in adata.obsm.items() if _holds_counts(table)}
    check_keys(obsm.values(), list(adata.obsm), "`.obsm`")
    if not obsm:
        raise OneModalityError(
            "The AnnData holds one modality only: `.var['feature_types']` names fewer than two kinds, and no table in "
            f"`.obsm` ({shorten(adata.obsm) or 'empty'}) holds counts. Name one, `obsm={{'adt': key}}`, or join it "
            "with another AnnData, `sm.from_anndata({'rna': rna, 'adt': adt})`."
        )
    first = next(name for name in ("rna", "x", "main") if name not in obsm)
    parts[first] = adata
    for name, key in obsm.items():
        parts[name] = _of_table(adata, key)
    for key in obsm.values():
        del adata.obsm[key]
    return parts


def modality_name(kind: str) -> str:
    """Return the name of the modality of a kind of features, as files of 10x Genomics call it."""
    return SHORT.get(kind) or re.sub(r"\W+", "_", kind).lower()


def _plain(key: str) -> str:
    return "adt" if "prot" in key.lower() or "antibod" in key.lower() else key


def _holds_counts(table: Any) -> bool:
    values = table.to_numpy() if isinstance(table, pd.DataFrame) else table
    if not hasattr(values, "dtype") or values.dtype.kind not in "fiu" or values.shape[1] < 2:
        return False
    if hasattr(values, "format"):
        return looks_like_counts(values)
    return bool(np.isfinite(values).all() and values.max(initial=0) > 1 and looks_like_counts(values))


def _of_table(adata: AnnData, key: str) -> AnnData:
    table = adata.obsm[key]
    if isinstance(table, pd.DataFrame):
        names, values = table.columns.astype(str), table.to_numpy()
    else:
        names, values = pd.Index([f"{key}_{i}" for i in range(table.shape[1])]), table
    if isinstance(values, np.ndarray):
        values = values.astype(np.float32)
    return AnnData(values, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=names))
