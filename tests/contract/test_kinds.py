"""Inputs that failed once, by kind of fault: each works now, or is one sentence before anything is computed or lost."""

from __future__ import annotations

import warnings

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti._errors import NotFittedError
from smalti._mudata import no_pull
from smalti._storable import write_mudata
from smalti.model import CLUE, MCA, FusionClustering, OverlapManifold, UnpairedCCA

FEATURES = {"a": 16, "b": 10}
LINEAR = {"encoder": "linear", "options": {"n_latent": 3, "n_permutations": 0, "accept": "always"}}
SMALL = {"n_latent": 2, "n_hidden": 4, "options": {"n_align": 2, "align_hidden": 4, "n_aligners": 1}}
QUICK = {"progress": False, "accelerator": "cpu", "batch_size": 32}


def mosaic(**options) -> mudata.MuData:
    return make_mosaic(**({"n_obs": 60, "n_features": FEATURES} | options))


def fitted(mdata: mudata.MuData, batch_key="batch") -> UnpairedCCA:
    UnpairedCCA.setup_mudata(mdata, batch_key=batch_key)
    model = UnpairedCCA(mdata, **LINEAR)
    model.train(1, **QUICK)
    return model


def clue(mdata: mudata.MuData) -> CLUE:
    CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    return CLUE(mdata, **SMALL)


# ------------------------------------------------------------------ K1: what is written can be read


@pytest.mark.parametrize("place", ["layers", "obsm", "varm", "obs", "var", "uns"])
@pytest.mark.parametrize("name", ["x/y", "", "_index", 3])
def test_names_that_a_file_cannot_hold_do_not_spoil_it(place, name, tmp_path):
    if place != "obs" and name == 3:
        pytest.skip("AnnData takes text only.")
    mdata = mosaic(pattern="paired")
    rna = mdata["a"]
    values = {"layers": rna.X.copy(), "obsm": np.ones((60, 2)), "varm": np.ones((16, 2)), "uns": 1}
    getattr(rna, place)[name] = values.get(place, 1.0)
    getattr(rna, place)["x|y"] = values.get(place, 2.0)  # the name that a slash would become
    write_mudata(mdata, tmp_path / "x.h5mu")
    with no_pull():
        back = getattr(mudata.read_h5mu(tmp_path / "x.h5mu")["a"], place)
    assert len(set(back)) == len(set(getattr(rna, place)))
    assert name in getattr(rna, place)


@pytest.mark.parametrize("name", ["a/b", "[/x]", "/b", ".", ""])
def test_modalities_of_any_name_are_stored_and_come_back(name, tmp_path):
    model = fitted(mosaic(n_features={"a": 16, name: 10}))
    model.save(tmp_path / "model", save_anndata=True)
    again = UnpairedCCA.load(tmp_path / "model")
    assert list(again.adata.mod) == ["a", name]
    np.testing.assert_allclose(again.get_latent_representation(), model.get_latent_representation(), atol=1e-5)


@pytest.mark.parametrize("key", ["a/b", "_index", 3])
def test_columns_of_any_name_are_batches_after_storing(key, tmp_path):
    mdata = mosaic()
    mdata.obs[key] = mdata.obs["batch"]
    model = fitted(mdata, key)
    model.save(tmp_path / "model", save_anndata=True)
    again = UnpairedCCA.load(tmp_path / "model")
    np.testing.assert_allclose(again.get_latent_representation(), model.get_latent_representation(), atol=1e-5)


def test_a_sweep_goes_on_from_results_of_the_same_trainings_only(tmp_path):
    mdata, path = mosaic(pattern="paired"), tmp_path / "s.csv"
    CLUE.setup_mudata(mdata, batch_key="batch")
    same = {"model_kwargs": {"n_hidden": 4}, "train_kwargs": {"max_epochs": 1, "accelerator": "cpu"}, "path": path}
    sm.tl.sweep(CLUE, mdata, {"n_latent": [2]}, score="monitor", **same)
    before = path.read_bytes()
    sm.tl.sweep(CLUE, mdata, {"n_latent": [2]}, score="monitor", **same)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"s\.csv holds results of another model, of other data or of other"):
        sm.tl.sweep(CLUE, mdata, {"n_latent": [2]}, **(same | {"train_kwargs": {"max_epochs": 2}}))
    mdata["a"].X = 2 * mdata["a"].X
    with pytest.raises(ValueError, match="other data"):
        sm.tl.sweep(CLUE, mdata, {"n_latent": [2]}, **same)
    assert path.read_bytes() == before


def test_a_mosaic_is_not_written_into_what_is_read(tmp_path):
    mdata = mosaic(pattern="paired")
    with no_pull(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata.write_zarr(tmp_path / "m.zarr")
    for out in (tmp_path / "m.zarr", tmp_path / "m.zarr" / "new.zarr"):
        with pytest.raises(ValueError, match="lies in, one of the files to read"):
            sm.data.write_mosaic({"s": tmp_path / "m.zarr"}, out)
    assert not (tmp_path / "m.zarr" / "new.zarr").exists()


# ------------------------------------------------------------------ K2: what is used later is checked again


def test_a_model_and_data_that_were_changed_since_are_not_stored_together(tmp_path):
    model = fitted(mosaic(pattern="paired"))
    model.adata.mod["a"] = model.adata["a"][:, :8].copy()
    with pytest.raises(ValueError, match="changed in place"):
        model.save(tmp_path / "model", save_anndata=True)
    assert not (tmp_path / "model").exists()
    model.save(tmp_path / "model")


def test_a_linear_latent_of_counts_is_not_applied_to_logarithms():
    mdata = mosaic(pattern="paired")
    found, later = sm.tl.linear_joint(mdata, batch_key="batch"), mdata.copy()
    np.testing.assert_allclose(found.transform(later), mdata.obsm["X_joint"], atol=1e-4)
    later["a"].X = later["a"].X.log1p()
    with pytest.raises(ValueError, match=r"'a' holds values that are no counts, but the transform was fitted to"):
        found.transform(later)


def test_batches_of_a_linear_latent_are_compared_as_values():
    mdata = mosaic(pattern="paired")
    mdata.obs["run"] = mdata.obs["batch"].cat.codes.to_numpy()
    found = sm.tl.linear_joint(mdata, batch_key="run")
    expected = found.transform(mdata)
    mdata.obs["run"] = mdata.obs["run"].astype(float)
    np.testing.assert_allclose(found.transform(mdata), expected, atol=1e-5)


def test_a_checkpoint_knows_how_it_was_trained(tmp_path):
    path = tmp_path / "s.ckpt"
    clue(mosaic()).train(2, checkpoint=path, **QUICK)
    for change in ({"plan_kwargs": {"lr": 0.1}}, {"batch_size": 16}, {"paired_share": 0.1}):
        with pytest.raises(ValueError, match="of another training: options of training differ"):
            clue(mosaic()).train(3, checkpoint=path, resume=True, **(QUICK | change))
    with pytest.raises(ValueError, match="has 2 epochs already, more than `max_epochs=1`"):
        clue(mosaic()).train(1, checkpoint=path, resume=True, **QUICK)
    clue(mosaic()).train(3, checkpoint=path, resume=True, **QUICK)


def test_an_untrained_model_is_no_reference_and_writes_no_clusters():
    mdata = mosaic()
    with pytest.raises(NotFittedError, match="was not trained"):
        CLUE.load_query(mdata, clue(mdata))
    for cls, write in ((FusionClustering, "write_clusters"), (OverlapManifold, "write_charts")):
        cls.setup_mudata(mdata, batch_key="batch")
        with pytest.raises(NotFittedError, match="call `train` first"):
            getattr(cls(mdata), write)()
    assert not any("cluster" in str(column) for column in mdata.obs)


# ------------------------------------------------------------------ K3: identity


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["x", "x ", "X"], "differ in blanks or capitals only and count as 3"),
        (["Unknown", "x", "y"], "unlabeled_category='Unknown'"),
        (["n/a", "x", "y"], "unlabeled_category='n/a'"),
    ],
)
def test_labels_that_are_surely_meant_otherwise_are_told(column, says):
    mdata = mosaic()
    mdata.obs["label"] = np.array(column)[np.arange(60) % 3]
    with pytest.warns(UserWarning, match=says):
        CLUE.setup_mudata(mdata, labels_key="label")
    assert any(says in note for note in sm.tl.describe_mosaic(mdata, labels_key="label").notes)


def test_batches_that_are_the_labels_are_told():
    mdata = mosaic()
    with pytest.warns(UserWarning, match="Batches and labels are the same column"):
        CLUE.setup_mudata(mdata, batch_key="label", labels_key="label")


@pytest.mark.parametrize("key", ["", ("a", 1), ["batch"], 1.5])
def test_keys_that_name_no_column_are_refused(key):
    with pytest.raises((TypeError, KeyError), match="`batch_key` to be the name of a column"):
        CLUE.setup_mudata(mosaic(), batch_key=key)


# ------------------------------------------------------------------ K4: advice


BARCODES = ["".join("ACGT"[(i >> (2 * k)) & 3] for k in range(10)) for i in range(60)]


@pytest.mark.parametrize(
    ("first", "second"),
    [("{}-1", "{}"), ("s1_{}-1", "{}"), ("run#{}", "{}-1"), ("{}.a", "{}_2")],
)
def test_cells_whose_names_are_written_otherwise_are_told(first, second):
    mdata = mosaic(pattern="paired")
    a, b = mdata["a"].copy(), mdata["b"].copy()
    a.obs_names, b.obs_names = ([form.format(name) for name in BARCODES] for form in (first, second))
    notes = sm.tl.describe_mosaic(sm.from_anndata({"a": a, "b": b})).notes
    assert any("60 would" in note and "rename them" in note for note in notes)


def test_cells_of_other_names_are_not_taken_for_the_same():
    mdata = mosaic(pattern="diagonal")
    assert not any("rename them" in note for note in sm.tl.describe_mosaic(mdata).notes)


def test_counts_that_were_normalised_and_rounded_are_told():
    mdata = mosaic(pattern="paired")
    x = mdata["a"].X.toarray()
    mdata["a"].X = np.round(1e4 * x / x.sum(axis=1, keepdims=True)).astype(np.float32)
    assert any("All cells have the same total in 'a'" in note for note in sm.tl.describe_mosaic(mdata).notes)
    assert not any("the same total in 'b'" in note for note in sm.tl.describe_mosaic(mdata).notes)


# ------------------------------------------------------------------ K5: options


def test_a_variant_without_a_term_that_trains_it_is_refused():
    mdata = mosaic()
    MCA.setup_mudata(mdata)
    weights = {"unimodal_fusion": 0, "unimodal_unimodal": 0, "channel_root": 1}
    with pytest.raises(ValueError, match="Variant 'mma' has no channel but the root"):
        MCA(mdata, variant="mma", weights=weights)
    MCA(mdata, weights=weights, options={"n_latent": 8, "n_layers": 1, "n_heads": 2, "n_tokens": 2, "n_hidden": 8})


# ------------------------------------------------------------------ K7: containers


@pytest.mark.parametrize("storage", ["csr", "dense"])
def test_a_mosaic_on_disk_is_described_as_in_memory(storage, tmp_path):
    mdata = mosaic(pattern="paired", storage=storage)
    write_mudata(mdata, tmp_path / "x.h5mu")
    lazy = sm.data.open_mosaic(tmp_path / "x.h5mu")
    assert repr(sm.tl.describe_mosaic(lazy)) == repr(sm.tl.describe_mosaic(mdata))
    for each in (lazy, mdata):
        sm.pp.bulk(each, "a", kind="counts")
    np.testing.assert_allclose(lazy["a"].obsm["X_bulk"], mdata["a"].obsm["X_bulk"], atol=1e-5)
    CLUE.setup_mudata(lazy)
    with pytest.raises(ValueError, match="'a', 'b' stay on disk and cannot be given to other processes"):
        sm.tl.sweep(CLUE, lazy, {"n_latent": [2]}, n_jobs=2)


def test_masked_values_count_as_missing():
    mdata = mosaic(pattern="paired")
    x = mdata["a"].X.toarray()
    gaps = np.random.default_rng(0).random(x.shape) < 0.2
    found = []
    for values in (np.ma.masked_array(np.where(gaps, 999.0, x), gaps), np.where(gaps, np.nan, x)):
        mdata["a"].X = values
        found.append(fitted(mdata).get_latent_representation())
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


# ------------------------------------------------------------------ K8: refusals


def test_a_known_pair_is_known_only_where_that_is_said():
    mdata = mosaic(pattern="paired")
    model = fitted(mdata)
    mdata.obsm["X_z"] = model.get_latent_representation()
    mdata.obs["known"] = pd.Series([True, None] * 30, index=mdata.obs_names, dtype=object)
    found = sm.tl.match(mdata, "a", "b", key="X_z", cells="all", known_pairs="known")
    assert "30 known pairs" in repr(found)
    with pytest.raises(ValueError, match="'label' of `mdata.obs` to be boolean, found 'label_"):
        sm.tl.match(mdata, "a", "b", key="X_z", cells="all", known_pairs="label")


def test_what_cannot_be_imputed_is_said():
    mdata = mosaic()
    model = clue(mdata)
    model.train(1, **QUICK)
    assert repr(model.impute(target="b")).startswith("Nothing was imputed: too few held-out cells")


def test_a_slice_chooses_cells():
    model = fitted(mosaic())
    z = model.get_latent_representation()
    np.testing.assert_allclose(model.get_latent_representation(indices=slice(3, 9)), z[3:9], atol=1e-6)


def test_one_modality_alone_gets_a_hint_for_the_command_line(tmp_path):
    from smalti._console import read_mosaic

    ad.AnnData(np.ones((5, 3), np.float32)).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"a\.h5ad holds one modality only.*rna=.*a\.h5ad.*--modality rna"):
        read_mosaic([str(tmp_path / "a.h5ad")], None, None)
