from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti._mudata import build_mudata


def subset(mdata, cells, *, columns=slice(None), batch: str | None = None):
    parts = {}
    for name, adata in mdata.mod.items():
        part = adata[adata.obs_names.isin(cells)]
        parts[name] = part[:, columns].copy() if name == "a" else part.copy()
    out = build_mudata(parts, obs=mdata.obs)
    if batch is not None:
        out.obs["batch"] = batch
    return out


@pytest.fixture(scope="module")
def fitted():
    mdata = make_mosaic(pattern="mosaic", n_obs=300, n_features={"a": 25, "b": 12})
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    model = sm.model.CLUE(mdata, n_latent=4, n_hidden=16, n_components=6)
    model.train(2, progress=False)
    return mdata, model


def test_cells_of_the_reference_come_out_where_they_were(fitted, tmp_path) -> None:
    mdata, model = fitted
    cells = mdata.obs_names[::3]
    query = subset(mdata, cells)
    expected = model.get_latent_representation()[mdata.obs_names.get_indexer(query.obs_names)]
    model.save(tmp_path / "model")
    for reference in (model, tmp_path / "model"):
        mapped = sm.model.CLUE.load_query(query, reference)
        np.testing.assert_allclose(mapped.get_latent_representation(), expected, atol=1e-5)


def test_the_latents_of_the_reference_do_not_move(fitted) -> None:
    mdata, model = fitted
    before = model.get_latent_representation()
    query = subset(mdata, mdata.obs_names[::2], batch="new donor")
    mapped = sm.model.CLUE.load_query(query, model)
    np.testing.assert_array_equal(model.get_latent_representation(), before)
    again = mapped.get_latent_representation(subset(mdata, mdata.obs_names))
    at = subset(mdata, mdata.obs_names).obs_names
    np.testing.assert_allclose(again, before[mdata.obs_names.get_indexer(at)], atol=1e-5)


def test_features_may_be_reordered_and_additional(fitted) -> None:
    mdata, model = fitted
    order = np.random.default_rng(0).permutation(25)
    query = subset(mdata, mdata.obs_names, columns=order)
    mapped = sm.model.CLUE.load_query(query, model)
    at = mdata.obs_names.get_indexer(mapped.adata.obs_names)
    np.testing.assert_allclose(mapped.get_latent_representation(), model.get_latent_representation()[at], atol=1e-5)


def test_missing_features_are_said_and_too_many_are_refused(fitted, caplog) -> None:
    mdata, model = fitted
    mapped = sm.model.CLUE.load_query(subset(mdata, mdata.obs_names, columns=slice(0, 20)), model)
    assert mapped.query_report_.missing["a"] == list(mdata["a"].var_names[20:])
    assert "5 of 'a'" in caplog.text
    assert np.isfinite(mapped.get_latent_representation()).all()
    with pytest.raises(ValueError, match="10 of the 25 features of modality 'a'"):
        sm.model.CLUE.load_query(subset(mdata, mdata.obs_names, columns=slice(0, 10)), model)


@pytest.mark.parametrize(("block", "largest"), [("aligned", 1e-3), ("joint", np.inf)])
def test_a_new_batch_is_centred_as_the_old_ones_were(fitted, block, largest) -> None:
    mdata, model = fitted
    cells = mdata.obs_names[mdata.obs["batch"] == mdata.obs["batch"].iloc[0]]
    query = subset(mdata, cells, batch="new donor")
    at = mdata.obs_names.get_indexer(query.obs_names)
    old = model.get_latent_representation(block=block)[at]
    error = {}
    for update in ("none", "batch"):
        mapped = sm.model.CLUE.load_query(query, model, update=update)
        assert mapped.query_report_.new_batches == ("new donor",)
        error[update] = np.abs(mapped.get_latent_representation(block=block) - old).mean()
    assert error["batch"] < largest  # the same cells under another name get the same offset
    assert error["batch"] < error["none"]


def test_one_modality_as_anndata_is_enough(fitted) -> None:
    mdata, model = fitted
    mapped = sm.model.CLUE.load_query(mdata["b"].copy(), model)
    assert list(mapped.adata.mod) == ["b"]
    assert mapped.query_report_.new_batches == ("query",)
    assert np.isfinite(mapped.get_latent_representation()).all()


def test_a_query_model_is_saved_and_loaded_with_its_batches(fitted, tmp_path) -> None:
    mdata, model = fitted
    query = subset(mdata, mdata.obs_names[::2], batch="new donor")
    mapped = sm.model.CLUE.load_query(query, model)
    mapped.save(tmp_path / "mapped")
    again = sm.model.CLUE.load(tmp_path / "mapped", mapped.adata)
    np.testing.assert_allclose(again.get_latent_representation(), mapped.get_latent_representation(), atol=1e-6)
    assert mapped.translate("a", "b").values.shape[1] == 12


def test_what_does_not_fit_is_refused(fitted) -> None:
    mdata, model = fitted
    with pytest.raises(ValueError, match="The reference is a CLUE"):
        sm.model.MCA.load_query(mdata, model)
    other = build_mudata({"x": mdata["a"].copy()}, obs=mdata.obs)
    with pytest.raises(ValueError, match="none of the modalities 'a', 'b'"):
        sm.model.CLUE.load_query(other, model)


def test_batches_and_labels_of_a_query_are_read_as_those_of_the_reference_were() -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=300, n_features={"a": 25, "b": 12})
    mdata.obs["batch"] = pd.Categorical(mdata.obs["batch"]).codes.astype(int)
    mdata.obs["label"] = pd.Categorical(mdata.obs["label"]).codes.astype(int)
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    model = sm.model.CLUE(mdata, n_latent=4, n_hidden=16, n_components=6)
    model.train(1, progress=False)
    query = subset(mdata, mdata.obs_names[::2])
    for column in ("batch", "label"):  # as pandas makes of integers whenever a value is missing
        query.obs[column] = query.obs[column].astype(float)
    mapped = sm.model.CLUE.load_query(query, model)
    assert mapped.query_report_.new_batches == ()
    assert set(map(str, mapped.adata.obs["label"])) == {"0.0", "1.0", "2.0"}


def test_all_weights_go_on_from_the_reference_which_stays(fitted) -> None:
    mdata, model = fitted
    before = model.get_latent_representation(), {n: w.clone() for n, w in model.module.state_dict().items()}
    mapped = sm.model.CLUE.load_query(subset(mdata, mdata.obs_names[::2], batch="new donor"), model, update="all")
    start = {n: w.clone() for n, w in mapped.module.named_parameters()}
    shared = [n for n, w in start.items() if n in before[1] and w.shape == before[1][n].shape]
    assert all((start[n] == before[1][n]).all() for n in shared)
    mapped.train(1, progress=False)
    moved = dict(mapped.module.named_parameters())
    assert any((moved[n] != start[n]).any() for n in shared)
    assert np.isfinite(mapped.get_latent_representation()).all()
    np.testing.assert_array_equal(model.get_latent_representation(), before[0])
