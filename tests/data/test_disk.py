"""Data that stay on disk: every batch, check and latent is that of the same data in memory."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from _factories import make_mosaic
from anndata import AnnData

from smalti._disk import DiskMatrix, rows_to_fit
from smalti._disk_formats import fast_codecs
from smalti._mudata import build_mudata, no_pull
from smalti._storable import write_mudata
from smalti.data import Modality, open_mosaic, stored_matrix
from smalti.model import CLUE
from smalti.nn import SparseRows
from smalti.pp import LSI
from smalti.select._values import Values
from smalti.train import StreamedBatches

PLACES = ("h5mu", "backed", "zarr")


def put(mdata, folder, place):
    """Write a mosaic and open it where it lies."""
    if place == "zarr":
        with no_pull(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mdata.write_zarr(folder / "x.zarr")
        return open_mosaic(folder / "x.zarr")
    write_mudata(mdata, folder / "x.h5mu")
    if place == "h5mu":
        return open_mosaic(folder / "x.h5mu")
    with no_pull():
        return mudata.read_h5mu(folder / "x.h5mu", backed="r")


def setup(mdata, modalities=None):
    CLUE.setup_mudata(mdata, modalities or {"a": "nb", "b": "poisson", "c": "gaussian"}, batch_key="batch")
    return CLUE._get_most_recent_anndata_manager(mdata)


def dense(block, n_features):
    if not isinstance(block, SparseRows):
        return block.numpy()
    csr = (block.values.numpy(), block.indices.numpy(), block.indptr.numpy())
    return sp.csr_matrix(csr, shape=(block.n_rows, n_features)).toarray()


def assert_same(batch, expected, mdata):
    for key in ("batch", "labels", "present", "index"):
        np.testing.assert_array_equal(batch[key], expected[key])
    for part in ("values", "components"):
        assert batch[part].keys() == expected[part].keys()
        for name, block in expected[part].items():
            assert type(batch[part][name]) is type(block)
            width = mdata[name].n_vars
            np.testing.assert_allclose(dense(batch[part][name], width), dense(block, width), rtol=1e-6)
    for name, gone in expected["missing"].items():
        np.testing.assert_array_equal(batch["missing"][name], gone)
    assert batch["missing"].keys() == expected["missing"].keys()


def spoilt():
    """A mosaic with missing values, dense and sparse, and an artefact."""
    mdata = make_mosaic()
    rng = np.random.default_rng(1)
    c = np.array(mdata["c"].X, dtype=np.float32)
    c[rng.random(c.shape) < 0.1] = np.nan
    mdata["c"].X = c
    a = sp.csr_matrix(mdata["a"].X, dtype=np.float32)
    a.data[::17] = np.nan
    a.data[3] = 1e6
    mdata["a"].X = a
    return mdata


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["clean", "spoilt"])
def test_every_batch_is_that_of_the_data_in_memory(place, kind, tmp_path):
    mdata = make_mosaic(storage={"b": "dense"}) if kind == "clean" else spoilt()
    lazy = put(mdata, tmp_path, place)
    assert list(lazy.obs_names) == list(mdata.obs_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the artefact
        here, there = setup(mdata), setup(lazy)
    assert there.on_disk
    assert not here.on_disk
    for name in "abc":
        state, expected = (m.get_state_registry(f"x_{name}") for m in (there, here))
        assert state["count_limit"] == expected["count_limit"]
        np.testing.assert_allclose(state["levels"], expected["levels"], rtol=1e-5)
    memory, disk = here.create_torch_dataset(), there.create_torch_dataset()
    rng = np.random.default_rng(0)
    loaded = disk.loaded(np.arange(0, mdata.n_obs, 2))
    for _ in range(5):
        cells = rng.permutation(mdata.n_obs)[:20]
        assert_same(disk[cells], memory[cells], mdata)
        even = 2 * (cells // 2)
        assert_same(loaded[even], memory[even], mdata)


def test_nothing_is_read_as_a_whole(tmp_path, monkeypatch):
    mdata = make_mosaic(n_obs=400)
    lazy = put(mdata, tmp_path, "zarr")
    monkeypatch.setattr("smalti._disk.CHUNK_ROWS", 50)
    largest = []
    take = DiskMatrix.iter_chunks

    def watched(self, *args, **kwargs):
        for rows, piece in take(self, *args, **kwargs):
            largest.append(piece.shape[0])
            yield rows, piece

    monkeypatch.setattr(DiskMatrix, "iter_chunks", watched)
    monkeypatch.setattr("smalti.data._values._in_memory", pytest.fail)
    setup(lazy)
    assert max(largest) <= 50
    assert sum(largest) == sum(mod.n_obs for mod in lazy.mod.values())  # once


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: np.where(np.arange(len(x))[:, None] == 5, np.inf, x), "infinite values, first in cells"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 5, np.nan, x), r"only missing values \(NaN\) in 1 cells"),
        (lambda x: np.where(np.arange(x.shape[1]) == 2, np.nan, x), "1 features that are missing"),
        (lambda x: x - 3, "values are negative"),
        (lambda x: x + 0.5, "values are not integers"),
        (lambda x: np.ones_like(x) * 2, "the same values in all of its"),
    ],
)
@pytest.mark.parametrize("sparse", [True, False])
def test_values_are_refused_in_the_same_words(spoil, message, sparse, tmp_path):
    mdata = make_mosaic()
    x = spoil(mdata["a"].X.toarray().astype(np.float32))
    mdata["a"].X = sp.csr_matrix(x) if sparse else x
    said = []
    for data in (mdata, put(mdata, tmp_path, "h5mu")):
        with pytest.raises(ValueError, match=message) as error:
            setup(data)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_what_is_inferred_is_that_of_the_data_in_memory(tmp_path, capsys):
    mdata = make_mosaic()
    mdata["a"].X = (mdata["a"].X > 0).astype(np.float32)
    mdata["b"].layers["raw"] = mdata["b"].X.copy()
    mdata["b"].X = sp.csr_matrix(np.log1p(mdata["b"].X.toarray()))
    said = []
    for data in (mdata, put(mdata, tmp_path, "zarr")):
        with pytest.warns(UserWarning, match="layer 'raw' does"):
            CLUE.setup_mudata(data, batch_key="batch")
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert "'bernoulli'" in said[0]


def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    import tracemalloc

    monkeypatch.setattr("smalti._disk.CHUNK_VALUES", 100_000)
    n, per_cell = 4000, 500
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 30_000, (n, per_cell)), axis=1).ravel().astype(np.int32)
    x = sp.csr_matrix((np.ones(n * per_cell, np.float32), columns, np.arange(n + 1) * per_cell), (n, 30_000))
    x.sum_duplicates()
    cells = [f"c{i}" for i in range(n)]
    parts = {"a": AnnData(x), "b": AnnData(np.ones((n, 2), np.float32))}
    parts["b"].X[::2] = 3
    for part in parts.values():
        part.obs_names = cells
    parts["b"].var_names = ["b0", "b1"]
    lazy = put(build_mudata(parts), tmp_path, "h5mu")
    size = x.data.nbytes + x.indices.nbytes
    del x, parts, columns
    tracemalloc.start()
    CLUE.setup_mudata(lazy, {"a": "bernoulli", "b": "nb"})
    dataset = CLUE._get_most_recent_anndata_manager(lazy).create_torch_dataset()
    for _ in StreamedBatches(dataset, np.array_split(np.arange(n), 100), lambda: [4]):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 3


def test_directions_are_found_by_some_cells_and_centres_by_all(tmp_path, monkeypatch):
    mdata = make_mosaic(n_obs=900, pattern="paired")
    batch = np.unique(mdata.obs["batch"], return_inverse=True)[1]
    lazy = put(mdata, tmp_path, "h5mu")
    x = stored_matrix(lazy["a"], None, "a")
    exact = LSI(3).fit(mdata["a"].X, batch=batch)
    every = LSI(3).fit(x, batch=batch, rows=rows_to_fit(x, 0))
    np.testing.assert_allclose(every.singular_values, exact.singular_values, rtol=1e-4)
    monkeypatch.setattr("smalti._disk.FIT_VALUES", x.nnz // 2)
    rows = rows_to_fit(x, 0)
    assert 400 < len(rows) < 500
    assert (np.diff(rows) > 0).all()
    some = LSI(3).fit(x, batch=batch, rows=rows)
    a, b = (np.linalg.qr(each.module.weight.numpy())[0] for each in (some, exact))
    assert np.linalg.svd(a.T @ b)[1].min() > 0.9
    z = some.transform(x, batch=batch)
    for code in np.unique(batch):
        np.testing.assert_allclose(z[batch == code].mean(axis=0), 0, atol=1e-4)
    assert rows_to_fit(mdata["a"].X, 0) is None


def test_selectors_see_the_same_values(tmp_path, monkeypatch):
    mdata = make_mosaic(storage={"c": "dense"})
    lazy = put(mdata, tmp_path, "zarr")
    monkeypatch.setattr("smalti.data._values._in_memory", pytest.fail)
    rows = np.array([5, 2, 9])
    for name in ("a", "c"):
        here, there = (Values(data, name, batch_key="batch", n_top=8) for data in (mdata, lazy))
        np.testing.assert_array_equal(here.columns, there.columns)
        np.testing.assert_allclose(there.read(rows), here.read(rows), rtol=1e-4, atol=1e-5)


def test_values_stored_by_features_are_refused(tmp_path):
    mdata = make_mosaic(storage={"a": "csc"})
    with pytest.raises(ValueError, match="stored by features"):
        setup(put(mdata, tmp_path, "h5mu"))


def test_a_file_that_was_changed_is_noticed(tmp_path):
    import zarr

    lazy = put(make_mosaic(), tmp_path, "zarr")
    before = setup(lazy).fingerprint()
    assert not before.differences(setup(lazy).fingerprint())
    data = zarr.open_group(tmp_path / "x.zarr")["mod/a/X/data"]
    data[:10] = np.asarray(data[:10]) + 1
    again = setup(open_mosaic(tmp_path / "x.zarr")).fingerprint()
    assert again.differences(before) == ["values of modality 'a'"]


@pytest.mark.parametrize("place", PLACES)
def test_a_matrix_is_looked_through_once_for_as_long_as_it_is_the_same(place, tmp_path):
    lazy = put(make_mosaic(), tmp_path, place)
    first = stored_matrix(lazy["a"], None, "a")
    assert stored_matrix(lazy["a"], None, "a") is first
    (tmp_path / "other").mkdir()
    other = put(make_mosaic(seed=1), tmp_path / "other", place)
    if place != "backed":
        lazy["a"].X = other["a"].X
        assert stored_matrix(lazy["a"], None, "a") is not first


def test_other_files_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "x.h5mu").write_text("hello")
    with pytest.raises(ValueError, match="write_mosaic"):
        open_mosaic(tmp_path / "x.h5mu")
    with pytest.raises(ValueError, match="write_mosaic"):
        open_mosaic(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_mosaic(tmp_path / "y.h5mu")


def test_rows_in_any_order_with_repeats_and_gaps(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    mdata = make_mosaic(storage={"c": "dense"})
    lazy = put(mdata, tmp_path, "zarr")
    for gap in (0, 30, 10_000):
        monkeypatch.setattr("smalti._disk_formats.GAP_VALUES", gap)
        for name in ("a", "c"):
            x, y = mdata[name].X, stored_matrix(lazy[name], None, name)
            for rows in (
                rng.integers(0, x.shape[0], 30),
                np.unique(rng.integers(0, x.shape[0], 20)),
                np.array([], int),
            ):
                found = y.take(rows)
                assert found.shape == (len(rows), x.shape[1])
                assert abs(found - x[rows]).sum() == 0
            parts = [piece for _, piece in y.iter_chunks(size=7)]
            assert abs((sp.vstack(parts) if sp.issparse(x) else np.vstack(parts)) - x).sum() == 0


def test_zarrs_decodes_where_it_is_installed_and_only_what_smalti_opens(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr", minversion="3")
    monkeypatch.setitem(sys.modules, "zarrs", ModuleType("zarrs"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "zarrs" or None)
    before = zarr.config.get("codec_pipeline.path")
    with fast_codecs():
        assert zarr.config.get("codec_pipeline.path") == "zarrs.ZarrsCodecPipeline"
    assert zarr.config.get("codec_pipeline.path") == before


def test_models_train_and_answer_as_in_memory(tmp_path):
    mdata = make_mosaic(n_obs=120)
    latents = []
    for data in (mdata, put(mdata, tmp_path, "h5mu")):
        CLUE.setup_mudata(data, {"a": Modality(likelihood="nb"), "b": "poisson", "c": "gaussian"}, batch_key="batch")
        model = CLUE(data, n_latent=4, n_components=5)
        model.train(1, batch_size=120, train_size=1.0, progress=False)
        latents.append(model.get_latent_representation())
    np.testing.assert_allclose(latents[0], latents[1], atol=2e-3)
