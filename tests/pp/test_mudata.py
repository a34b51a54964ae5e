from __future__ import annotations

import mudata
import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData

from smalti import pp
from smalti._mudata import no_pull


def make(rng, n=90, *, storage=np.asarray):
    x = rng.poisson(rng.gamma(1.0, 2.0, (3, 25))[rng.integers(0, 3, n)]).astype(np.float32)
    y = rng.poisson(20.0, (n - 20, 8)).astype(np.float32)
    names = np.array([f"cell{i}" for i in range(n)])
    order = rng.permutation(n)
    a, b = AnnData(storage(x)), AnnData(y)
    a.obs_names, b.obs_names = names[order], names[20:]
    a.var_names, b.var_names = [f"g{i}" for i in range(25)], [f"p{i}" for i in range(8)]
    a.layers["raw"] = a.X * 2
    with no_pull():
        mdata = MuData({"a": a, "b": b})
    mdata.obs["batch"] = np.where(
        np.char.replace(mdata.obs_names.to_numpy(str), "cell", "").astype(int) < 45, "one", "two"
    )
    return mdata


FUNCTIONS = {
    "X_lsi": (pp.lsi, "a", pp.LSI),
    "X_pca": (pp.pca, "a", pp.PCA),
    "X_clr": (pp.clr, "b", pp.CLR),
}


@pytest.mark.parametrize("key", FUNCTIONS)
def test_components_are_those_of_the_array_level_in_the_order_of_the_modality(key, rng):
    function, modality, cls = FUNCTIONS[key]
    mdata = make(rng)
    function(mdata, modality, n_components=4, batch_key="batch")
    adata = mdata.mod[modality]
    code = (mdata.obs["batch"].loc[adata.obs_names] == "two").to_numpy().astype(int)
    np.testing.assert_array_equal(adata.obsm[key], cls(4).fit_transform(adata.X, batch=code))


@pytest.mark.parametrize("key", FUNCTIONS)
def test_new_cells_get_the_transform_that_a_file_kept(key, rng, tmp_path):
    function, modality, _ = FUNCTIONS[key]
    mdata = make(rng)
    function(mdata, modality, n_components=4, batch_key="batch")
    with no_pull():
        mdata.write(tmp_path / "mosaic.h5mu")
        read = mudata.read_h5mu(tmp_path / "mosaic.h5mu")
        part = mdata[mdata.obs_names[30:70]].copy()
    transform = pp.get_transform(read, modality, key)
    assert repr(transform) == repr(pp.get_transform(mdata, modality, key))
    at = mdata.mod[modality].obs_names.get_indexer(part.mod[modality].obs_names)
    del part.mod[modality].obsm[key]
    out = pp.apply(part, modality, transform, key_added="X_new")
    np.testing.assert_allclose(out, mdata.mod[modality].obsm[key][at], atol=1e-5)
    assert part.mod[modality].obsm["X_new"] is not None
    assert key not in part.mod[modality].obsm


def test_several_transforms_are_kept_side_by_side(rng):
    mdata = make(rng)
    mdata.mod["a"].uns["smalti"] = {"other": 1}
    pp.lsi(mdata, "a", n_components=3)
    pp.pca(mdata, "a", n_components=3, layer="raw", key_added="X_mine", kind="lognorm")
    assert set(mdata.mod["a"].uns["smalti"]) == {"other", "X_lsi", "X_mine"}
    found = pp.get_transform(mdata, "a", "X_mine")
    assert (found.layer, found.batch_key, found.transform.kind) == ("raw", None, "lognorm")
    np.testing.assert_allclose(pp.apply(mdata, "a", found), mdata.mod["a"].obsm["X_mine"])


def test_cells_of_a_new_batch_are_centred_by_the_mean_over_batches(rng, caplog):
    mdata = make(rng)
    pp.pca(mdata, "a", n_components=3, batch_key="batch")
    fitted = pp.get_transform(mdata, "a", "X_pca")
    mdata.obs["batch"] = "three"
    with caplog.at_level("INFO", logger="smalti.pp"):
        z = pp.apply(mdata, "a", fitted)
    assert "Batches 'three' were not seen" in caplog.text
    np.testing.assert_array_equal(z, fitted.transform.transform(mdata.mod["a"].X, batch=np.full(90, -1)))


def test_a_panel_that_a_batch_lacks_is_missing_and_not_zero(rng):
    mdata = make(rng)
    mask = np.ones((2, 8), bool)
    mask[1, 5:] = False
    pp.clr(mdata, "b", batch_key="batch", feature_mask=mask)
    before = mdata.mod["b"].obsm["X_clr"].copy()
    two = (mdata.obs["batch"].loc[mdata.mod["b"].obs_names] == "two").to_numpy()
    mdata.mod["b"].X[np.ix_(two, np.arange(5, 8))] = 1000
    np.testing.assert_allclose(pp.apply(mdata, "b", pp.get_transform(mdata, "b", "X_clr")), before, atol=1e-4)


def test_other_features_are_refused(rng):
    mdata = make(rng)
    pp.lsi(mdata, "a", n_components=3)
    transform = pp.get_transform(mdata, "a", "X_lsi")
    a = mdata.mod["a"].copy()
    with no_pull():
        reordered = MuData({"a": a[:, ::-1].copy()})
        fewer = MuData({"a": a[:, :20].copy()})
    with pytest.raises(ValueError, match="same variables in another order, first difference at position 0"):
        pp.apply(reordered, "a", transform)
    with pytest.raises(ValueError, match="5 of 25 expected variables are missing: 'g20'"):
        pp.apply(fewer, "a", transform)


def test_what_does_not_exist_is_named(rng):
    mdata = make(rng)
    with pytest.raises(KeyError, match="Modality: 'c' not found; available: 'a', 'b'"):
        pp.lsi(mdata, "c")
    with pytest.raises(KeyError, match="Layer of modality 'a': 'x' not found; available: 'raw'"):
        pp.lsi(mdata, "a", layer="x")
    with pytest.raises(KeyError, match="`mdata.obs` has no column 'donor' .* Available: 'batch'"):
        pp.lsi(mdata, "a", batch_key="donor")
    with pytest.raises(KeyError, match="'X_lsi' not found"):
        pp.get_transform(mdata, "a", "X_lsi")
    assert "X_lsi" not in mdata.mod["a"].obsm
