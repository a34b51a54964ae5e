"""What people have becomes a MuData, or one sentence says what to do."""

from __future__ import annotations

import anndata as ad
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from _compare import assert_same, snapshot

import smalti as sm
from smalti._mudata import build_mudata, no_pull
from smalti._storable import write_mudata
from smalti.model import UnpairedCCA

CELLS = [f"c{i}" for i in range(30)]


def counts(p: int, name: str, cells=CELLS, dtype="float32", seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed + p)
    return ad.AnnData(
        sp.csr_matrix(rng.poisson(2, (len(cells), p)).astype(dtype)),
        obs=pd.DataFrame({"donor": np.arange(len(cells)) % 2}, index=cells),
        var=pd.DataFrame(index=[f"{name}{i}" for i in range(p)]),
    )


def latent(mdata: mudata.MuData) -> np.ndarray:
    UnpairedCCA.setup_mudata(mdata)
    model = UnpairedCCA(mdata, encoder="linear", options={"n_latent": 3, "n_permutations": 0, "accept": "always"})
    model.train(1, progress=False, accelerator="cpu")
    return model.get_latent_representation()


def test_several_anndata_are_joined_by_name_and_left_as_they_are():
    rna, adt = counts(9, "g"), counts(5, "p", CELLS[10:] + ["x1"])
    adt.obs["donor"] = adt.obs_names.map(lambda n: float(CELLS.index(n) % 2) if n in CELLS else 1.0)
    rna.obs["type"] = "T"
    before = [snapshot(a) for a in (rna, adt)]
    mdata = sm.from_anndata({"rna": rna, "adt": adt}, batch="donor", labels="type")
    assert (mdata.n_obs, list(mdata.mod)) == (31, ["rna", "adt"])
    assert sorted(set(mdata.obs["donor"].astype(str))) == ["0", "1"]
    assert mdata.obs["type"].notna().sum() == 30
    for a, old in zip((rna, adt), before, strict=True):
        assert_same(snapshot(a), old)


def test_layers_become_the_values():
    rna, adt = counts(9, "g"), counts(5, "p")
    rna.layers["counts"] = rna.X.copy()
    rna.X = rna.X.toarray() / 3
    mdata = sm.from_anndata({"rna": rna, "adt": adt}, layers={"rna": "counts"})
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), rna.layers["counts"].toarray())
    with pytest.raises(KeyError, match="no layer 'raw'"):
        sm.from_anndata({"rna": rna, "adt": adt}, layers={"rna": "raw"})


@pytest.mark.parametrize("as_table", [True, False])
def test_proteins_in_obsm_become_a_modality(as_table):
    rna, adt = counts(9, "g"), counts(5, "p")
    values = adt.X.toarray()
    rna.obsm["protein_expression"] = pd.DataFrame(values, index=CELLS, columns=adt.var_names) if as_table else values
    rna.obsm["X_pca"] = np.random.default_rng(0).normal(size=(30, 4))
    before = snapshot(rna)
    mdata = sm.from_anndata(rna)
    assert {name: mod.n_vars for name, mod in mdata.mod.items()} == {"rna": 9, "adt": 5}
    np.testing.assert_array_equal(mdata["adt"].X, values)
    assert_same(snapshot(rna), before)
    named = sm.from_anndata(rna, obsm={"surface": "protein_expression"})
    assert list(named.mod) == ["rna", "surface"]
    assert len(latent(mdata)) == 30


def test_kinds_of_features_become_modalities():
    both = ad.concat([counts(9, "g"), counts(5, "p")], axis=1)
    both.var["feature_types"] = ["Gene Expression"] * 9 + ["Antibody Capture"] * 5
    mdata = sm.from_anndata(both)
    assert {name: mod.n_vars for name, mod in mdata.mod.items()} == {"rna": 9, "adt": 5}


def test_one_modality_alone_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"holds one modality only.*from_anndata\(\{"):
        sm.from_anndata(counts(9, "g"))
    with pytest.raises(TypeError, match="found the type list"):
        sm.from_anndata([counts(9, "g")])
    with pytest.raises(TypeError, match="found int for 'rna'"):
        sm.from_anndata({"rna": 1})


def write_10x(path) -> None:
    """Write a file as Cell Ranger does."""
    x = sp.csc_matrix(sp.hstack([counts(9, "g").X, counts(5, "p").X]).T)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = x.data.astype("int32"), x.indices, x.indptr
        group["shape"], group["barcodes"] = np.array(x.shape), np.array(CELLS, dtype="S")
        features = group.create_group("features")
        names = np.array([f"f{i}" for i in range(14)], dtype="S")
        features["id"], features["name"], features["genome"] = names, names, np.array(["x"] * 14, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * 9 + ["Antibody Capture"] * 5, dtype="S")


@pytest.mark.parametrize("kind", ["h5mu", "h5ad", "h5", "zarr", "zarr of one"])
def test_files_of_every_usual_kind_are_read(kind, tmp_path):
    mdata = build_mudata({"rna": counts(9, "g"), "adt": counts(5, "p")})
    one = counts(9, "g")
    one.obsm["protein_expression"] = pd.DataFrame(counts(5, "p").X.toarray(), index=CELLS)
    one.obsm["protein_expression"].columns = [f"p{i}" for i in range(5)]
    path = tmp_path / f"data.{kind.split()[0]}"
    with no_pull():
        {
            "h5mu": lambda: write_mudata(mdata, path),
            "h5ad": lambda: one.write(path),
            "h5": lambda: write_10x(path),
            "zarr": lambda: mdata.write_zarr(path),
            "zarr of one": lambda: one.write_zarr(path),
        }[kind]()
    found = sm.read(path)
    assert {name: mod.shape for name, mod in found.mod.items()} == {"rna": (30, 9), "adt": (30, 5)}


def test_files_that_are_something_else_get_one_sentence(tmp_path):
    for name in ("x.h5mu", "x.h5ad", "x.h5"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a"):
            sm.read(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read as a zarr folder"):
        sm.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        sm.read(tmp_path / "nothing.h5mu")


@pytest.mark.parametrize("kind", ["dask", "dask of sparse", "backed", "float16", "float16 sparse", "int8"])
def test_values_that_are_not_in_memory_or_of_odd_types_give_the_same_latent(kind, tmp_path):
    da = pytest.importorskip("dask.array") if "dask" in kind else None
    mdata = build_mudata({"rna": counts(9, "g"), "adt": counts(5, "p")})
    expected = latent(mdata.copy())
    x = mdata["rna"].X
    if kind == "backed":
        write_mudata(mdata, tmp_path / "x.h5mu")
        with no_pull():
            mdata = mudata.read_h5mu(tmp_path / "x.h5mu", backed="r")
    else:
        mdata["rna"].X = {
            "dask": lambda: da.from_array(x.toarray(), chunks=(10, 9)),
            "dask of sparse": lambda: da.from_array(x.toarray(), chunks=(10, 9)).map_blocks(sp.csr_matrix),
            "float16": lambda: x.toarray().astype("float16"),
            "float16 sparse": lambda: _half(x),
            "int8": lambda: x.astype("int8"),
        }[kind]()
    np.testing.assert_allclose(latent(mdata), expected, atol=1e-4)


def _half(x: sp.csr_matrix) -> sp.csr_matrix:
    out = x.copy()
    out.data = out.data.astype("float16")
    return out


def test_nested_mudata_are_refused_with_what_to_do():
    inner = build_mudata({"rna": counts(9, "g"), "adt": counts(5, "p")})
    with no_pull():
        outer = mudata.MuData({"cite": inner, "atac": counts(7, "k")})
    with pytest.raises(TypeError, match="'cite' is itself a MuData"):
        UnpairedCCA.setup_mudata(outer)
