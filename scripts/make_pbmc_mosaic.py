"""Make ``src/smalti/datasets/_data/pbmc_mosaic.h5mu`` from the wheel of scmidas 0.3.0 (MIT).

pip download --no-deps scmidas==0.3.0
python scripts/make_pbmc_mosaic.py scmidas-0.3.0-py3-none-any.whl
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import anndata
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import typer

from smalti._mudata import build_mudata, no_pull

MEMBER = "scmidas/data/quickstart_pbmc_mosaic.h5mu"
LICENCE = "scmidas-0.3.0.dist-info/licenses/LICENSE"
MD5 = "d35e65c4d3213660ffdff5300ae73a46"
DATA = Path(__file__).parents[1] / "src" / "smalti" / "datasets" / "_data"


def main(wheel: Path, target: Annotated[Path, typer.Argument()] = DATA / "pbmc_mosaic.h5mu") -> None:
    """Read the data set out of WHEEL and write it, compressed and with complete labels, to TARGET."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        content = archive.read(MEMBER)
        found = hashlib.md5(content).hexdigest()
        if found != MD5:
            raise typer.BadParameter(
                f"{MEMBER} has md5 {found}, expected {MD5}: this is not the wheel of scmidas 0.3.0."
            )
        target.with_name("LICENSE.scmidas.txt").write_bytes(archive.read(LICENCE))
        original = Path(folder) / "original.h5mu"
        original.write_bytes(content)
        with no_pull():
            old = mudata.read_h5mu(original)

    modalities, tables = {}, []
    for name, adata in old.mod.items():
        x = sp.csr_matrix(adata.X, dtype=np.float32)
        x.sort_indices()
        names = pd.DataFrame(index=adata.var_names.astype(str))
        modalities[name] = anndata.AnnData(x, obs=pd.DataFrame(index=adata.obs_names.astype(str)), var=names)
        tables.append(adata.obs[["batch", "celltype"]].astype(str))
    obs = pd.concat(tables)
    obs = obs[~obs.index.duplicated()].astype("category")
    new = build_mudata(modalities, obs=obs)
    new.uns["provenance"] = (
        "scmidas 0.3.0 (MIT), quickstart_pbmc_mosaic; He et al., Nature Biotechnology 2024; "
        "data of Hao et al., Cell 2021, GSE164378"
    )
    with no_pull():
        mudata.write_h5mu(target, new, compression="gzip", compression_opts=9)


if __name__ == "__main__":
    typer.run(main)
