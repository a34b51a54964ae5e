from __future__ import annotations

import mudata
import numpy as np
import pytest
from tests._factories import STORAGES, make_mosaic

from smalti import simulate
from smalti._mudata import no_pull
from smalti.pp import CLR, PCA
from smalti.tl import linear_cca


def rank_of_true(x, y):
    """Mean fraction of cells closer (cosine) than the true one."""
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    similarity = x @ y.T
    return (similarity > np.diag(similarity)[:, None]).mean()


def test_hidden_pairs_of_a_planted_mosaic_find_each_other():
    full = simulate.factor_views(1200, n_features={"a": 200, "b": 60}, likelihood="nb", depth=500, random_state=0)
    keep = np.ones((1200, 2), bool)
    keep[400:600, 1] = keep[600:800, 0] = False
    mdata = simulate.drop(full, keep)
    result = linear_cca(mdata, batch_key="batch")
    held = full.obs_names[800:]
    with no_pull():
        new = full[held].copy()
    by_modality = result.embed(new)
    assert rank_of_true(by_modality["a"], by_modality["b"]) < 0.1
    wrong = np.random.default_rng(0).permutation(400)
    assert rank_of_true(by_modality["a"], by_modality["b"][wrong]) == pytest.approx(0.5, abs=0.05)


def test_every_cell_is_embedded_and_absent_modalities_are_nan(rng):
    mdata = make_mosaic(n_obs=280, pattern="every")
    presence = {m: np.isin(mdata.obs_names, a.obs_names) for m, a in mdata.mod.items()}
    result = linear_cca(mdata, batch_key="batch", n_components=6)
    joint = mdata.obsm["X_cca"]
    assert joint.shape == (280, len(result.correlations))
    assert np.isfinite(joint).all()
    parts = [mdata.obsm[f"X_cca_{m}"] for m in mdata.mod]
    for m, z in zip(mdata.mod, parts, strict=True):
        np.testing.assert_array_equal(np.isnan(z).any(axis=1), ~presence[m])
    np.testing.assert_allclose(joint, np.nanmean(parts, axis=0), atol=1e-5)


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_does_not_matter(storage):
    expected, found = (make_mosaic(n_obs=140, storage=s, likelihood="nb") for s in ("csr", storage))
    for mdata in (expected, found):
        linear_cca(mdata, n_components=5)
    np.testing.assert_allclose(np.abs(found.obsm["X_cca"]), np.abs(expected.obsm["X_cca"]), rtol=1e-2, atol=1e-2)


def test_results_do_not_depend_on_the_order_of_cells(rng):
    mdata = make_mosaic(n_obs=280, pattern="every")
    with no_pull():
        shuffled = mudata.MuData({m: a[rng.permutation(a.n_obs)].copy() for m, a in reversed(mdata.mod.items())})
    shuffled.obs["batch"] = mdata.obs["batch"].loc[shuffled.obs_names]
    options = {"n_components": 6, "batch_key": "batch", "transforms": None}
    a, b = linear_cca(mdata, **options), linear_cca(shuffled, **options)
    np.testing.assert_allclose(a.cca.fitted_correlations, b.cca.fitted_correlations, atol=1e-3)


def test_the_result_embeds_the_same_cells_alike_and_new_cells_with_fewer_modalities(rng):
    mdata = make_mosaic(n_obs=280, pattern="every")
    result = linear_cca(mdata, batch_key="batch", n_components=6)
    np.testing.assert_allclose(result.transform(mdata), mdata.obsm["X_cca"], atol=1e-5)
    with no_pull():
        only_b = mudata.MuData({"b": mdata.mod["b"][:10].copy()})
    only_b.obs["batch"] = mdata.obs["batch"].loc[only_b.obs_names]
    at = mdata.obs_names.get_indexer(only_b.obs_names)
    np.testing.assert_allclose(result.transform(only_b), mdata.obsm["X_cca_b"][at], atol=1e-5)


def test_cells_with_only_zeros_are_embedded():
    mdata = make_mosaic(n_obs=280, pattern="every", empty=("a", "b"))
    linear_cca(mdata, n_components=6)
    assert np.isfinite(mdata.obsm["X_cca"]).all()


def test_given_transforms_are_used(rng):
    mdata = make_mosaic(n_obs=140)
    result = linear_cca(
        mdata,
        modalities=["a", "b"],
        n_components=4,
        transforms={"a": PCA(4, kind="lognorm"), "b": CLR(4)},
        key_added="X_mine",
    )
    assert [t.transform.kind for t in result.transforms.values()] == ["lognorm", "clr"]
    assert set(mdata.obsm) >= {"X_mine", "X_mine_a", "X_mine_b"}
    text = repr(result)
    assert "Linear CCA of 2 modalities, 4 components each" in text
    assert "4 axes, held-out canonical correlations" in text


def test_the_number_of_components_is_chosen_on_pairs(caplog):
    with caplog.at_level("INFO", logger="smalti.pp"):
        result = linear_cca(make_mosaic(n_obs=280, pattern="every"))
    assert result.n_components in (10, 15, 20, 30, 50)
    assert f"chosen: {result.n_components}" in caplog.text


def test_few_pairs_fall_back_with_a_warning(caplog):
    result = linear_cca(make_mosaic(n_obs=40, pattern="every"))
    assert "too few to choose the number of components by: 20 are used" in caplog.text
    assert result.n_components == 20


def test_nothing_but_the_new_keys_changes():
    mdata = make_mosaic(n_obs=140)
    with no_pull():
        before = mdata.copy()
    linear_cca(mdata, n_components=4)
    assert set(mdata.obsm) - set(before.obsm) == {"X_cca", "X_cca_a", "X_cca_b", "X_cca_c"}
    for m, adata in mdata.mod.items():
        assert abs(adata.X - before.mod[m].X).sum() == 0
        assert list(adata.obsm) == list(before.mod[m].obsm)
        assert list(adata.uns) == list(before.mod[m].uns)
    assert mdata.obs.equals(before.obs)


def test_unpaired_data_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="No cells link 'b', 'c' to 'a'"):
        linear_cca(make_mosaic(pattern="diagonal"), n_components=4)


def test_unknown_names_are_refused():
    mdata = make_mosaic()
    with pytest.raises(KeyError, match="'x' not found"):
        linear_cca(mdata, modalities=["a", "x"])
    with pytest.raises(KeyError, match="Modality of `layers` or `transforms`: 'x' not found"):
        linear_cca(mdata, layers={"x": "raw"})


@pytest.mark.slow
@pytest.mark.data
def test_pbmc_is_matched_as_well_as_promised(data_dir):
    """Held-out pairs of the real mosaic: a third of the paired cells lose their pairing."""
    with no_pull():
        full = mudata.read_h5mu(data_dir / "pbmc_mosaic.h5mu")
        full.pull_obs("batch")
    rng = np.random.default_rng(0)
    both = np.flatnonzero(
        np.isin(full.obs_names, full.mod["rna"].obs_names) & np.isin(full.obs_names, full.mod["adt"].obs_names)
    )
    held = rng.permutation(both)[: len(both) // 3]
    keep = np.column_stack([np.isin(full.obs_names, full.mod[m].obs_names) for m in ("rna", "adt")])
    keep[held, 1] = False
    train = simulate.drop(full, keep)
    result = linear_cca(train)
    with no_pull():
        test = full[full.obs_names[held]].copy()
    z = result.embed(test)
    assert rank_of_true(z["rna"], z["adt"]) < 0.06
