"""A mosaic written out of many files is what joining them in memory gives, in another order of cells."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import smalti as sm
from smalti._mudata import build_mudata, no_pull
from smalti._storable import write_mudata
from smalti.data import Modality, open_mosaic, presence, write_mosaic
from smalti.model import CLUE

OUT = ("out.zarr", "out.h5mu")


def counts(cells, features, *, seed, sparse=True, high=1.0):
    x = np.random.default_rng(seed).poisson(high, (len(cells), len(features))).astype(np.float32)
    adata = AnnData(sp.csr_matrix(x) if sparse else x, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=features))
    adata.obs["n"] = np.arange(len(cells))
    adata.obs["lane"] = pd.Categorical(["x", "y"] * (len(cells) // 2) + ["x"] * (len(cells) % 2))
    return adata


def names(prefix, n, start=0):
    return [f"{prefix}{i}" for i in range(start, start + n)]


@pytest.fixture
def files(tmp_path):
    """Three samples, of three kinds of files and with panels of their own; what they hold in memory, by sample."""
    one = {
        "rna": counts(names("a", 40), names("g", 30), seed=0),
        "adt": counts(names("a", 25, 15), names("p", 6), seed=1, sparse=False, high=40.0),
    }
    one["rna"].var["length"] = np.arange(30)
    two = {
        "rna": counts(names("b", 33), names("g", 25, 10), seed=2),
        "atac": counts(names("b", 33), names("k", 50), seed=3, high=0.1),
    }
    three = {"adt": counts(names("c", 20), names("p", 6), seed=4, sparse=False, high=40.0)}
    mdata = build_mudata(one)
    mdata.obs["donor"] = "d1"
    write_mudata(mdata, tmp_path / "one.h5mu")
    both = AnnData(
        sp.hstack([two["rna"].X, two["atac"].X]).tocsr(),
        obs=two["rna"].obs,
        var=pd.DataFrame(index=[*two["rna"].var_names, *two["atac"].var_names]),
    )
    both.var["feature_types"] = ["Gene Expression"] * 25 + ["Peaks"] * 50
    both.write_h5ad(tmp_path / "two.h5ad")
    three["adt"].write_h5ad(tmp_path / "three.h5ad")
    paths = {
        "one": tmp_path / "one.h5mu",
        "two": tmp_path / "two.h5ad",
        "three": {"adt": tmp_path / "three.h5ad"},
    }
    return paths, {"one": one, "two": two, "three": three}


def assert_holds(mdata, samples):
    """Every value of every cell and feature is where its names say, and unmeasured ones are zero."""
    for name, mod in mdata.mod.items():
        x = mod.X[:] if not hasattr(mod.X, "to_memory") else mod.X.to_memory()
        table = pd.DataFrame(x.toarray() if sp.issparse(x) else x, index=mod.obs_names, columns=mod.var_names)
        parts = [sample[name] for sample in samples.values() if name in sample]
        assert mod.n_obs == sum(part.n_obs for part in parts)
        expected = pd.concat([part.to_df() for part in parts]).fillna(0)
        assert set(table.columns) == set(expected.columns)
        pd.testing.assert_frame_equal(table.loc[expected.index, expected.columns], expected, check_dtype=False)


@pytest.mark.parametrize("out", OUT)
@pytest.mark.parametrize("bucket", [2**27, 3000])
def test_it_holds_what_joining_in_memory_gives(files, tmp_path, out, bucket, monkeypatch):
    monkeypatch.setattr("smalti.data._write.BUCKET_BYTES", bucket)
    monkeypatch.setattr("smalti._disk.CHUNK_ROWS", 7)
    monkeypatch.setattr("smalti.data._store.CHUNK", 64)
    monkeypatch.setattr("smalti.data._store.SHARD", 256)
    paths, samples = files
    mdata = write_mosaic(paths, tmp_path / out)
    assert_holds(mdata, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = sm.read(tmp_path / out)  # any other reader understands it
    assert_holds(whole, samples)
    assert list(whole.obs_names) == list(mdata.obs_names)
    assert list(whole.mod) == ["rna", "adt", "atac"]
    assert mdata["rna"].X.dtype == np.uint8
    cells = presence(mdata, ["rna", "adt", "atac"])
    assert {tuple(row): int(n) for row, n in zip(*np.unique(cells, axis=0, return_counts=True), strict=True)} == {
        (True, True, False): 25,
        (True, False, False): 15,
        (True, False, True): 33,
        (False, True, False): 20,
    }
    assert not list(tmp_path.glob(".*"))


def test_tables_are_joined(files, tmp_path):
    paths, _ = files
    obs = write_mosaic(paths, tmp_path / "out.h5mu").obs
    assert obs["source"].value_counts().to_dict() == {"one": 40, "two": 33, "three": 20}
    assert obs.loc["a3", "donor"] == "d1"
    assert pd.isna(obs.loc["c3", "donor"])
    assert obs.loc["b5", "n"] == 5
    assert obs.loc["c5", "lane"] == "y"
    assert obs.loc["a20", "n"] == 20
    assert obs.loc["a20", "adt:n"] == 5  # modalities count differently
    assert pd.isna(obs.loc["b5", "adt:n"])
    var = open_mosaic(tmp_path / "out.h5mu")["rna"].var
    assert var.loc["g3", "length"] == 3


@pytest.mark.parametrize("out", OUT)
def test_panels_become_masks_that_setup_reads(files, tmp_path, out):
    paths, _ = files
    mdata = write_mosaic(paths, tmp_path / out)
    assert list(mdata["rna"].var_names) == names("g", 35)
    table = mdata["rna"].varm["measured"]
    assert table["one"].tolist() == [True] * 30 + [False] * 5
    assert table["two"].tolist() == [False] * 10 + [True] * 25
    assert "measured" not in mdata["adt"].varm
    spec = {"rna": Modality(likelihood="nb", feature_mask="measured"), "adt": "nb", "atac": "nb"}
    CLUE.setup_mudata(mdata, spec, batch_key="source")


def test_cells_are_shuffled_within_groups_of_the_same_modalities(files, tmp_path):
    paths, _ = files
    first = write_mosaic(paths, tmp_path / "1.h5mu")
    again = write_mosaic(paths, tmp_path / "2.h5mu")
    other = write_mosaic(paths, tmp_path / "3.h5mu", random_state=1)
    assert list(first.obs_names) == list(again.obs_names) != list(other.obs_names)
    codes = presence(first, ["rna", "adt", "atac"]) @ [4, 2, 1]
    assert 1 + np.count_nonzero(np.diff(codes)) == 4  # every group lies in one piece
    within = first.obs_names[codes == 5]
    assert list(within) != sorted(within)
    for name in first.mod:  # and so does every modality: its rows rise with cells
        rows = sm.data.row_maps(first)[name]
        assert (np.diff(rows[rows >= 0]) == 1).all()


def test_names_that_repeat_between_samples_get_their_sample_in_front(tmp_path):
    for sample in ("s1", "s2"):
        parts = {m: counts(names("c", 9), names(m, 5), seed=0) for m in ("rna", "adt")}
        write_mudata(build_mudata(parts), tmp_path / f"{sample}.h5mu")
    mdata = write_mosaic([tmp_path / "s1.h5mu", tmp_path / "s2.h5mu"], tmp_path / "out.zarr")
    assert set(mdata.obs_names) == {f"{sample}_c{i}" for sample in ("s1", "s2") for i in range(9)}
    assert presence(mdata).all()  # and modalities of a sample still find each other
    assert (mdata.obs["source"] == mdata.obs_names.str[:2]).all()


def write_10x(path, cells, genes, other, kind="Peaks"):
    """Write a matrix as Cell Ranger 3 and later do: its columns are the cells."""
    x = sp.hstack([sp.csr_matrix(counts(cells, genes, seed=0).X), other.X]).tocsr().astype(np.int32)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for key, value in (("data", x.data), ("indices", x.indices), ("indptr", x.indptr), ("shape", x.shape[::-1])):
            group[key] = value
        group["barcodes"] = np.array(cells, dtype="S")
        features = group.create_group("features")
        features["id"] = features["name"] = np.array([*genes, *other.var_names], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * len(genes) + [kind] * other.n_vars, dtype="S")
    return x.toarray()


def test_files_of_10x_are_taken_apart(tmp_path):
    proteins = counts(names("c", 12), names("p", 3), seed=1)
    x = write_10x(tmp_path / "lane.h5", names("c", 12), [*names("g", 4), "g0"], proteins, "Antibody Capture")
    mdata = write_mosaic([tmp_path / "lane.h5"], tmp_path / "out.zarr")
    assert list(mdata["rna"].var_names) == [*names("g", 4), "g0-1"]
    expected = x[mdata["adt"].obs_names.str[1:].astype(int)]
    np.testing.assert_array_equal(mdata["adt"].X.to_memory().toarray(), expected[:, 5:])
    np.testing.assert_array_equal(mdata["rna"].X.to_memory().toarray(), expected[:, :5])


@pytest.mark.parametrize(("top", "dtype"), [(200, np.uint8), (300, np.uint16), (70_000, np.uint32), (0.5, np.float32)])
def test_counts_take_as_little_room_as_they_need(tmp_path, top, dtype):
    rna = counts(names("c", 9), names("g", 5), seed=0)
    rna.X[0, 0] = top
    write_mudata(build_mudata({"rna": rna, "adt": counts(names("c", 9), ["p"], seed=1)}), tmp_path / "s.h5mu")
    mdata = write_mosaic([tmp_path / "s.h5mu"], tmp_path / "out.zarr")
    assert mdata["rna"].X.dtype == dtype
    assert mdata["rna"].X.to_memory()[mdata["rna"].obs_names.get_loc("c0"), 0] == np.float32(top)


def test_a_layer_stands_in_for_x_and_columns_are_turned_into_rows(tmp_path):
    parts = {m: counts(names("c", 9), names(m, 5), seed=0) for m in ("rna", "adt")}
    for part in parts.values():
        part.layers["counts"] = part.X.tocsc()
        part.X = sp.csr_matrix(np.log1p(part.X.toarray()))
    write_mudata(build_mudata(parts), tmp_path / "s.h5mu")
    mdata = write_mosaic([tmp_path / "s.h5mu"], tmp_path / "out.zarr", layers="counts")
    np.testing.assert_array_equal(
        mdata["rna"].X.to_memory().toarray(), parts["rna"][mdata["rna"].obs_names].layers["counts"].toarray()
    )
    mdata = write_mosaic([tmp_path / "s.h5mu"], tmp_path / "out.zarr", layers={"adt": "counts"})
    assert mdata["rna"].X.dtype == np.float32
    assert mdata["adt"].X.dtype == np.uint8
    with pytest.raises(KeyError, match="'raw' not found"):
        write_mosaic([tmp_path / "s.h5mu"], tmp_path / "out.zarr", layers={"adt": "raw"})
    with pytest.raises(KeyError, match="`layers`: 'atac' not found"):
        write_mosaic([tmp_path / "s.h5mu"], tmp_path / "out.zarr", layers={"atac": "raw"})


def test_mistakes_get_one_sentence(files, tmp_path):
    paths, _ = files
    (tmp_path / "odd.h5mu").write_text("hello")
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.txt").write_text("all of it")
    cases = [
        (FileNotFoundError, "There is no file", {"paths": [tmp_path / "nothing.h5ad"]}),
        (ValueError, "cannot be read as a .h5ad", {"paths": [tmp_path / "odd.h5mu"]}),
        (ValueError, "holds one modality only; say which", {"paths": [tmp_path / "three.h5ad"]}),
        (ValueError, "at least two modalities, found 'adt'", {"paths": {"three": paths["three"]}}),
        (ValueError, "to end in .zarr or .h5mu", {"out": tmp_path / "out.h5ad"}),
        (ValueError, "lies in, one of the files to read", {"out": paths["one"]}),
        (ValueError, "has a column 'donor'", {"source_key": "donor"}),
        (TypeError, "to be several files", {"paths": paths["one"]}),
        (ValueError, "at least one file", {"paths": []}),
        (FileExistsError, "other things in it", {"out": tmp_path / "mine.zarr"}),
    ]
    for error, message, changed in cases:
        with pytest.raises(error, match=message):
            write_mosaic(**{"paths": paths, "out": tmp_path / "out.zarr", **changed})
    assert not (tmp_path / "out.zarr").exists()
    assert (tmp_path / "mine.zarr" / "thesis.txt").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("out", OUT)
def test_what_was_there_stays_if_writing_fails(files, tmp_path, out, monkeypatch):
    paths, samples = files
    write_mosaic(paths, tmp_path / out)
    with monkeypatch.context() as patch:
        patch.setattr("smalti.data._store.MatrixWriter.close", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_mosaic(paths, tmp_path / out)
    assert_holds(open_mosaic(tmp_path / out), samples)
    assert not list(tmp_path.glob(".*"))
    assert_holds(write_mosaic(paths, tmp_path / out), samples)  # and a later one takes its place


def test_zarr_is_of_format_3_in_shards(files, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    write_mosaic(files[0], tmp_path / "out.zarr")
    data = zarr.open_group(tmp_path / "out.zarr", mode="r")["mod/rna/X/data"]
    assert data.metadata.zarr_format == 3
    assert data.shards is not None


def test_zarr_folders_are_read_too(files, tmp_path):
    _, samples = files
    with no_pull(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_mudata(samples["one"]).write_zarr(tmp_path / "one.zarr")
        samples["three"]["adt"].write_zarr(tmp_path / "three.zarr")
    paths = {"one": tmp_path / "one.zarr", "three": {"adt": tmp_path / "three.zarr"}}
    assert_holds(write_mosaic(paths, tmp_path / "out.zarr"), {key: samples[key] for key in paths})


def test_the_page_of_the_user_guide_runs(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "user_guide" / "larger_than_memory.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    (tmp_path / "donor1").mkdir()
    cells, rna = names("c", 70), names("g", 12)
    atac = counts(cells, names("k", 20), seed=1, high=0.3)
    write_10x(tmp_path / "donor1" / "filtered_feature_bc_matrix.h5", cells, rna, atac)
    write_mudata(build_mudata({"rna": counts(cells, rna, seed=2), "atac": atac}), tmp_path / "donor2.h5mu")
    counts(cells, rna, seed=3).write_h5ad(tmp_path / "donor3_rna.h5ad")
    atac.write_h5ad(tmp_path / "donor3_atac.h5ad")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CLUE, "default_steps", 2)
    space: dict = {}
    exec(compile(code, "larger_than_memory.md", "exec"), space)
    assert space["mdata"].obsm["X_clue"].shape[0] == 210
    assert anndata.io.read_zarr(tmp_path / "atac.zarr").shape == (210, 20)
