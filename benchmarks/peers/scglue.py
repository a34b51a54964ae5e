"""CLUE of the package scglue (`SCCLUEModel`): cells of one name are pairs; its own rule of epochs, its defaults."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.remove(str(Path(__file__).resolve().parent))  # this file has the name of the package
import scanpy as sc
import scglue

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _adapter import main, present

N_COMPONENTS = 100


def fit(mdata, seed):
    scglue.config.CPU_ONLY = True
    adatas = {}
    for name in mdata.mod:
        cells = mdata.obs_names[present(mdata, name)]
        adata = mdata.mod[name][cells].copy()
        adata.obs = adata.obs[[]]
        if "batch" in mdata.obs:
            adata.obs["batch"] = mdata.obs["batch"].astype(str).loc[cells].to_numpy()
        n = min(N_COMPONENTS, min(adata.shape) - 1)
        if name == "atac":
            scglue.data.lsi(adata, n_components=n, n_iter=15)
            adata.obsm["X_input"] = adata.obsm["X_lsi"]
        else:
            counts = adata.X.copy()
            sc.pp.normalize_total(adata)
            sc.pp.log1p(adata)
            sc.pp.scale(adata)
            sc.tl.pca(adata, n_comps=n, random_state=seed)
            adata.obsm["X_input"], adata.X = adata.obsm["X_pca"], counts
        scglue.models.configure_dataset(
            adata, "NB", use_highly_variable=False, use_rep="X_input", use_obs_names=True,
            use_batch="batch" if "batch" in adata.obs else None,
        )  # fmt: skip
        adatas[name] = adata
    model = scglue.models.SCCLUEModel(adatas, random_seed=seed)
    model.compile()
    model.fit(adatas)
    total, number = 0.0, np.zeros((mdata.n_obs, 1))
    for name, adata in adatas.items():
        rows = adata.obs_names.get_indexer(mdata.obs_names)
        z = model.encode_data(name, adata)
        total = total + np.where(rows[:, None] >= 0, z[rows], 0)
        number += rows[:, None] >= 0
    return total / number


main(fit)
