"""Bad input gets one clear sentence before training starts, and the user's object stays as it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from _compare import assert_same, snapshot
from _factories import make_mosaic
from mudata import MuData

import smalti as sm
from smalti._errors import MosaicAlignmentError
from smalti._mudata import no_pull
from smalti.data import Modality


def change(name, function):
    def changed():
        mdata = make_mosaic()
        function(mdata.mod[name])
        return mdata

    return changed


def set_value(value):
    def function(adata):
        x = sp.lil_matrix(adata.X)
        x[3, 2] = value
        adata.X = sp.csc_matrix(x)

    return function


def repeated_cells():
    adata = make_mosaic(n_features={"a": 5, "b": 4})
    a = adata["a"].copy()
    a.obs_names = [a.obs_names[0], *a.obs_names[:-1]]
    with no_pull():
        return MuData({"a": a, "b": adata["b"]})


def repeated_variables(adata):
    adata.var_names = ["g", *adata.var_names[1:-1], "g"]


def stale():
    mdata = make_mosaic()
    mdata.mod["a"] = mdata["a"][:9].copy()
    return mdata


def without_cells():
    mdata = make_mosaic()
    with no_pull():
        return MuData({"a": mdata["a"], "b": mdata["b"], "void": mdata["c"][:0].copy()})


def without_variables():
    mdata = make_mosaic()
    with no_pull():
        return MuData({"a": mdata["a"], "b": mdata["b"], "void": mdata["c"][:, :0].copy()})


def without_matrix(adata):
    del adata.X


def some_batches_missing():
    mdata = make_mosaic()
    mdata.obs["batch"] = mdata.obs["batch"].astype(object).where(np.arange(mdata.n_obs) != 4)
    return mdata


def mask_without_batch():
    mdata = make_mosaic()
    names = mdata["a"].var_names
    mdata["a"].varm["measured"] = pd.DataFrame(True, index=names, columns=["batch_0"])
    return mdata


def words_for_numbers(adata):
    adata.layers["words"] = np.full(adata.shape, "x", dtype=object)


def nan_components(adata):
    adata.obsm["z"] = np.full((adata.n_obs, 2), np.nan)


BAD = {
    "repeated cells": (repeated_cells, {}, MosaicAlignmentError, ["'a'", "'cell_", "obs_names_make_unique"]),
    "repeated variables": (
        change("b", repeated_variables),
        {},
        ValueError,
        ["Variable names of modality 'b'", "'g'", "var_names_make_unique"],
    ),
    "stale map": (stale, {}, MosaicAlignmentError, ["'a' has 9 cells", "mdata.update()"]),
    "view": (lambda: make_mosaic()[:20], {}, MosaicAlignmentError, ["view", "indices=", ".copy()"]),
    "negative counts": (
        change("b", set_value(-1)),
        {"modalities": {"a": "nb", "b": "poisson", "c": None}},
        ValueError,
        ["'poisson' of modality 'b' needs counts", "1 values are negative", "layer="],
    ),
    "fractional counts": (
        change("a", set_value(0.5)),
        {"modalities": {"a": "nb", "b": None, "c": None}},
        ValueError,
        ["'nb' of modality 'a' needs counts", "1 values are not integers", "'gaussian'"],
    ),
    "infinite": (change("b", set_value(np.inf)), {}, ValueError, ["'b' has 1 infinite", "Remove"]),
    "words": (
        change("a", words_for_numbers),
        {"modalities": {"a": Modality(layer="words"), "b": None, "c": None}},
        ValueError,
        ["'a' holds values of type object", "expected numbers"],
    ),
    "modality without cells": (without_cells, {}, ValueError, ["'void' has no cell", "modalities=['a', 'b']"]),
    "modality without variables": (without_variables, {}, ValueError, ["'void' has no variable", "Leave it out"]),
    "cells without modality": (
        lambda: make_mosaic(pattern="diagonal"),
        {"modalities": ["a", "b"]},
        MosaicAlignmentError,
        ["28 cells", "none of the modalities 'a', 'b'", "'cell_", "and 23 more", "name more modalities"],
    ),
    "one modality": (make_mosaic, {"modalities": ["a"]}, ValueError, ["at least two modalities", "'a'"]),
    "unknown modality": (make_mosaic, {"modalities": ["a", "rna"]}, KeyError, ["'rna' not found", "'a', 'b', 'c'"]),
    "unknown likelihood": (
        make_mosaic,
        {"modalities": {"a": "negbin", "b": None, "c": None}},
        ValueError,
        ["likelihood of modality 'a'", "'nb', 'zinb', 'poisson'", "'negbin'"],
    ),
    "unknown field": (
        make_mosaic,
        {"modalities": {"a": {"family": "nb"}, "b": None, "c": None}},
        KeyError,
        ["modality 'a'", "'family' not found", "'likelihood', 'layer'"],
    ),
    "no specification": (
        make_mosaic,
        {"modalities": {"a": 3, "b": None, "c": None}},
        TypeError,
        ["modality 'a'", "a likelihood or a `Modality`", "found int"],
    ),
    "unknown layer": (
        make_mosaic,
        {"modalities": {"a": Modality(layer="raw"), "b": None, "c": None}},
        KeyError,
        ["'a' has no layer 'raw'", "layer=None"],
    ),
    "no matrix": (change("a", without_matrix), {}, ValueError, ["'a' has no values in `.X`", "layer"]),
    "unknown components": (
        make_mosaic,
        {"modalities": {"a": Modality(encoder_input="X_pca"), "b": None, "c": None}},
        KeyError,
        ["Encoder input of modality 'a' (`.obsm`)", "'X_pca' not found"],
    ),
    "NaN components": (
        change("a", nan_components),
        {"modalities": {"a": Modality(encoder_input="z"), "b": None, "c": None}},
        ValueError,
        ["Encoder input of modality 'a'", "NaN", "'cell_", "Compute it"],
    ),
    "unknown mask": (
        make_mosaic,
        {"modalities": {"a": Modality(feature_mask="panel"), "b": None, "c": None}},
        KeyError,
        ["Feature mask of modality 'a' (`.varm`)", "'panel' not found"],
    ),
    "mask without a batch": (
        mask_without_batch,
        {"modalities": {"a": Modality(feature_mask="measured"), "b": None, "c": None}},
        KeyError,
        ["'measured'", "modality 'a'", "'batch_1' not found"],
    ),
    "unknown batch column": (make_mosaic, {"batch_key": "site"}, KeyError, ["no column 'site'", "'batch'", "'label'"]),
    "missing batches": (some_batches_missing, {}, ValueError, ["'batch'", "1 cells, first 'cell_", "Fill it in"]),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_sentence_and_stays_as_it_was(case):
    make, options, error, words = BAD[case]
    mdata = make()
    before = snapshot(mdata)
    with pytest.raises(error) as caught:
        sm.model.CLUE.setup_mudata(mdata, **{"batch_key": "batch", **options})
    assert type(caught.value) is error
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 400
    assert_same(snapshot(mdata), before)
    assert "_scvi_uuid" not in mdata.uns


def test_a_term_that_needs_pairs_is_refused_before_training_on_a_diagonal_mosaic():
    mdata = make_mosaic(pattern="diagonal")
    sm.model.CLUE.setup_mudata(mdata)
    model = sm.model.CLUE(mdata)
    before = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    with pytest.raises(ValueError, match="contrastive term needs cells with two modalities.*contrastive=0"):
        model.train(max_epochs=1)
    assert all((weight == before[name]).all() for name, weight in model.module.state_dict().items())


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("storage", ["csr", "csc", "csr_array", "dense", "int"])
def test_good_input_of_any_storage_stays_as_it_was(storage, index_dtype):
    mdata = make_mosaic(storage=storage, index_dtype=index_dtype)
    before = snapshot(mdata)
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    assert_same(snapshot(mdata), before)


QUERIES = {
    "unknown batch": (
        lambda q: q.obs.__setitem__("batch", "batch_7"),
        ValueError,
        ["'batch'", "'batch_7'", "'batch_0', 'batch_1'", "Train with these cells"],
    ),
    "reordered variables": (
        lambda q: q.mod.__setitem__("b", q["b"][:, ::-1].copy()),
        ValueError,
        ["'b'", "another order", "position 0", "get_var_names"],
    ),
    "missing variables": (
        lambda q: q.mod.__setitem__("b", q["b"][:, 1:].copy()),
        ValueError,
        ["'b'", "1 of 20", "'b_00'", "get_var_names"],
    ),
    "stale map": (lambda q: q.mod.__setitem__("a", q["a"][:5].copy()), MosaicAlignmentError, ["'a' has 5", "update"]),
    "infinite": (lambda q: set_value(np.inf)(q["a"]), ValueError, ["'a' has 1 infinite", "'cell_"]),
    "fractional counts": (lambda q: set_value(0.5)(q["a"]), ValueError, ["modality 'a' needs counts", "0.5"]),
}


@pytest.fixture(scope="module")
def model():
    mdata = make_mosaic()
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    return sm.model.CLUE(mdata)


@pytest.mark.filterwarnings("ignore:Trying to query inferred values")
@pytest.mark.parametrize("case", QUERIES)
def test_a_bad_query_gets_one_clear_sentence_and_stays_as_it_was(model, case):
    function, error, words = QUERIES[case]
    query = make_mosaic()
    function(query)
    before = snapshot(query)
    with pytest.raises(error) as caught:
        model.get_latent_representation(query)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert_same(snapshot(query), before)
    assert "_scvi_uuid" not in query.uns


@pytest.mark.filterwarnings("ignore:Trying to query inferred values")
def test_a_query_view_is_refused(model):
    with pytest.raises(MosaicAlignmentError, match="view"):
        model.get_latent_representation(make_mosaic()[:9])
