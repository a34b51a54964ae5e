"""What is used after set-up is checked as a query is; data and models die when nobody holds them."""

from __future__ import annotations

import gc
import warnings
import weakref
from copy import deepcopy

import numpy as np
import pytest
import scanpy as sc
from _factories import make_mosaic

from smalti._errors import MosaicAlignmentError
from smalti.model import UnpairedCCA


def make(**kwargs):
    mdata = make_mosaic(n_obs=60, **kwargs)
    UnpairedCCA.setup_mudata(mdata, batch_key="batch", labels_key="label")
    model = UnpairedCCA(mdata, encoder="linear", options={"n_latent": 4, "n_permutations": 0, "accept": "always"})
    model.train(1, progress=False, accelerator="cpu")
    return mdata, model


def reverse_features(mdata):
    mdata.mod["a"] = mdata["a"][:, ::-1].copy()


def rename_batches(mdata):
    mdata.obs["batch"] = mdata.obs["batch"].astype(str) + "x"


def negative(mdata):
    mdata["a"].X.data[7] = -1


def reorder_cells(mdata):
    mdata.mod["b"] = mdata["b"][::-1].copy()


def spoil_one_real(mdata):
    mdata["c"].X[3, 2] = np.nan


CHANGES = {
    "filtered": (lambda m: sc.pp.filter_genes(m["a"], min_cells=31), "missing"),
    "reversed": (reverse_features, "another order"),
    "logarithms": (lambda m: (sc.pp.normalize_total(m["a"]), sc.pp.log1p(m["a"])), "not integers"),
    "scaled": (lambda m: sc.pp.scale(m["a"]), "needs counts"),
    "batches": (rename_batches, "values the model was not trained on"),
    "negative": (negative, "negative"),
    "cells": (reorder_cells, "reordered"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_in_place_are_seen_before_anything_is_computed(name):
    mdata, model = make()
    change, says = CHANGES[name]
    change(mdata)
    for call in (model.get_latent_representation, lambda: model.train(1, progress=False, accelerator="cpu")):
        with pytest.raises((ValueError, KeyError), match=f"(?s)Since the data were set up, .*changed in place.*{says}"):
            call()


def test_a_value_that_goes_missing_in_place_is_left_out():
    mdata, model = make()
    before = model.get_latent_representation()
    spoil_one_real(mdata)
    after = model.get_latent_representation()
    assert np.isfinite(after).all()
    changed = np.abs(after - before).max(axis=1) > 1e-3
    assert changed.sum() <= len(mdata) // 2  # the cell, and those whose neighbour it is
    model.train(1, progress=False, accelerator="cpu")
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_changed_query_is_seen_too():
    mdata, model = make()
    query = mdata.copy()
    model.get_latent_representation(query)
    reverse_features(query)
    with pytest.raises(ValueError, match="another order"):
        model.get_latent_representation(query)


def test_changes_that_fit_are_told_and_used():
    mdata, model = make()
    before = model.get_latent_representation()
    mdata["c"].X += 1
    with pytest.warns(UserWarning, match=r"values of modality 'c' changed in place"):
        after = model.get_latent_representation()
    assert not np.allclose(before, after, equal_nan=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.get_latent_representation(), after)


def test_columns_that_the_model_does_not_read_may_change():
    mdata, model = make()
    mdata.obs["new"] = 1
    mdata["a"].obs["new"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.get_latent_representation()


def test_queries_die_when_the_user_lets_go_of_them():
    mdata, model = make()
    alive = []
    for _ in range(3):
        query = mdata.copy()
        model.get_latent_representation(query)
        alive.append(weakref.ref(query))
        del query
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3
    model.get_latent_representation()


def test_models_and_their_data_die_together():
    mdata, model = make()
    refs = weakref.ref(mdata), weakref.ref(model)
    store, key = UnpairedCCA._per_instance_manager_store, model.id
    del model
    gc.collect()
    assert refs[1]() is None
    assert key not in store
    assert key not in mdata._smalti_managers
    del mdata
    gc.collect()
    assert refs[0]() is None


def test_data_live_while_only_the_model_holds_them():
    model = make()[1]
    gc.collect()
    assert model.get_latent_representation().shape[0] == model.adata.n_obs


def test_copies_of_data_that_are_set_up_are_data_of_their_own():
    mdata, model = make()
    assert deepcopy(mdata._smalti_managers) == {}
    for other in (mdata.copy(), mdata[:].copy()):
        np.testing.assert_allclose(model.get_latent_representation(other), model.get_latent_representation(), atol=1e-6)


def test_other_packages_keep_what_they_stored():
    import scvi

    adata = scvi.data.synthetic_iid(batch_size=10, n_genes=5)
    scvi.model.SCVI.setup_anndata(adata)
    make()
    gc.collect()
    assert scvi.model.SCVI._get_most_recent_anndata_manager(adata) is not None


@pytest.mark.parametrize("data", [None, "x.h5mu", [1], {"rna": 1}, 3.0])
def test_what_is_no_mudata_is_refused_with_what_to_do(data):
    with pytest.raises(TypeError, match=r"Expected a MuData, found .*\. (Make|Read|Name|Join)"):
        UnpairedCCA.setup_mudata(data)


def test_anndata_and_annbatch_are_refused():
    with pytest.raises(TypeError, match="from_anndata"):
        UnpairedCCA.setup_mudata(make_mosaic(n_obs=30)["a"])
    with pytest.raises(NotImplementedError, match="setup_mudata"):
        UnpairedCCA.setup_annbatch(None)


def test_a_stale_map_is_still_named(tmp_path):
    mdata, model = make()
    mdata.mod["b"] = mdata["b"][:5].copy()
    with pytest.raises(MosaicAlignmentError, match=r"mdata\.update\(\)"):
        model.get_latent_representation()
