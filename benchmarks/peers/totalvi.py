"""totalVI: RNA and protein. Cells without proteins form batches without proteins; cells without RNA get zeros."""

from __future__ import annotations

import numpy as np
import scvi
from _adapter import by_cell, main, present
from anndata import AnnData


def fit(mdata, seed):
    scvi.settings.seed = seed
    names = list(mdata.mod)
    if set(names) != {"rna", "adt"}:
        raise SystemExit(f"totalVI is for rna and adt, found {names}.")
    batch = mdata.obs["batch"].astype(str).to_numpy() if "batch" in mdata.obs else np.full(mdata.n_obs, "0")
    has = present(mdata, "adt")
    adata = AnnData(by_cell(mdata, "rna").astype(np.float32))
    adata.obs_names = mdata.obs_names
    adata.obs["batch"] = np.where(has, batch, batch + " without protein")
    adata.obsm["protein"] = by_cell(mdata, "adt").astype(np.float32)
    # totalVI takes a protein that is zero in a whole batch as not measured there
    scvi.model.TOTALVI.setup_anndata(adata, batch_key="batch", protein_expression_obsm_key="protein")
    model = scvi.model.TOTALVI(adata)
    model.train(enable_progress_bar=False)
    return model.get_latent_representation()


main(fit)
