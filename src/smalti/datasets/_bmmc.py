"""The NeurIPS-2021 bone marrow sets, the common test bed of multimodal integration."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import mudata
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, OldFormatWarning
from anndata.io import read_elem

from smalti._mudata import build_mudata, no_pull
from smalti._validate import check_unique, shorten

from ._download import cache_directory, fetch, record_path

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)

BASE_URL = "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE194nnn/GSE194122/suppl"
URL_VARIABLE = "SMALTI_BMMC_URL"
FILE = "GSE194122_openproblems_neurips2021_{}_BMMC_processed.h5ad.gz"
FEATURE_TYPES = {"GEX": "rna", "ADT": "adt", "ATAC": "atac"}  # names in the published file and here
REQUIRED_OBS = ("batch", "cell_type")


def bmmc_cite(*, cache_dir: str | Path | None = None, base_url: str | None = None, progressbar: bool = True) -> MuData:
    """Load bone marrow cells with RNA and surface proteins (CITE-seq) of the NeurIPS-2021 competition.

    About 90,000 cells of twelve donors at four sites, all paired, annotated and free of doublets (Luecken et al. 2021).
    The first call downloads the set from the Gene Expression Omnibus (GSE194122) and converts it; later calls read the
    converted file. A download that breaks off goes on where it stopped. The publisher gives no checksum: that of the
    first download is recorded beside the file and required ever after.

    Parameters
    ----------
    cache_dir
        Folder for the download; by default the environment variable ``SMALTI_CACHE_DIR``, else the cache folder of the
        operating system.
    base_url
        Folder on another server with the same files; by default the environment variable ``SMALTI_BMMC_URL``, else
        Gene Expression Omnibus.
    progressbar
        Show progress of the download.

    Returns
    -------
    MuData with raw counts (CSR) in ``mdata["rna"]`` and ``mdata["adt"]``. ``mdata.obs`` has the published columns of
    all cells, among them the categorical ``batch`` (site and donor) and ``cell_type``. Names of proteins that are also
    names of genes carry a suffix, as published.

    Raises
    ------
    ConnectionError
        If the file is not in the cache and cannot be downloaded.
    OSError
        If the downloaded file is damaged.
    ValueError
        If the file is not what it was, or not built as published.

    References
    ----------
    Luecken et al. A sandbox for prediction and integration of DNA, RNA, and proteins in single cells.
    NeurIPS Datasets and Benchmarks (2021). Gene Expression Omnibus GSE194122.
    """
    return _load("cite", cache_dir=cache_dir, base_url=base_url, progressbar=progressbar)


def bmmc_multiome(
    *, cache_dir: str | Path | None = None, base_url: str | None = None, progressbar: bool = True
) -> MuData:
    """Load bone marrow nuclei with RNA and accessible chromatin (Multiome) of the NeurIPS-2021 competition.

    About 69,000 nuclei of donors at four sites with 13,431 genes and 116,490 regions, all paired. Everything else is as
    in :func:`bmmc_cite`; the modalities are ``mdata["rna"]`` and ``mdata["atac"]``.

    Parameters
    ----------
    cache_dir, base_url, progressbar
        See :func:`bmmc_cite`.

    Returns
    -------
    MuData with raw counts (CSR); ``batch``, ``cell_type`` and the other published columns in ``mdata.obs``.

    Raises
    ------
    ConnectionError, OSError, ValueError
        See :func:`bmmc_cite`.
    """
    return _load("multiome", cache_dir=cache_dir, base_url=base_url, progressbar=progressbar)


def _load(kind: str, *, cache_dir: str | Path | None, base_url: str | None, progressbar: bool) -> MuData:
    directory = cache_directory(cache_dir)
    converted = directory / f"bmmc_{kind}.h5mu"
    if not converted.exists():
        base = base_url or os.environ.get(URL_VARIABLE) or BASE_URL
        archive = fetch(f"{base.rstrip('/')}/{FILE.format(kind)}", directory=directory, progressbar=progressbar)
        # Made aside and moved at the end: an interrupted conversion leaves nothing that looks finished.
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            published, made = Path(folder) / "published.h5ad", Path(folder) / "converted.h5mu"
            _unpack(archive, published)
            logger.info("Converting %s; this is done once.", archive.name)
            mdata = convert(published)
            with no_pull():
                mudata.write_h5mu(made, mdata, compression="lzf")
            made.replace(converted)
    with no_pull():
        return mudata.read_h5mu(converted)


def _unpack(archive: Path, target: Path) -> None:
    try:
        with gzip.open(archive, "rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OSError(
            f"{archive} is damaged ({error}). Delete it and {record_path(archive).name} and call again."
        ) from error


def convert(path: str | Path) -> MuData:
    """Turn the published file, one table of all features, into a MuData of raw counts.

    Reads only what is kept, not the normalised copy of the counts.

    Parameters
    ----------
    path
        The ``.h5ad`` file: counts in ``layers["counts"]``, kinds of features in ``var["feature_types"]``.

    Raises
    ------
    ValueError
        If something is missing, or a kind of feature is not known.
    """
    with h5py.File(path, "r") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", OldFormatWarning)  # published in 2021
        layers = list(file["layers"]) if "layers" in file else []
        obs, var = read_elem(file["obs"]), read_elem(file["var"])
        for wanted, found, place in (
            (("counts",), layers, "layers"),
            (("feature_types",), list(var), "var"),
            (REQUIRED_OBS, list(obs), "obs"),
        ):
            missing = [key for key in wanted if key not in found]
            if missing:
                raise ValueError(
                    f"Expected {shorten(missing)} in `{place}` of {Path(path).name}, found {shorten(found)}."
                )
        counts = read_elem(file["layers/counts"])
    kinds = var["feature_types"].astype(str)
    unknown = sorted(set(kinds) - set(FEATURE_TYPES))
    if unknown:
        raise ValueError(f"Expected kinds of features {shorten(FEATURE_TYPES)}, found {shorten(unknown)} as well.")
    check_unique(obs.index, "Names of cells")
    check_unique(var.index, "Names of features")
    counts = counts if sp.issparse(counts) and counts.format == "csr" else sp.csr_matrix(counts)
    modalities = {}
    for kind, name in FEATURE_TYPES.items():
        here = (kinds == kind).to_numpy()
        if here.any():
            modalities[name] = AnnData(counts[:, here], obs=pd.DataFrame(index=obs.index), var=var[here].copy())
    for column in REQUIRED_OBS:
        obs[column] = obs[column].astype("category")
    mdata = build_mudata(modalities, obs=obs)
    mdata.uns["provenance"] = "Luecken et al., NeurIPS Datasets and Benchmarks 2021; GSE194122"
    return mdata
