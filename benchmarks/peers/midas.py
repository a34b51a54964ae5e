"""MIDAS: batches split by presence, as it pairs cells by position within a batch; settings of its quickstart."""

from __future__ import annotations

import contextlib
import tempfile

import lightning
import numpy as np
import scmidas
from _adapter import main, present
from mudata import MuData
from scmidas.config import load_config

SETTINGS = {"lr_net": 3e-4, "lr_dsc": 3e-4}
N_EPOCHS = 65
"""Both are those of `scmidas.integrate`, which its authors tuned for 1,600 blood cells with RNA and protein."""


def fit(mdata, seed):
    names = list(mdata.mod)
    if "atac" in names:
        raise SystemExit("MIDAS wants regions sorted by chromosome, which the tasks do not have.")
    has = {name: present(mdata, name) for name in names}
    batch = mdata.obs["batch"].astype(str).to_numpy() if "batch" in mdata.obs else np.full(mdata.n_obs, "0")
    batch = np.array([f"{b} {'+'.join(n for n in names if has[n][i])}" for i, b in enumerate(batch)])
    parts = {}
    for name in names:
        cells = mdata.obs_names[has[name]]
        part = mdata.mod[name][cells].copy()
        part.obs = part.obs[[]]
        part.obs["batch"] = batch[has[name]]
        parts[name] = part
    data = MuData(parts)
    lightning.seed_everything(seed, verbose=False)
    settings = load_config() | SETTINGS | {"num_workers": 0, "persistent_workers": False}  # twenty processes otherwise
    scmidas.MIDAS.setup_mudata(data, batch_key="batch")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it writes into the folder it runs in
        model = scmidas.MIDAS(data, configs=settings, batch_size=128, save_model_path=folder)
        model.train(max_epochs=N_EPOCHS, accelerator="cpu", devices=1, enable_progress_bar=False)
        z = np.asarray(model.get_latent_representation())
    return z[data.obs_names.get_indexer(mdata.obs_names)]


main(fit)
