from __future__ import annotations

import gzip

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from _server import FileServer

from smalti.data import presence
from smalti.datasets import bmmc_cite, bmmc_multiome

FILE = "GSE194122_openproblems_neurips2021_{}_BMMC_processed.h5ad.gz"
LOADERS = {"cite": (bmmc_cite, "ADT", "adt"), "multiome": (bmmc_multiome, "ATAC", "atac")}


def published(kind, n_obs=40):
    """A table built like the published one: normalised values in X, counts in a layer, two kinds of features."""
    rng = np.random.default_rng(1)
    kinds = np.array(["GEX"] * 12 + [LOADERS[kind][1]] * 7)
    counts = sp.csr_matrix(rng.poisson(0.8, (n_obs, len(kinds))).astype(np.float32))
    adata = anndata.AnnData(sp.csr_matrix(np.log1p(counts.toarray()) / 3))
    adata.layers["counts"] = counts
    adata.obs_names = [f"ACGT{i:03d}-1-s{1 + i % 3}d1" for i in range(n_obs)]
    adata.var_names = [f"F{i}" for i in range(len(kinds))]
    adata.var["feature_types"] = pd.Categorical(kinds)
    adata.var["gene_id"] = [f"ENSG{i:05d}" for i in range(len(kinds))]
    adata.obs["GEX_n_genes_by_counts"] = rng.integers(100, 900, n_obs)
    adata.obs["cell_type"] = pd.Categorical(rng.choice(["CD14+ Mono", "NK", "Plasma cell"], n_obs))
    adata.obs["batch"] = pd.Categorical([f"s{1 + i % 3}d1" for i in range(n_obs)])
    adata.obs["Site"] = pd.Categorical([f"site{1 + i % 3}" for i in range(n_obs)])
    adata.obs["DonorNumber"] = pd.Categorical(["donor1"] * n_obs)
    adata.obsm["GEX_X_pca"] = rng.normal(size=(n_obs, 3))
    return adata


def packed(adata, folder, *, old_style=False):
    path = folder / "made.h5ad"
    adata.write_h5ad(path)
    if old_style:
        as_written_in_2021(path)
    return gzip.compress(path.read_bytes())


def as_written_in_2021(path):
    """Store categorical columns as anndata 0.7 did: codes beside a shared group of categories."""
    with h5py.File(path, "r+") as file:
        for name in ("obs", "var"):
            frame = file[name]
            frame.attrs["encoding-version"] = "0.1.0"
            for column in [key for key in frame if isinstance(frame[key], h5py.Group)]:
                group = frame[column]
                if "values" in group:  # strings of anndata 0.13, which were a plain array then
                    values = group["values"][:]
                    del frame[column]
                    frame.create_dataset(column, data=values, dtype=h5py.string_dtype())
                    continue
                codes, categories = group["codes"][:], group["categories"][:]
                del frame[column]
                stored = frame.require_group("__categories").create_dataset(
                    column, data=categories, dtype=h5py.string_dtype()
                )
                stored.attrs["ordered"] = False
                frame.create_dataset(column, data=codes).attrs["categories"] = stored.ref
            for key in frame:
                for attribute in ("encoding-type", "encoding-version"):
                    frame[key].attrs.pop(attribute, None)


@pytest.mark.parametrize("old_style", [False, True])
@pytest.mark.parametrize("kind", LOADERS)
def test_the_table_of_all_features_becomes_two_modalities_of_raw_counts(tmp_path, kind, old_style):
    load, feature_type, name = LOADERS[kind]
    adata = published(kind)
    with FileServer({FILE.format(kind): packed(adata, tmp_path, old_style=old_style)}) as server:
        mdata = load(cache_dir=tmp_path / "cache", base_url=server.url, progressbar=False)
    assert list(mdata.mod) == ["rna", name]
    assert presence(mdata).all()
    assert mdata.obs_names.tolist() == adata.obs_names.tolist()
    for modality, kind_of_feature in (("rna", "GEX"), (name, feature_type)):
        here = (adata.var["feature_types"] == kind_of_feature).to_numpy()
        x = mdata[modality].X
        assert isinstance(x, sp.csr_matrix)
        assert (x != adata.layers["counts"][:, here]).nnz == 0
        assert mdata[modality].var_names.tolist() == adata.var_names[here].tolist()
        assert mdata[modality].var["gene_id"].tolist() == adata.var["gene_id"][here].tolist()
    assert list(mdata.obs) == list(adata.obs)
    for column in adata.obs:
        assert mdata.obs[column].tolist() == adata.obs[column].tolist()
    for column in ("batch", "cell_type"):
        assert mdata.obs[column].dtype == "category"


def test_the_second_call_needs_no_server_and_the_cache_holds_no_leftovers(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE_DIR", str(tmp_path / "cache"))
    with FileServer({FILE.format("cite"): packed(published("cite"), tmp_path)}) as server:
        monkeypatch.setenv("SMALTI_BMMC_URL", server.url + "/")
        first = bmmc_cite(progressbar=False)
        assert len(server.requests) == 1
    second = bmmc_cite(progressbar=False)
    assert (first["adt"].X != second["adt"].X).nnz == 0
    archive = FILE.format("cite")
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert names == sorted([archive, f"{archive}.json", "bmmc_cite.h5mu"])


def test_a_damaged_archive_is_named_and_leaves_nothing_converted(tmp_path):
    whole = packed(published("cite"), tmp_path)
    with (
        FileServer({FILE.format("cite"): whole[: len(whole) // 2]}) as server,
        pytest.raises(OSError, match="is damaged.*Delete it"),
    ):
        bmmc_cite(cache_dir=tmp_path / "cache", base_url=server.url, progressbar=False)
    assert not (tmp_path / "cache" / "bmmc_cite.h5mu").exists()


def test_without_a_network_the_error_names_the_address(tmp_path):
    with pytest.raises(ConnectionError, match="Could not download http://127.0.0.1:9/GSE194122_openproblems"):
        bmmc_multiome(cache_dir=tmp_path, base_url="http://127.0.0.1:9", progressbar=False)


def spoil_layer(adata):
    del adata.layers["counts"]


def spoil_kinds(adata):
    adata.var["feature_types"] = ["HTO"] + ["GEX"] * (adata.n_vars - 1)


def spoil_batch(adata):
    del adata.obs["batch"]


def spoil_names(adata):
    adata.obs_names = ["same"] * 2 + list(adata.obs_names[2:])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_layer, "Expected 'counts' in `layers`"),
        (spoil_kinds, "found 'HTO' as well"),
        (spoil_batch, "Expected 'batch' in `obs`"),
        (spoil_names, "Names of cells are not unique: 'same'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_a_table_that_is_not_built_as_published_is_refused(tmp_path, spoil, message):
    adata = published("cite")
    spoil(adata)
    with (
        FileServer({FILE.format("cite"): packed(adata, tmp_path)}) as server,
        pytest.raises(ValueError, match=message),
    ):
        bmmc_cite(cache_dir=tmp_path / "cache", base_url=server.url, progressbar=False)
