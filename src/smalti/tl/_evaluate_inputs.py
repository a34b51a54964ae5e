"""Latents, pairs and depths that an evaluation looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from smalti._text import as_text
from smalti._validate import check_keys, shorten
from smalti.data import presence, row_maps
from smalti.simulate import hidden_pairs

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    Embedding = str | ArrayLike | Mapping[str, ArrayLike]


@dataclass(frozen=True, kw_only=True)
class Latents:
    """A latent of all cells, and those from single modalities, all ``(n_obs, d)`` with NaN where absent."""

    joint: NDArray[Any]
    single: dict[str, NDArray[Any]]
    name: str

    def of(self, modality: str, rows: NDArray[np.int64], names: Any) -> NDArray[Any]:
        """Return the latents of some cells as seen from a modality: its own, else the joint one."""
        z = self.single.get(modality, self.joint)[rows]
        bad = ~np.isfinite(z).all(axis=1)
        if bad.any():
            raise ValueError(
                f"The embedding {self.name!r} is missing for {int(bad.sum())} cells that are to be scored from "
                f"{modality!r}: {shorten(names[rows[bad]])}."
            )
        return z


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows of both halves of each pair."""

    modalities: tuple[str, str]
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    held_out: bool


def by_name(embeddings: Any) -> dict[str, Any]:
    """Return embeddings by name of the method."""
    if isinstance(embeddings, str):
        return {embeddings: embeddings}
    if isinstance(embeddings, Mapping):
        return dict(embeddings)
    if hasattr(embeddings, "ndim"):
        return {"embedding": embeddings}
    if not isinstance(embeddings, Iterable):
        raise TypeError(f"Expected embeddings by name, or keys of `mdata.obsm`, found {embeddings!r}.")
    return {key: key for key in embeddings}


def read_latents(mdata: MuData, name: str, embedding: Embedding) -> Latents:
    """Return the latents of a method; without a joint one, the mean of a cell's single ones stands in."""
    if isinstance(embedding, str):
        single = {m: mdata.obsm[f"{embedding}_{m}"] for m in mdata.mod if f"{embedding}_{m}" in mdata.obsm}
        if not single:
            check_keys([embedding], list(mdata.obsm), "Embedding in `mdata.obsm`")
        joint = mdata.obsm[embedding] if embedding in mdata.obsm else None
    elif isinstance(embedding, Mapping):
        check_keys(embedding, list(mdata.mod), f"Modality of the embedding {name!r}")
        single, joint = dict(embedding), None
    else:
        single, joint = {}, embedding
    arrays = {m: _matrix(mdata, f"{name!r} from {m!r}", z) for m, z in single.items()}
    if joint is not None:
        return Latents(joint=_matrix(mdata, repr(name), joint), single=arrays, name=name)
    known = np.stack([np.isfinite(z).all(axis=1) for z in arrays.values()])
    total = sum(np.where(here[:, None], z, 0) for here, z in zip(known, arrays.values(), strict=True))
    with np.errstate(invalid="ignore"):
        mean = np.asarray(total) / known.sum(axis=0)[:, None]
    return Latents(joint=mean, single=arrays, name=name)


def _matrix(mdata: MuData, what: str, values: Any) -> NDArray[Any]:
    z = np.asarray(values)
    if z.ndim != 2 or len(z) != mdata.n_obs:
        raise ValueError(f"Embedding {what} has shape {z.shape}, expected one row for each of the {mdata.n_obs} cells.")
    if z.dtype in (np.float32, np.float64):
        return z
    try:
        return z.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Embedding {what} holds values that are no numbers ({error}).") from error


def find_pairs(mdata: MuData, modalities: tuple[str, str] | None) -> Pairs | str:
    """Return the pairs to score, or why there are none."""
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    if modalities is not None and (len(names) != 2 or names[0] == names[1]):
        raise ValueError(f"Expected two modalities to compare, found {shorten(names)}.")
    if len(names) != 2:
        return f"there are {len(names)} modalities ({shorten(names)}); name the two to compare in `modalities`."
    first, second = names
    if {"cell", "hidden"} <= set(mdata.obs.columns):
        rows = hidden_pairs(mdata, first, second)
        if len(rows[0]) > 1:
            return Pairs(modalities=(first, second), rows=rows, held_out=True)
    both = np.flatnonzero(presence(mdata, [first, second]).all(axis=1))
    if len(both) < 2:
        return f"no cell is known in both {first!r} and {second!r}, so there is no truth to compare with."
    return Pairs(modalities=(first, second), rows=(both, both), held_out=False)


def read_column(mdata: MuData, key: str, missing: str | None) -> NDArray[Any]:
    """Return a column of ``obs`` as text, None where it is missing or has the value that means so.

    Parameters
    ----------
    mdata
        The mosaic.
    key
        Column of ``mdata.obs``.
    missing
        Value that means "no label"; ``None`` for no such value.

    Raises
    ------
    KeyError
        If there is no such column.
    """
    check_keys([key], list(mdata.obs.columns), "Column of `mdata.obs`")
    values = as_text(mdata.obs[key])
    texts = values.astype(object).to_numpy(dtype=object, copy=True)
    texts[values.isna().to_numpy() | (texts == missing)] = None
    return np.asarray(texts)


def patterns(mdata: MuData) -> NDArray[Any]:
    """Return ``(n_obs,)`` the presence pattern of each cell."""
    names = np.array(list(mdata.mod), dtype=object)
    found, codes = np.unique(presence(mdata), axis=0, return_inverse=True)
    words = np.array([" + ".join(names[here]) or "nothing" for here in found], dtype=object)
    return np.asarray(words[codes.ravel()])


def depth(mdata: MuData, modality: str, rows: NDArray[np.int64], layer: str | None) -> NDArray[np.float64] | None:
    """Return the logarithms of total counts of some cells, or None if the values are no counts (negative, missing)."""
    adata = mdata.mod[modality]
    x = adata.X if layer is None else adata.layers[layer]
    part = x[row_maps(mdata, [modality])[modality][rows]]
    values = part.data if sp.issparse(part) else np.asarray(part)
    if values.size and (not np.isfinite(values).all() or values.min() < 0):
        return None
    return np.log1p(np.asarray(part.sum(axis=1), dtype=np.float64).ravel())
