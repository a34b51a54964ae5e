"""The real mosaic that comes with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import mudata

from smalti._mudata import no_pull

if TYPE_CHECKING:
    from mudata import MuData


def pbmc_mosaic() -> MuData:
    """Load a real mosaic of blood cells, RNA and surface proteins; no network is needed.

    1,600 human peripheral blood mononuclear cells of four donors, 400 each: ``p1_0`` was measured in RNA only, ``p2_0``
    in proteins only, ``p3_0`` and ``p4_0`` in both. It is a small subset (500 variable genes) of a CITE-seq study
    (Hao et al. 2021), as prepared for MIDAS (He et al. 2024) and distributed with the package scmidas 0.3.0 under the
    MIT licence; the licence notice lies beside the file. Good for demos and tests, too small for conclusions.

    Returns
    -------
    A new MuData at every call, with raw counts (CSR, ``float32``) in

    - ``mdata["rna"]``: 1,200 cells by 500 genes,
    - ``mdata["adt"]``: 1,200 cells by 224 proteins,

    and, for all 1,600 cells, the categorical columns ``batch`` (4) and ``celltype`` (8) in ``mdata.obs``.

    References
    ----------
    - Hao et al. Integrated analysis of multimodal single-cell data. Cell 184 (2021),
      doi:10.1016/j.cell.2021.04.048. Gene Expression Omnibus GSE164378.
    - He et al. Mosaic integration and knowledge transfer of single-cell multimodal data with MIDAS. Nature
      Biotechnology 42 (2024), doi:10.1038/s41587-023-02040-y.

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.datasets.pbmc_mosaic()
    >>> mdata.n_obs, mdata["rna"].shape, mdata["adt"].shape
    (1600, (1200, 500), (1200, 224))
    """
    with as_file(files(__package__) / "_data" / "pbmc_mosaic.h5mu") as path, no_pull():
        return mudata.read_h5mu(path)
