from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from sklearn.metrics import roc_auc_score

import smalti as sm
from smalti.data import presence
from smalti.tl._pattern_latents import pattern_latents


def cells(n: int, seed: int, *, spread: float = 1.0, n_types: int = 3, shift: float = 0.0) -> ad.AnnData:
    """Return cells of overlapping types in five dimensions."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_types, n)
    centres = 3.0 * np.eye(6)[:, :5]
    obs = pd.DataFrame({"type": pd.Categorical([f"t{i}" for i in group])}, index=[f"{seed}_{i}" for i in range(n)])
    out = ad.AnnData(np.zeros((n, 1), dtype=np.float32), obs=obs)
    out.obsm["X_z"] = centres[group] + shift + spread * rng.standard_normal((n, 5))
    return out


def test_labels_are_strings_and_mostly_right_where_types_are_apart() -> None:
    ref, query = cells(300, 0, spread=0.3), cells(200, 1, spread=0.3)
    found = sm.tl.transfer_labels(ref, query, "type", use_rep="z")
    assert (found.labels[~found.unknown] == query.obs["type"].astype(str)[~found.unknown]).all()
    assert found.unknown.mean() < 0.05
    assert list(found.to_frame().columns) == ["label", "confidence", "set", "novelty", "unknown"]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_cover_what_they_promise_and_probabilities_mean_what_they_say(coverage: float) -> None:
    ref, query = cells(1500, 0, spread=2.2), cells(3000, 1, spread=2.2)
    found = sm.tl.transfer_labels(ref, query, "type", use_rep="X_z", coverage=coverage)
    codes = found.sets.columns.get_indexer(query.obs["type"].astype(str))
    assert found.sets.to_numpy()[np.arange(3000), codes].mean() == pytest.approx(coverage, abs=0.025)
    assert sm.metrics.expected_calibration_error(found.probabilities, query.obs["type"].astype(str)) < 0.04


def test_a_type_that_the_reference_lacks_is_novel_and_called_unknown() -> None:
    ref, query = cells(400, 0, spread=0.4), cells(400, 1, spread=0.4, n_types=4)
    found = sm.tl.transfer_labels(ref, query, "type", use_rep="z")
    new = (query.obs["type"] == "t3").to_numpy()
    assert roc_auc_score(new, found.novelty) > 0.98
    assert (found.labels[new] == "unknown").mean() > 0.9
    assert (found.labels[~new] == "unknown").mean() < 0.05


def test_donors_that_differ_widen_the_sets() -> None:
    ref = ad.concat([cells(200, i, spread=0.8, shift=s) for i, s in enumerate((-1.5, 0, 1.5))])
    ref.obs["donor"] = np.repeat(list("abc"), 200)
    query = cells(300, 9, spread=0.8, shift=3)
    alike = sm.tl.transfer_labels(ref, query, "type", use_rep="z")
    apart = sm.tl.transfer_labels(ref, query, "type", use_rep="z", batch_key="donor")
    assert apart.confidence.mean() < alike.confidence.mean()
    assert apart.unknown.mean() < alike.unknown.mean()


def test_rare_unlabelled_and_missing_are_handled() -> None:
    ref, query = cells(100, 0), cells(20, 1)
    ref.obs["type"] = ref.obs["type"].astype(str)
    ref.obs.iloc[:3, 0], ref.obs.iloc[3:9, 0] = "rare", "unknown"
    query.obsm["X_z"][4] = np.nan
    found = sm.tl.transfer_labels(ref, query, "type", use_rep="z")
    assert "rare" not in found.probabilities
    assert "unknown" not in found.probabilities
    assert "'rare'" in repr(found)
    assert found.labels.isna().tolist() == [i == 4 for i in range(20)]


def test_a_match_carries_the_labels_of_partners() -> None:
    mdata = make_mosaic(pattern="paired", n_obs=120, n_features={"a": 6, "b": 6})
    z = np.random.default_rng(0).standard_normal((120, 6))
    mdata.obsm["X_z_a"], mdata.obsm["X_z_b"] = z, z + 0.01
    found = sm.tl.match(mdata, "a", "b", key="X_z", cells="all")
    carried = sm.tl.transfer_labels(mdata, found, "label")
    assert (carried.labels == mdata.obs["label"].astype(str)).mean() > 0.95
    assert np.isnan(carried.coverage)


def test_a_model_compares_cells_as_seen_from_what_they_have() -> None:
    mdata = make_mosaic(pattern="paired", n_obs=160, n_features={"a": 20, "b": 15})
    sm.model.UnpairedCCA.setup_mudata(mdata, batch_key="batch", labels_key="label")
    model = sm.model.UnpairedCCA(mdata, n_latent=4, options={"n_permutations": 0})
    model.train(1, progress=False)
    query = sm.simulate.drop(mdata, np.column_stack([np.arange(160) % 2 == 0, np.ones(160, dtype=bool)]))
    found = sm.tl.transfer_labels(mdata, query, "label", model=model)
    assert found.probabilities.notna().all(axis=None)
    assert (found.labels == query.obs["label"].astype(str)).mean() > 0.6
    alone = ~presence(query, ["a"]).ravel()
    part = pattern_latents(model, mdata, query)
    assert {p.name for p in part} == {"a + b", "b"}
    own = next(p for p in part if p.name == "b")
    assert own.query_cells.tolist() == np.flatnonzero(alone).tolist()
    np.testing.assert_allclose(own.ref, model.get_latent_representation(mdata, modality="b"), atol=1e-5)


def test_wrong_requests_are_refused() -> None:
    ref, query = cells(50, 0), cells(20, 1)
    with pytest.raises(KeyError, match="'other' not found"):
        sm.tl.transfer_labels(ref, query, "other")
    with pytest.raises(KeyError, match="Latent in `ref.obsm`"):
        sm.tl.transfer_labels(ref, query, "type", use_rep="nothing")
    query.obsm["X_z"] = query.obsm["X_z"][:, :3]
    with pytest.raises(ValueError, match="found 5 and 3 columns"):
        sm.tl.transfer_labels(ref, query, "type", use_rep="z")
