"""What the scripts of all tools share: the mosaic in, the latent out."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import TYPE_CHECKING

import mudata
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def present(mdata: mudata.MuData, name: str) -> np.ndarray:
    """Return ``(n_obs,)`` whether each cell has a modality."""
    return mdata.obs_names.isin(mdata.mod[name].obs_names)


def by_cell(mdata: mudata.MuData, name: str) -> np.ndarray:
    """Return ``(n_obs, G)`` raw values, zeros where absent."""
    adata = mdata.mod[name]
    rows = adata.obs_names.get_indexer(mdata.obs_names)
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    return np.where(rows[:, None] >= 0, x[rows], 0)


def main(fit: Callable[[mudata.MuData, int], np.ndarray]) -> None:
    """Read the arguments ``IN OUT SEED``, fit, and write the latent and what it cost."""
    source, target, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    mudata.set_options(pull_on_update=False)
    mdata = mudata.read_h5mu(source)
    start = time.process_time()
    z = np.asarray(fit(mdata, seed), dtype=np.float32)
    used = {"cpu_s": time.process_time() - start, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    np.save(target, z)
    with open(target + ".json", "w") as file:
        json.dump(used, file)
