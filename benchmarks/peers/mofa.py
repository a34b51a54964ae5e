"""MOFA+: missing profiles are missing values, batches are groups; log counts per median total, centred."""

from __future__ import annotations

import numpy as np
from _adapter import by_cell, main, present
from mofapy2.run.entry_point import entry_point

N_FEATURES = 2000


def fit(mdata, seed):
    batch = mdata.obs["batch"].astype(str).to_numpy() if "batch" in mdata.obs else np.full(mdata.n_obs, "0")
    groups = list(dict.fromkeys(batch))
    views = []
    for name in mdata.mod:
        x, has = by_cell(mdata, name).astype(float), present(mdata, name)
        total = x.sum(axis=1, keepdims=True)
        x = np.log1p(x * np.median(total[has]) / np.maximum(total, 1))
        x = x[:, np.argsort(-x[has].var(axis=0))[:N_FEATURES]]
        x[~has] = np.nan
        views.append([x[batch == g] for g in groups])
    model = entry_point()
    model.set_data_options(scale_views=True, use_float32=True)
    names = [[f"{g}_{i}" for i in np.flatnonzero(batch == g)] for g in groups]
    model.set_data_matrix(views, views_names=list(mdata.mod), groups_names=groups, samples_names=names)
    model.set_model_options(factors=15)
    model.set_train_options(seed=seed, convergence_mode="fast", quiet=True)
    model.build()
    model.run()
    z = model.model.nodes["Z"].getExpectation()
    out = np.empty((mdata.n_obs, z.shape[1]))
    out[np.concatenate([np.flatnonzero(batch == g) for g in groups])] = z
    return out


main(fit)
