from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from smalti import pp
from smalti._mudata import no_pull

KINDS = {"sites": "methylation", "genes": "counts", "spots": "reals"}


def make(rng, n=60):
    """Three assays of two groups, each without some samples and in an order of its own; a third is for testing."""
    names = np.array([f"s{i}" for i in range(n)])
    group = rng.integers(0, 2, n)
    values = {
        "sites": rng.beta(0.8, 0.8, (2, 15))[group] * rng.uniform(0.2, 1, (n, 15)),
        "genes": rng.poisson(rng.lognormal(3, 1, (2, 20))[group] + 20.0).astype(float),
        "spots": rng.normal(size=(2, 10))[group] + rng.normal(size=(n, 10)),
    }
    for name in ("sites", "spots"):
        values[name][rng.random(values[name].shape) < 0.03] = np.nan
    modalities = {}
    for i, (name, x) in enumerate(values.items()):
        rows = rng.permutation(n)[5 * i :]
        var = pd.DataFrame({"at": np.arange(x.shape[1])}, index=[f"{name}{j}" for j in range(x.shape[1])])
        modalities[name] = AnnData(x[rows], obs=pd.DataFrame(index=names[rows]), var=var)
    with no_pull():
        made = MuData(modalities)
    made.obs["group"] = pd.Categorical(group[made.obs_names.str[1:].astype(int)])
    made.obs["train"] = rng.random(n) < 0.7
    return made


def spoilt(mdata, rng):
    """Return a copy in which the values of test samples are entirely other ones."""
    with no_pull():
        out = mdata.copy()
    for name, adata in out.mod.items():
        test = ~out.obs["train"].loc[adata.obs_names].to_numpy()
        other = {"methylation": rng.random, "counts": lambda s: rng.poisson(9000, s), "reals": rng.standard_cauchy}
        new = other[KINDS[name]]((int(test.sum()), adata.n_vars)).astype(float)
        new[:, 0] = np.nan
        adata.X[test] = new
    return out


def fit_all(mdata, **options):
    for name, kind in KINDS.items():
        pp.bulk(mdata, name, kind=kind, **options)


def fitted_numbers(mdata, name):
    state = mdata.mod[name].uns["smalti"]["X_bulk"]
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}


@pytest.mark.parametrize("n_components", [None, 4])
@pytest.mark.parametrize("scale", ["zscore", "minmax", None])
def test_test_samples_change_no_fitted_number_and_no_training_sample(scale, n_components, rng):
    clean = make(rng)
    other = spoilt(clean, rng)
    for data in (clean, other):
        fit_all(data, train="train", scale=scale, n_components=n_components)
    for name in KINDS:
        assert fitted_numbers(clean, name) == fitted_numbers(other, name)
        train = clean.obs["train"].loc[clean.mod[name].obs_names].to_numpy()
        a, b = (data.mod[name].obsm["X_bulk"] for data in (clean, other))
        np.testing.assert_array_equal(a[train], b[train])
        assert not np.allclose(a[~train], b[~train])


def test_training_samples_do_change_what_is_fitted(rng):
    clean = make(rng)
    with no_pull():
        other = clean.copy()
    fit_all(clean, train="train")
    other.obs["train"] = ~other.obs["train"]
    fit_all(other, train="train")
    for name in KINDS:
        assert fitted_numbers(clean, name) != fitted_numbers(other, name)


def test_training_samples_are_found_by_name_in_each_modality(rng):
    mdata = make(rng)
    fit_all(mdata, train=mdata.obs["train"].to_numpy())
    for name, kind in KINDS.items():
        adata = mdata.mod[name]
        train = mdata.obs["train"].loc[adata.obs_names].to_numpy()
        expected = pp.BulkTransform(kind).fit(adata.X[train]).transform(adata.X)
        np.testing.assert_array_equal(adata.obsm["X_bulk"], expected)


def test_without_a_mask_all_samples_are_fitted(rng):
    mdata = make(rng)
    fit_all(mdata)
    for name, kind in KINDS.items():
        expected = pp.BulkTransform(kind).fit_transform(mdata.mod[name].X)
        np.testing.assert_array_equal(mdata.mod[name].obsm["X_bulk"], expected)


@pytest.mark.parametrize("n_components", [None, 4])
def test_new_samples_get_the_transform_that_a_file_kept(n_components, rng, tmp_path):
    mdata = make(rng)
    fit_all(mdata, train="train", n_components=n_components)
    with no_pull():
        mdata.write(tmp_path / "bulk.h5mu")
        read = mudata.read_h5mu(tmp_path / "bulk.h5mu")
    for name in KINDS:
        transform = pp.get_transform(read, name, "X_bulk")
        np.testing.assert_array_equal(pp.apply(mdata, name, transform), mdata.mod[name].obsm["X_bulk"])


def test_transformed_values_become_the_modalities_of_a_new_mudata(rng):
    mdata = make(rng)
    pp.bulk(mdata, "sites", kind="methylation", train="train")
    pp.bulk(mdata, "spots", kind="reals", train="train", n_components=3)
    before = {name: adata.X.copy() for name, adata in mdata.mod.items()}
    made = pp.as_modalities(mdata)
    assert list(made.mod) == list(mdata.mod)
    assert list(made.obs_names) == list(mdata.obs_names)
    pd.testing.assert_frame_equal(made.obs, mdata.obs)
    for name, adata in mdata.mod.items():
        np.testing.assert_array_equal(adata.X, before[name])
        assert list(made.mod[name].obs_names) == list(adata.obs_names)
    np.testing.assert_array_equal(made.mod["sites"].X, mdata.mod["sites"].obsm["X_bulk"])
    kept = pp.get_transform(mdata, "sites", "X_bulk").transform.kept
    pd.testing.assert_frame_equal(made.mod["sites"].var, mdata.mod["sites"].var[kept])
    assert list(made.mod["spots"].var_names) == ["spots_1", "spots_2", "spots_3"]
    np.testing.assert_array_equal(made.mod["genes"].X, mdata.mod["genes"].X)


def test_transforms_of_a_reference_serve_for_other_samples(rng):
    mdata = make(rng)
    fit_all(mdata, train="train")
    with no_pull():
        few = mdata[mdata.obs_names[::-3]].copy()
    made = pp.as_modalities(few, {name: pp.get_transform(mdata, name, "X_bulk") for name in KINDS})
    assert list(made.obs_names) == list(few.obs_names)
    for name in KINDS:
        at = mdata.mod[name].obs_names.get_indexer(few.mod[name].obs_names)
        np.testing.assert_array_equal(made.mod[name].X, mdata.mod[name].obsm["X_bulk"][at])


def test_other_transforms_can_be_fitted_to_training_samples_too(rng):
    mdata = make(rng)
    x, names = mdata.mod["genes"].X, mdata.mod["genes"].obs_names
    train = mdata.obs["train"].loc[names].to_numpy()
    fitted = pp.fit_modality(mdata, "genes", pp.PCA(3), train="train")
    np.testing.assert_array_equal(fitted.transform.transform(x), pp.PCA(3).fit(x[train]).transform(x))
    one = mdata.obs["group"] == 0
    fitted = pp.fit_modality(mdata, "genes", pp.PCA(3), train=one, batch_key="group")
    assert fitted.batches == ("0",)
    expected = pp.PCA(3).fit(x[one.loc[names].to_numpy()]).transform(x)
    here = one.loc[names].to_numpy()
    np.testing.assert_allclose(pp.apply(mdata, "genes", fitted)[here], expected[here], atol=1e-5)


def test_a_mask_that_is_none_is_explained(rng):
    mdata = make(rng)
    mdata.obs["split"] = np.where(mdata.obs["train"], "train", "test")
    mdata.obs["nullable"] = mdata.obs["train"].astype("boolean")
    pp.bulk(mdata, "genes", kind="counts", train="nullable")
    with pytest.raises(ValueError, match=r"`mdata.obs\['split'\]` to be boolean.*mdata.obs\['split'\] == 'train'"):
        pp.bulk(mdata, "genes", kind="counts", train="split")
    mdata.obs.loc[mdata.obs_names[0], "nullable"] = pd.NA
    with pytest.raises(ValueError, match="to be boolean"):
        pp.bulk(mdata, "genes", kind="counts", train="nullable")
    with pytest.raises(KeyError, match="`train`: 'fold' not found"):
        pp.bulk(mdata, "genes", kind="counts", train="fold")
    with pytest.raises(ValueError, match=r"each of the 60 cells, found type bool and shape \(59,\)"):
        pp.bulk(mdata, "genes", kind="counts", train=np.ones(59, bool))
    with pytest.raises(ValueError, match="to have the index `mdata.obs_names`"):
        pp.bulk(mdata, "genes", kind="counts", train=mdata.obs["train"].iloc[::-1])
    absent = ~mdata.obs_names.isin(mdata.mod["spots"].obs_names)
    with pytest.raises(ValueError, match="None of the 10 cells in `train` was measured in modality 'spots'"):
        pp.bulk(mdata, "spots", kind="reals", train=absent)


def test_errors_name_the_modality(rng):
    mdata = make(rng)
    with pytest.raises(ValueError, match=r"Modality 'spots': Expected counts >= 0"):
        pp.bulk(mdata, "spots", kind="counts")
    with pytest.raises(ValueError, match=r"Modality 'genes': Expected methylation levels"):
        pp.bulk(mdata, "genes", kind="methylation")
    with pytest.raises(ValueError, match="`batch_key` and `feature_mask` have no meaning for a BulkTransform"):
        pp.fit_modality(mdata, "genes", pp.BulkTransform("counts"), batch_key="group")
    with pytest.raises(KeyError, match="No modality has a fitted transform 'X_bulk'. Call `smalti.pp.bulk` first"):
        pp.as_modalities(mdata)
    assert "X_bulk" not in mdata.mod["genes"].obsm


def test_tumour_counts_are_normalised_to_one_level(data_dir):
    with no_pull():
        mdata = mudata.read_h5mu(data_dir / "miniacc.h5mu")
    for name in ("rna", "mirna"):
        adata = mdata.mod[name]
        kept = pp.filter_low_counts(adata)
        x = np.asarray(adata.X)
        assert kept.n_vars == ((x < 5).mean(axis=0) < 0.9).sum() < adata.n_vars
        everywhere = (kept.X > 0).all(axis=0)
        logs = np.log(np.asarray(kept.X, dtype=float)[:, everywhere])
        expected = np.exp(np.median(logs - logs.mean(axis=0), axis=1))
        out = pp.median_of_ratios(kept)
        np.testing.assert_allclose(out.obs["size_factor"], expected, rtol=1e-6)
        levels = np.log2(1 + kept.X[:, everywhere]), out.X[:, everywhere]
        before, after = (np.std(np.median(level, axis=1)) for level in levels)
        assert after < before
        train = mdata.obs_names.to_numpy() < np.sort(mdata.obs_names)[60]
        pp.bulk(mdata, name, kind="counts", train=train, n_components=10)
        transform = pp.get_transform(mdata, name, "X_bulk").transform
        assert 0.3 < transform.explained.sum() < 1
        assert np.isfinite(mdata.mod[name].obsm["X_bulk"]).all()


def test_tumour_subtypes_are_found_in_test_samples_scaled_by_training_samples(data_dir):
    with no_pull():
        mdata = mudata.read_h5mu(data_dir / "breast_tcga.h5mu")
    train = mdata.obs["split"] == "train"
    for name, floor in {"mrna": 0.85, "mirna": 0.7}.items():
        pp.bulk(mdata, name, kind="reals", train=train, n_components=20)
        adata = mdata.mod[name]
        here, labels = train.loc[adata.obs_names].to_numpy(), mdata.obs["subtype"].loc[adata.obs_names].to_numpy(str)
        z = adata.obsm["X_bulk"]
        np.testing.assert_allclose(z[here].mean(axis=0), 0, atol=1e-4)
        model = LogisticRegression(C=0.1, max_iter=2000).fit(z[here], labels[here])
        assert balanced_accuracy_score(labels[~here], model.predict(z[~here])) > floor
    assert set(pp.as_modalities(mdata).mod["mrna"].var_names) == {f"mrna_{i}" for i in range(1, 21)}
