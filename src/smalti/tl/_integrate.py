"""From a mosaic to clusters on a map in one call."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
from anndata import AnnData
from tqdm import tqdm

from smalti import model
from smalti._compat import umap_key
from smalti._validate import check_choice, check_count, check_positive, check_seed
from smalti.data import check_mudata, refuse_view

from ._catalogue import MODELS
from ._describe import describe_mosaic

if TYPE_CHECKING:
    from mudata import MuData

    from smalti.model.base import MosaicModel

logger = logging.getLogger(__name__)

MIN_CELLS = 10
"""Cells below which neither neighbours nor a map can be computed."""


def integrate(
    mdata: MuData,
    *,
    batch_key: str | None = None,
    labels_key: str | None = None,
    model_name: str | None = None,
    max_epochs: int | None = None,
    resolution: float = 1.0,
    random_state: int = 0,
    progress: bool = True,
) -> MosaicModel:
    """Choose a model, train it, and write latent, clusters and UMAP into the mosaic.

    The model is the one that :func:`smalti.tl.describe_mosaic` recommends. Which one, why, and how long training will
    take at most is said as it begins: in the log (level INFO), and above the progress bar where the log is not shown.
    All defaults are those of the model: for anything else, call the steps yourself, as the description prints them.

    Parameters
    ----------
    mdata
        The mosaic, raw values. Written: ``.obsm["X_<model>"]``, ``.obs["leiden"]``, ``.obsm["X_umap"]``, scanpy's
        neighbours, and ``.uns["integrate"]`` with model and reasons.
    batch_key, labels_key
        Columns of ``mdata.obs``.
    model_name
        Another model, as ``smalti models`` lists them.
    max_epochs
        Epochs at most; by the size of the data by default.
    resolution
        Of Leiden clustering; the larger, the more clusters.
    random_state
        Seed of everything.
    progress
        Show a progress bar, and say what is done.

    Returns
    -------
    The trained model.

    Raises
    ------
    ValueError
        If no model is for such data, or the one that is needs more than columns (links between features); the message
        has the reasons and the code that fits it.

    Examples
    --------
    >>> model = sm.tl.integrate(mdata, batch_key="donor")
    >>> sm.pl.latent(mdata, "clue", color=["leiden", "presence"])
    """
    check_positive(resolution, "resolution")
    check_seed(random_state)
    if max_epochs is not None:
        check_count(max_epochs, "max_epochs")
    check_mudata(mdata)
    refuse_view(mdata)
    if mdata.n_obs < MIN_CELLS:
        raise ValueError(
            f"Found {mdata.n_obs} cells, expected at least {MIN_CELLS}: fewer have no clusters and no map."
        )
    found = describe_mosaic(mdata, batch_key=batch_key, labels_key=labels_key).recommendation
    names = {entry.command: entry.name for entry in MODELS if entry.available}
    chosen = (
        found.model if model_name is None else names[check_choice(str(model_name).lower(), list(names), "model_name")]
    )
    reasons = " ".join(found.reasons) if model_name is None else "It was asked for."
    if chosen not in names.values():
        raise ValueError(f"No model of this version is for these data. {reasons}")
    if chosen == "UnpairedCCA":
        raise ValueError(f"{chosen} needs to know which features belong together. {reasons} Run:\n{found.code or ''}")
    _tell(f"{chosen}: {reasons}", progress)
    cls = getattr(model, chosen)
    cls.setup_mudata(mdata, batch_key=batch_key, labels_key=labels_key)
    fitted: MosaicModel = cls(mdata, random_state=random_state)
    fitted.train(max_epochs, progress=progress)
    key = f"X_{chosen.lower()}"
    mdata.obsm[key] = fitted.get_latent_representation()
    _cluster(mdata, key, resolution, random_state)
    mdata.uns["integrate"] = {"model": chosen, "reasons": reasons}
    return fitted


def _tell(text: str, shown: bool) -> None:
    logger.info(text)
    if shown and not logger.isEnabledFor(logging.INFO):
        tqdm.write(text)


def _cluster(mdata: MuData, key: str, resolution: float, random_state: int) -> None:
    """Write neighbours, clusters and UMAP, computed as scanpy does."""
    cells = AnnData(np.asarray(mdata.obsm[key]))
    cells.obs_names = mdata.obs_names
    cells.obsm[key] = cells.X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and umap about threads and seeds, which are set here
        sc.pp.neighbors(cells, n_neighbors=min(15, cells.n_obs - 1), use_rep=key, random_state=random_state)
        sc.tl.leiden(
            cells, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=random_state
        )
        sc.tl.umap(cells, random_state=random_state)
    mdata.obs["leiden"] = cells.obs["leiden"]
    mdata.obsm["X_umap"] = cells.obsm[umap_key(cells.obsm)]
    mdata.uns["neighbors"] = cells.uns["neighbors"]
    for name in ("distances", "connectivities"):
        mdata.obsp[name] = cells.obsp[name]
