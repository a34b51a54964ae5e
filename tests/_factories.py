"""Small mosaics for tests: every pattern, storage and type that a user may bring."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from smalti import simulate
from smalti._mudata import no_pull

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

N_FEATURES = {"a": 30, "b": 20, "c": 12}
LIKELIHOODS = {"a": "nb", "b": "poisson", "c": "gaussian"}
PATTERNS = ("paired", "every", "mosaic", "diagonal", "indirect")
STORAGES = ("csr", "csc", "csr_array", "csc_array", "dense", "int")


def make_mosaic(
    *,
    n_obs: int = 84,
    pattern: str = "every",
    n_features: Mapping[str, int] | None = None,
    likelihood: str | Mapping[str, str] | None = None,
    storage: str | Mapping[str, str] | None = None,
    index_dtype: type = np.int32,
    n_shared: int = 4,
    n_private: int = 2,
    n_clusters: int = 3,
    n_batches: int = 2,
    batch: bool = True,
    labels: bool = True,
    unlabeled: float = 0.0,
    blind: Mapping[str, str] | None = None,
    stamp: bool = False,
    empty: tuple[str, ...] = (),
    seed: int = 0,
) -> MuData:
    """Make a small mosaic with a cell of every kind.

    pattern
        "paired"; "every" (all non-empty presence patterns, equally often); "mosaic" (half paired, half with one
        modality); "diagonal"; "indirect" (a-b and b-c).
    n_features, likelihood
        As in ``factor_views``; by default modalities a (counts), b (counts) and c (reals).
    storage
        One of STORAGES, for all or by modality; by default as simulated (counts CSR, reals dense).
    batch, labels, unlabeled
        Whether ``obs`` has ``batch`` and ``label``; fraction of cells with label "unknown".
    blind
        Modality that a batch never measured, by batch.
    stamp
        Write the cell's number plus one into the first feature of each of its profiles (see ``stamps``).
    empty
        Modalities in which the first cell that has them was measured with only zeros.
    """
    n_features = N_FEATURES if n_features is None else n_features
    likelihood = {m: LIKELIHOODS.get(m, "nb") for m in n_features} if likelihood is None else likelihood
    mdata = simulate.factor_views(
        n_obs,
        n_features=n_features,
        likelihood=likelihood,
        n_shared=n_shared,
        n_private=n_private,
        n_clusters=n_clusters,
        n_batches=n_batches,
        depth=200,
        random_state=seed,
    )
    if stamp:
        for name, adata in mdata.mod.items():
            adata.X = _with_first_column(adata.X, 1 + numbers(mdata[name].obs_names))
    if unlabeled:
        label = mdata.obs["label"].cat.add_categories("unknown")
        label[np.random.default_rng(seed).random(n_obs) < unlabeled] = "unknown"
        mdata.obs["label"] = label
    mdata = _masked(mdata, pattern, seed)
    if blind:
        keep = np.ones((mdata.n_obs, mdata.n_mod), dtype=bool)
        for category, name in blind.items():
            keep[np.ix_((mdata.obs["batch"] == category).to_numpy(), np.array(list(mdata.mod)) == name)] = False
        mdata = simulate.drop(mdata, keep)
    for name in empty:
        keep = np.arange(mdata.mod[name].n_obs)[:, None] > 0
        x = mdata.mod[name].X
        mdata.mod[name].X = sp.csr_matrix(x.multiply(keep)) if sp.issparse(x) else x * keep
    mdata.obs = mdata.obs.drop(columns=([] if batch else ["batch"]) + ([] if labels else ["label"]))
    return mdata if storage is None else as_storage(mdata, storage, index_dtype=index_dtype)


def as_storage(mdata: MuData, storage: str | Mapping[str, str], *, index_dtype: type = np.int32) -> MuData:
    """Return a copy whose modalities hold the same values in other storage ("int" rounds and is CSR)."""
    with no_pull():
        mdata = mdata.copy()
    by_modality = storage if isinstance(storage, Mapping) else dict.fromkeys(mdata.mod, storage)
    for name, kind in by_modality.items():
        x = sp.csr_matrix(mdata.mod[name].X)
        x = {
            "csr": lambda x: x,
            "csc": sp.csc_matrix,
            "csr_array": sp.csr_array,
            "csc_array": sp.csc_array,
            "dense": lambda x: x.toarray(),
            "int": lambda x: sp.csr_matrix(np.rint(x.toarray()).astype(np.int64)),
        }[kind](x)
        if sp.issparse(x):
            x.indices, x.indptr = x.indices.astype(index_dtype), x.indptr.astype(index_dtype)
        mdata.mod[name].X = x
    return mdata


def numbers(names: pd.Index) -> np.ndarray:
    """Return the number of each simulated cell, from its name."""
    return names.str.extract(r"cell_(\d+)")[0].to_numpy(dtype=np.int64)


def stamps(x) -> np.ndarray:
    """Return the numbers of cells that ``stamp=True`` wrote into rows of a modality."""
    first = x[:, [0]]
    return np.rint(first.toarray() if sp.issparse(first) else first).ravel().astype(np.int64) - 1


def _masked(mdata: MuData, pattern: str, seed: int) -> MuData:
    match pattern:
        case "paired":
            return mdata
        case "every":
            rows = np.array([row for row in product([True, False], repeat=mdata.n_mod) if any(row)])
            return simulate.drop(mdata, rows[np.random.default_rng(seed).permutation(mdata.n_obs) % len(rows)])
        case "mosaic":
            return simulate.mosaic(mdata, random_state=seed)
        case "diagonal":
            return simulate.diagonal(mdata, random_state=seed)
        case "indirect":
            return simulate.indirect(mdata, random_state=seed)
    raise ValueError(f"Unknown pattern {pattern!r}, choose from {PATTERNS}.")


def _with_first_column(x, column: np.ndarray):
    dense = x.toarray() if sp.issparse(x) else x.copy()
    dense[:, 0] = column
    return sp.csr_matrix(dense) if sp.issparse(x) else dense
