"""Generated mosaics: any presence pattern, container, type, name and order, sound or spoilt, from a small recipe."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st

from smalti._mudata import no_pull

if TYPE_CHECKING:
    from mudata import MuData

NAMES = ("rna", "adt", "a b", "x.y", "größe", "[/x]", "1", "own", "%", "rna2")
KINDS = ("counts", "reals", "binary", "rates", "big")
ODD_KINDS = ("none",) * 12 + ("zeros", "constant")
SIZES = (24, 40, 12, 32, 24, 40, 8, 3, 1)
WIDTHS = (5, 12, 8, 3, 1)
DTYPES = ("float32", "float64", "int64", "int32", "uint8") * 2 + ("float16", "bool")
STORAGES = ("csr", "csc", "csr_array", "csc_array", "coo", "dense", "fortran")
PATTERNS = ("paired", "random", "diagonal", "chain", "one pair") * 3 + ("one cell", "empty modality", "lonely cell")
SPOILS = ("none",) * 16 + (
    "nan",
    "nan row",
    "inf",
    "negative",
    "stale",
    "view",
    "twins",
    "same features",
    "no features",
)
COLUMNS = ("absent", "text", "integers", "floats", "categories", "booleans", "mixed", "one") * 3 + (
    "missing",
    "reserved",
)


@dataclass(frozen=True)
class Recipe:
    """All that decides a case."""

    seed: int
    n_modalities: int
    n_obs: int
    n_features: tuple[int, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    odd_kind: str
    """Of the first modality, if any."""
    dtypes: tuple[str, ...]
    storages: tuple[str, ...]
    pattern: str
    spoil: str
    batch: str
    label: str
    cells: str
    reverse: bool
    layer: bool
    obsm: bool


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw a recipe of two to five modalities."""
    m = draw(st.integers(2, 5))

    def each(choices: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(draw(st.sampled_from(choices)) for _ in range(m))

    return Recipe(
        seed=draw(st.integers(0, 999)),
        n_modalities=m,
        n_obs=draw(st.sampled_from(SIZES)),
        n_features=tuple(draw(st.sampled_from(WIDTHS)) for _ in range(m)),
        names=tuple(draw(st.permutations(NAMES))[:m]),
        kinds=each(KINDS),
        odd_kind=draw(st.sampled_from(ODD_KINDS)),
        dtypes=each(DTYPES),
        storages=each(STORAGES),
        pattern=draw(st.sampled_from(PATTERNS)),
        spoil=draw(st.sampled_from(SPOILS)),
        batch=draw(st.sampled_from(COLUMNS)),
        label=draw(st.sampled_from(COLUMNS)),
        cells=draw(st.sampled_from(["plain", "numbers", "unicode"])),
        reverse=draw(st.booleans()),
        layer=draw(st.booleans()),
        obsm=draw(st.booleans()),
    )


def presence_of(recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Return ``(n_obs, M)``."""
    n, m = recipe.n_obs, recipe.n_modalities
    here = np.ones((n, m), dtype=bool)
    cell = np.arange(n)
    if recipe.pattern == "random":
        here = rng.random((n, m)) < 0.6
        here[~here.any(axis=1), 0] = True
    elif recipe.pattern in ("diagonal", "one pair"):
        here = cell[:, None] % m == np.arange(m)
        if recipe.pattern == "one pair":
            here[0] = True
    elif recipe.pattern == "chain":
        here = (cell[:, None] % (m - 1) == np.arange(m)) | (cell[:, None] % (m - 1) + 1 == np.arange(m))
    elif recipe.pattern == "one cell":
        here[1:, -1] = False
    elif recipe.pattern == "empty modality":
        here[:, -1] = False
    elif recipe.pattern == "lonely cell":  # of a modality that is taken out afterwards
        here[:, -1] = np.arange(n) == n - 1
        here[-1, :-1] = False
    return here


def values_of(kind: str, dtype: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    x = {
        "counts": lambda: rng.poisson(3, shape),
        "reals": lambda: rng.normal(size=shape),
        "binary": lambda: rng.random(shape) < 0.3,
        "rates": lambda: rng.random(shape),
        "zeros": lambda: np.zeros(shape),
        "constant": lambda: np.full(shape, 2),
        "big": lambda: rng.poisson(3, shape) * 1000,
    }[kind]()
    if dtype in ("int64", "int32", "uint8", "bool") and kind in ("reals", "rates"):
        dtype = "float32"
    return np.asarray(x).astype(dtype)


def stored_as(x: np.ndarray, storage: str) -> Any:
    if storage == "dense" or (storage != "fortran" and x.dtype == np.float16):  # scipy has no sparse halves
        return x
    if storage == "fortran":
        return np.asfortranarray(x)
    return {
        "csr": sp.csr_matrix,
        "csc": sp.csc_matrix,
        "csr_array": sp.csr_array,
        "csc_array": sp.csc_array,
        "coo": lambda y: sp.csr_matrix(y),
    }[storage](x)


def column_of(kind: str, n: int, rng: np.random.Generator) -> Any:
    code = rng.integers(0, 3, n)
    code[: min(n, 3)] = np.arange(min(n, 3))
    return {
        "text": lambda: np.array(["x", "y", "z"], dtype=object)[code],
        "integers": lambda: code,
        "floats": lambda: code.astype(float),
        "categories": lambda: pd.Categorical(np.array(["x", "y", "z"])[code], categories=["z", "y", "x", "unused"]),
        "booleans": lambda: code > 0,
        "missing": lambda: np.where(code == 0, None, np.array(["x", "y", "z"], dtype=object)[code]),
        "mixed": lambda: np.array([1, "1", 2.0], dtype=object)[code],
        "one": lambda: np.array(["only"] * n, dtype=object),
        "reserved": lambda: np.array(["own", "average", "x"], dtype=object)[code],
    }[kind]()


def build(recipe: Recipe) -> MuData:
    """Return the mosaic of a recipe."""
    rng = np.random.default_rng(recipe.seed)
    n = recipe.n_obs
    cells = {
        "plain": [f"c{i}" for i in range(n)],
        "numbers": [str(i) for i in range(n)],
        "unicode": [f"Zelle {i}/ä" for i in range(n)],
    }[recipe.cells]
    cells = np.array(cells, dtype=object)
    here, parts = presence_of(recipe, rng), {}
    for i, name in enumerate(recipe.names):
        own = cells[here[:, i]]
        own = own[::-1] if recipe.reverse and i % 2 else own
        g = 0 if recipe.spoil == "no features" and i == 0 else recipe.n_features[i]
        kind = recipe.odd_kind if i == 0 and recipe.odd_kind != "none" else recipe.kinds[i]
        x = values_of(kind, recipe.dtypes[i], (len(own), g), rng)
        x = spoilt(x, recipe.spoil) if i == 0 else x
        prefix = "g" if recipe.spoil == "same features" else f"{name}_"
        matrix = stored_as(x, recipe.storages[i])
        adata = ad.AnnData(
            matrix,
            obs=pd.DataFrame(index=pd.Index(own.astype(str))),
            var=pd.DataFrame(index=[f"{prefix}{j}" for j in range(g)]),
        )
        if recipe.layer:
            adata.layers["more"] = matrix.copy()
        if recipe.obsm and g:
            adata.obsm["z"] = rng.normal(size=(len(own), 3))
        parts[name] = adata
    with warnings.catch_warnings(), no_pull():
        warnings.simplefilter("ignore")
        mdata = mudata.MuData(parts)
        if recipe.pattern == "lonely cell":
            del mdata.mod[recipe.names[-1]]
        for key, kind in (("batch", recipe.batch), ("label", recipe.label)):
            if kind != "absent":
                mdata.obs[key] = column_of(kind, mdata.n_obs, rng)
        if recipe.spoil == "stale" and mdata.mod[recipe.names[0]].n_obs > 1:
            first = recipe.names[0]
            mdata.mod[first] = mdata.mod[first][::-1].copy()
        if recipe.spoil == "twins" and mdata.mod[recipe.names[0]].n_obs > 1:
            names = mdata.mod[recipe.names[0]].var_names.to_numpy(dtype=object).copy()
            names[-1] = names[0]
            mdata.mod[recipe.names[0]].var_names = names.astype(str)
        if recipe.spoil == "view" and mdata.n_obs > 1:
            return mdata[np.arange(mdata.n_obs - 1)]
    return mdata


def spoilt(x: np.ndarray, how: str) -> np.ndarray:
    if 0 in x.shape or how not in ("nan", "nan row", "inf", "negative"):
        return x
    x = x.astype(np.float32)
    if how == "nan":
        x[0, 0] = np.nan
    elif how == "nan row":
        x[-1] = np.nan
    elif how == "inf":
        x[0, 0] = np.inf
    else:
        x[0, 0] = -1
    return x


def digest(mdata: MuData) -> str:
    """Return a hash of all that a user sees of a MuData, scvi-tools' identifiers aside."""
    sink = hashlib.sha256()

    def add(value: Any) -> None:
        if sp.issparse(value):
            value = value.tocoo()
            for part in (value.row, value.col, value.data):
                sink.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(value, np.ndarray) and value.dtype != object:
            sink.update(str(value.dtype).encode() + np.ascontiguousarray(value).tobytes())
        else:
            sink.update(repr(value).encode())

    def table(frame: pd.DataFrame) -> None:
        add(list(map(str, frame.columns)))
        add(list(map(str, frame.index)))
        for column in frame:
            add(str(frame[column].dtype))
            add([repr(v) for v in frame[column]])

    table(mdata.obs)
    for name, adata in mdata.mod.items():
        add(name)
        add(adata.X)
        table(adata.obs)
        table(adata.var)
        for mapping in (adata.layers, adata.obsm, adata.varm):
            for key, value in mapping.items():
                add(str(key))
                add(value)
        add(sorted(adata.uns))
    add(sorted(key for key in mdata.uns if not str(key).startswith("_scvi")))
    return sink.hexdigest()
