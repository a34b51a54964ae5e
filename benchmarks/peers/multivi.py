"""MULTIVI: RNA with chromatin or protein; what a cell has is told by zeros and by its batch."""

from __future__ import annotations

import numpy as np
import scvi
from _adapter import by_cell, main, present
from anndata import AnnData
from mudata import MuData


def fit(mdata, seed):
    scvi.settings.seed = seed
    n = {name: adata.n_vars for name, adata in mdata.mod.items()}
    second = next(name for name in n if name != "rna")
    batch = mdata.obs["batch"].astype(str).to_numpy() if "batch" in mdata.obs else np.full(mdata.n_obs, "0")
    if second != "atac":  # a protein that is zero in a whole batch is taken as not measured there
        batch = np.where(present(mdata, second), batch, batch + " without protein")
    parts = {}
    for name, adata in mdata.mod.items():
        part = AnnData(by_cell(mdata, name).astype(np.float32))
        part.obs_names, part.var_names = mdata.obs_names, adata.var_names
        part.obs["batch"] = batch
        parts[name] = part
    whole = MuData({name: parts[name] for name in ("rna", second)})  # in its own order: it cannot change it
    layer = "atac_layer" if second == "atac" else "protein_layer"
    modalities = {"rna_layer": "rna", "batch_key": "rna", layer: second}
    scvi.model.MULTIVI.setup_mudata(whole, batch_key="batch", rna_layer=None, modalities=modalities)
    model = scvi.model.MULTIVI(whole, n_genes=n["rna"], n_regions=n.get("atac", 0))
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


main(fit)
