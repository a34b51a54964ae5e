"""Data sets with their pairs hidden, and scores of latents that were learnt without them."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from smalti import metrics
from smalti._mudata import build_mudata
from smalti.benchmark import DATASETS, data_folder

NO_LABEL = ("nan", "Mis", "unknown", "")
OTHER = "other_"


def read(name: str):
    """A data set and its labels as text."""
    mdata = mudata.read(data_folder() / f"{name}.h5mu")
    column = DATASETS.get(name, "cell_type")
    if column in mdata.obs:
        mdata.obs["kind"] = mdata.obs[column].astype(str)
    else:
        mdata.obs["kind"] = pd.concat([m.obs[column].astype(str) for m in mdata.mod.values()])[mdata.obs_names]
    return mdata


def gene_links(mdata) -> pd.DataFrame:
    """A row per feature of the second modality whose gene is a feature of the first."""
    first, second = mdata.mod
    var = mdata[second].var
    table = pd.DataFrame({first: var["gene"].astype(str).to_numpy(), second: var.index.to_numpy()})
    return table[table[first].isin(mdata[first].var_names)].reset_index(drop=True)


def unpair(mdata, n: int | None, seed: int, n_pairs: int = 0):
    """Some cells with their pairs hidden: in the second modality they have other names, but for ``n_pairs``.

    Returns the mosaic, and the names of the cells that were split.
    """
    rng = np.random.default_rng(1000 + seed)
    names = rng.permutation(mdata.obs_names.to_numpy(str))
    names = names if n is None else names[:n]
    first, second = mdata.mod
    a, b = (mdata[m][names].copy() for m in (first, second))
    hidden = np.arange(len(names)) >= n_pairs
    b.obs_names = np.where(hidden, np.char.add(OTHER, names.astype(str)), names)
    return build_mudata({first: a, second: b}), names[hidden]


def latents(model, first: str, second: str, names) -> tuple[np.ndarray, np.ndarray]:
    """Latents of both halves of split cells."""
    at = pd.Index(model.adata.obs_names)
    u = model.get_latent_representation(modality=first, block="latent")[at.get_indexer(names)]
    v = model.get_latent_representation(modality=second, block="latent")[
        at.get_indexer(np.char.add(OTHER, names.astype(str)))
    ]
    return u, v


def spaces(model, first: str, second: str, names) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of split cells in the space that matches are made in."""
    found, maps = model.matching_space(first, second), model.adata_manager.row_maps()
    at = {m: pd.Index(model.adata.obs_names[maps[m] >= 0]) for m in (first, second)}
    other = np.char.add(OTHER, names.astype(str))
    return found[0][at[first].get_indexer(names)], found[1][at[second].get_indexer(other)]


def baseline_latents(model, method: str, first: str, second: str, names) -> tuple[np.ndarray, np.ndarray]:
    """The same of a baseline."""
    found, at = model.baseline(method), pd.Index(model.adata.obs_names)
    other = np.char.add(OTHER, names.astype(str))
    return found[first][at.get_indexer(names)], found[second][at.get_indexer(other)]


def transfer(x, x_kind, y, y_kind, *, balanced: bool = False) -> float:
    """Accuracy of labels carried from x to y by 15 neighbours; unlabelled cells are left out."""
    x_kind, y_kind = np.asarray(x_kind, dtype=str), np.asarray(y_kind, dtype=str)
    a, b = ~np.isin(x_kind, NO_LABEL), ~np.isin(y_kind, NO_LABEL)
    predicted = KNeighborsClassifier(15).fit(x[a], x_kind[a]).predict(y[b])
    if balanced:
        return float(balanced_accuracy_score(y_kind[b], predicted))
    return float((predicted == y_kind[b]).mean())


def pair_scores(u, v, kind=None) -> dict:
    """FOSCTTM, share of partners among the ten nearest, label transfer both ways."""
    near = NearestNeighbors(n_neighbors=10).fit(v).kneighbors(u, return_distance=False)
    out = {
        "foscttm": float(metrics.foscttm(u, v)),
        "top10": float((near == np.arange(len(u))[:, None]).any(axis=1).mean()),
    }
    if kind is not None:
        out["transfer"] = (transfer(u, kind, v, kind) + transfer(v, kind, u, kind)) / 2
    return out


def bootstrap(mdata, n: int, seed: int):
    """Two sets of ``n`` cells drawn with replacement, counts thinned to 90 % so that no two are alike."""
    rng = np.random.default_rng(2000 + seed)
    parts = {}
    for i, (name, mod) in enumerate(mdata.mod.items()):
        rows = rng.integers(mod.n_obs, size=n)
        x = sp.csr_matrix(mod.X)[rows].astype(np.float32)
        x.data = rng.binomial(x.data.astype(np.int64), 0.9).astype(np.float32)
        x.eliminate_zeros()
        part = mod[rows].copy() if mod.n_vars < 200 else type(mod)(X=x, var=mod.var.copy())
        part.X = x
        part.obs = pd.DataFrame(index=[f"{name}_{i}_{j}" for j in range(n)])
        parts[name] = part
    return build_mudata(parts)
