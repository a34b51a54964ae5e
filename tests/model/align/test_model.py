"""UnpairedCCA on planted cells: evidence from a MuData, outputs, acceptance of networks, storage."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from smalti._errors import NotFittedError
from smalti._linalg import unit_rows
from smalti.align import Verdict, matching_space
from smalti.metrics import foscttm
from smalti.model import UnpairedCCA, UnpairedOptions

N = 150
QUICK = {"n_latent": 4, "n_permutations": 0}


def aligned(model):
    return model.get_latent_representation(block="aligned")


def diagonal(n_pairs: int = 0, seed: int = 0, modalities: str = "ab") -> MuData:
    """Cells of clusters along four factors, counts, every other feature linked; the same cells under other names."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, N, p=[0.4, 0.3, 0.2, 0.1])
    factors = 1.2 * rng.normal(size=(4, 4))[kind] + 0.6 * rng.normal(size=(N, 4))
    shared = rng.normal(size=(4, 12))
    parts = {}
    for i, name in enumerate(modalities):
        own = rng.normal(size=(4, 12))
        rate = np.exp(np.clip(np.hstack([factors @ shared, factors @ own]) * 0.7 + 1.5, -3, 6))
        cells = [f"cell{j}" if i == 0 or j < n_pairs else f"{name}{j}" for j in range(N)]
        names = [f"{name}_{g}" for g in range(24)]
        obs, var = pd.DataFrame({"kind": kind.astype(str)}, index=cells), pd.DataFrame(index=names)
        parts[name] = AnnData(rng.poisson(rate).astype(np.float32), obs=obs, var=var)
    mdata = MuData(parts)
    mdata.obs["kind"] = pd.concat([m.obs["kind"] for m in parts.values()]).groupby(level=0).first()[mdata.obs_names]
    return mdata


def links(modalities: str = "ab") -> pd.DataFrame:
    return pd.DataFrame({name: [f"{name}_{g}" for g in range(12)] for name in modalities})


def fit(mdata: MuData, labels_key: str | None = None, train: dict | None = None, **kwargs) -> UnpairedCCA:
    UnpairedCCA.setup_mudata(mdata, labels_key=labels_key)
    kwargs["options"] = {**QUICK, **kwargs.get("options", {})}
    model = UnpairedCCA(mdata, **kwargs)
    model.train(progress=False, accelerator="cpu", **(train or {}))
    return model


def score(model: UnpairedCCA, names: str = "ab", first: int = 0) -> float:
    z = [model.get_latent_representation(modality=m, block="aligned") for m in names]
    z = [x[np.isfinite(x).all(1)] for x in z]
    order = [[int("".join(c for c in name if c.isdigit())) for name in model.adata[m].obs_names] for m in names]
    # latents come in the order of the whole data, rows of a modality in its own
    found = []
    for x, m in zip(z, names, strict=True):
        rows = np.asarray(model.adata.obsmap[m]).astype(int).ravel()
        found.append(x[np.argsort(np.argsort(rows[rows > 0]))][np.argsort(order[names.index(m)])][first:])
    return foscttm(*found)


def test_links_align_cells_without_pairs_and_the_verdict_says_so():
    model = fit(diagonal(), links=links(), options={"n_permutations": 20})
    assert score(model) < 0.12
    assert model.verdict.identified
    assert "held-out rho" in str(model.verdict)


def test_permuted_links_are_not_identified():
    table = links()
    table["b"] = np.random.default_rng(1).permutation(table["b"])
    model = fit(diagonal(), links=table, options={"n_permutations": 20})
    assert not model.verdict.identified
    assert score(model) > 0.2


def test_cells_with_two_modalities_are_pairs_and_help_the_others():
    model = fit(diagonal(n_pairs=15))
    assert score(model, first=15) < 0.2
    assert model.verdict.evidence == "15 pairs"


def test_labels_align_and_can_be_ignored(caplog):
    assert score(fit(diagonal(), labels_key="kind")) < 0.25
    with caplog.at_level(logging.WARNING):
        ignored = fit(diagonal(), labels_key="kind", options={"label_weight": 0})
    assert "do not identify" in caplog.text
    assert not ignored.verdict.identified


def test_three_modalities_share_a_latent():
    mdata = diagonal(modalities="abc")
    table = pd.concat([links("ab"), links("bc")])
    assert score(fit(mdata, links=table), "ac") < 0.2


def test_a_match_names_cells_and_gives_a_confidence():
    model = fit(diagonal(), links=links())
    found = model.match("a", "b")
    table = found.to_frame()
    assert list(table.columns) == ["match", "confidence", "mutual"]
    assert set(table["match"]) <= set(model.adata["b"].obs_names)
    assert set(table.index) == set(model.adata["a"].obs_names)
    assert table["confidence"].between(0, 1).all()
    kinds = model.adata.obs["kind"]
    assert (kinds[table.index].to_numpy() == kinds[table["match"]].to_numpy()).mean() > 0.7
    with pytest.raises(ValueError, match="twice"):
        model.match("a", "a")


def test_cells_of_a_type_that_the_other_modality_lacks_get_little_confidence():
    mdata = diagonal()
    keep = mdata["b"].obs["kind"] != "1"
    mdata = MuData({"a": mdata["a"], "b": mdata["b"][keep].copy()})
    table = fit(mdata, links=links()).match("a", "b").to_frame()
    gone = (mdata["a"].obs["kind"].loc[table.index] == "1").to_numpy()
    assert table["confidence"][gone].median() < 0.5 * table["confidence"][~gone].median()


def test_what_is_written_is_what_was_asked_for():
    model = fit(diagonal(), links=links())
    before = set(model.adata.obs)
    model.annotate("a", "b", key_added="x")
    assert set(model.adata.obs) - before == {"x_match", "x_confidence", "x_mutual"}
    np.testing.assert_array_equal(model.adata.obsm["X_x"], model.get_latent_representation())
    assert model.adata.uns["x"]["source"] == "a"


def test_networks_replace_the_closed_form_only_if_held_out_evidence_agrees_better():
    model = fit(diagonal(), links=links(), encoder="deep")
    better = model.acceptance_["trained"] > model.acceptance_["closed_form"]
    assert bool(model.module.accepted) == better
    never = fit(diagonal(), links=links(), encoder="deep", options={"accept": "never"})
    linear = fit(diagonal(), links=links())
    np.testing.assert_allclose(aligned(never), aligned(linear), atol=1e-6)
    always = fit(diagonal(), links=links(), encoder="deep", options={"accept": "always"})
    assert np.abs(aligned(always) - aligned(linear)).max() > 1e-3


@pytest.mark.parametrize("align", ["mmd", "energy", "max_sliced", "ssim", "adversarial"])
def test_further_objectives_train_and_are_logged(align):
    options = {"accept": "always"}
    model = fit(diagonal(), links=links(), encoder="deep", align=align, options=options, train={"max_epochs": 2})
    term = {"ssim": "structure", "adversarial": "adversarial"}.get(align, "align")
    assert np.isfinite(model.history[f"{term}_train"].to_numpy(dtype=float)).all()
    assert score(model) < 0.2


def test_plans_with_gradients_train_and_refuse_large_batches():
    options = {"accept": "always"}
    model = fit(diagonal(), links=links(), solver="gumbel", options=options, train={"max_epochs": 3})
    assert score(model) < 0.2
    assert "link_cost_train" in model.history


def test_landmarks_serve_for_many_cells():
    model = fit(diagonal(), links=links(), options={"max_cells": 50, "n_landmarks": 60})
    assert score(model) < 0.15


def test_cells_are_matched_within_their_batch_if_wanted():
    mdata = diagonal()
    mdata.obs["donor"] = [f"d{int(''.join(c for c in n if c.isdigit())) % 2}" for n in mdata.obs_names]
    UnpairedCCA.setup_mudata(mdata, batch_key="donor")
    model = UnpairedCCA(mdata, links=links(), options={**QUICK, "within_batch": True})
    model.train(progress=False, accelerator="cpu")
    problem, alignment = model._aligned
    donors = [mdata.obs["donor"].to_numpy()[np.asarray(mdata.obsmap[m]).astype(int).ravel() > 0] for m in "ab"]
    same = donors[0][:, None] == donors[1][None]
    assert alignment.plans["a", "b"][~same].sum() < 0.01
    assert problem.extra_cost


def test_baselines_come_in_the_order_of_the_data():
    model = fit(diagonal(), links=links())
    found = model.baseline("links")
    here = np.asarray(model.adata.obsmap["a"]).astype(int).ravel() > 0
    assert np.isfinite(found["a"][here]).all()
    assert np.isnan(found["a"][~here]).all()


def test_links_and_verdict_survive_storage(tmp_path):
    mdata = diagonal()
    model = fit(mdata, links=links(), options={"n_permutations": 3})
    model.save(tmp_path / "model")
    loaded = UnpairedCCA.load(tmp_path / "model", mdata)
    assert str(loaded.verdict) == str(model.verdict)
    pd.testing.assert_frame_equal(loaded.links, model.links, check_dtype=False)
    np.testing.assert_allclose(aligned(loaded), aligned(model), atol=1e-6)
    for x, y in zip(loaded.matching_space("a", "b"), model.matching_space("a", "b"), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_of_more_than_two_modalities_every_two_have_a_space_that_is_gone_after_loading(tmp_path):
    mdata = diagonal(modalities="abc")
    model = fit(mdata, links=pd.concat([links("ab"), links("bc")]))
    latent = model.get_latent_representation(block="latent")
    np.testing.assert_allclose(aligned(model), latent)
    assert model.matching_space("a", "b")[0].shape[1] > latent.shape[1]
    model.save(tmp_path / "model")
    with pytest.raises(NotFittedError, match="more than two modalities"):
        UnpairedCCA.load(tmp_path / "model", mdata).matching_space("a", "b")


def test_what_cannot_work_is_said_first():
    mdata = diagonal()
    UnpairedCCA.setup_mudata(mdata)
    with pytest.raises(NotFittedError, match="before `train`"):
        _ = UnpairedCCA(mdata).verdict
    with pytest.raises(ValueError, match="'b' does not have: 'b_99'"):
        UnpairedCCA(mdata, links=pd.DataFrame({"a": ["a_1"], "b": ["b_99"]}))
    with pytest.raises(ValueError, match="`encoder`"):
        UnpairedCCA(mdata, encoder="wide")
    UnpairedCCA.setup_mudata(mdata, modalities={"a": {"encoder_input": "counts"}, "b": None})
    with pytest.raises(ValueError, match="encoder input of 'a' is 'counts'"):
        UnpairedCCA(mdata)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 0}, "epsilon"),
        ({"accept": "maybe"}, "accept"),
        ({"structure": 2}, "structure"),
        ({"n_latent": 0}, "n_latent"),
    ],
)
def test_options_out_of_range_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        UnpairedOptions(**change)


def test_without_any_structure_the_latent_is_nan_not_noise_of_unit_length(rng):
    """Forty cells of noise with labels of two modalities: correlations of 1e-16 made rows of length 1."""

    def noise(tag: str, n_features: int) -> AnnData:
        x = rng.poisson(2, (20, n_features)).astype(np.float32)
        names = [f"{tag}{i}" for i in range(20)]
        return AnnData(x, obs=pd.DataFrame({"type": ["x", "y"] * 10}, index=names))

    parts = {"a": noise("a", 30), "b": noise("b", 12)}
    for name, part in parts.items():
        part.var_names = [f"{name}_{j}" for j in range(part.n_vars)]
    mdata = MuData(parts)
    mdata.obs["type"] = pd.concat([part.obs["type"] for part in parts.values()]).reindex(mdata.obs_names)
    UnpairedCCA.setup_mudata(mdata, labels_key="type")
    model = UnpairedCCA(mdata)
    with pytest.warns(UserWarning, match="Nothing ties the modalities together"):
        model.train(progress=False)
    assert "Nothing supports" in str(model.verdict)
    for modality in (None, "a", "b"):
        assert np.isnan(model.get_latent_representation(block="aligned", modality=modality)).all()
    joint = model.get_latent_representation()
    assert np.isfinite(joint).all()
    np.testing.assert_allclose(model.get_latent_representation(batch_size=7), joint, atol=1e-5)


@pytest.mark.parametrize("n_links", [2, 3])
def test_fewer_than_four_links_are_said_to_be_too_few_and_how_many_are_needed(n_links: int):
    model = fit(diagonal(), links=links().iloc[:n_links], options={"n_permutations": 20})
    assert not model.verdict.identified
    assert f"({n_links} links)" in str(model.verdict)
    assert "at least 4 links" in str(model.verdict)


def test_a_single_link_is_said_to_be_unused(caplog):
    with caplog.at_level(logging.WARNING, logger="smalti"):
        fit(diagonal(n_pairs=15), links=links().iloc[:1])
    assert "between 'a' and 'b'" in caplog.text
    assert "4 for a verdict" in caplog.text


def test_an_undecided_verdict_says_what_is_missing_and_cells_can_be_matched_by_evidence_alone():
    model = fit(diagonal(), links=links())
    model.verdict_ = Verdict(
        identified=False, score=0.2, null=(0.0, 0.1, -0.1, 0.1, -0.1), rounds=(0.2,), n_rounds=1, stability=0.5,
        evidence="8 links", kind="links", n=8,
    )  # fmt: skip
    assert model.verdict.undecided
    needed = model.verdict.n_needed
    assert needed == int(np.ceil(8 * (2.5 / model.verdict.z) ** 2)) > 8
    assert f"about {needed} in all" in str(model.verdict)
    assert f"{needed - 8} are missing" in str(model.verdict)
    found = model.match("a", "b")
    assert found.note == str(model.verdict)
    assert (found.plan.partner != model.match("a", "b", by="evidence").plan.partner).any()
    sure = replace(model.verdict, score=0.9, identified=True)
    model.verdict_ = sure
    assert sure.n_needed is None
    assert model.match("a", "b").note == ""
    faint = replace(sure, score=0.05, identified=False)
    assert not faint.undecided
    assert "Not identified" in str(faint)
    with pytest.raises(ValueError, match="by"):
        model.match("a", "b", by="luck")


def test_matching_uses_the_block_for_matching_before_and_after_storage_and_for_new_cells(tmp_path):
    mdata = diagonal()
    model = fit(mdata, links=links())
    maps = model.adata_manager.row_maps()
    z = {name: model.get_latent_representation(modality=name, block="aligned") for name in "ab"}
    x, y = model.matching_space("a", "b")
    assert np.allclose(x, z["a"][maps["a"] >= 0])
    assert np.allclose(y, z["b"][maps["b"] >= 0])
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    own = model.get_latent_representation(modality="a", block="latent")[maps["a"] >= 0]
    assert own.shape[1] == 4
    assert x.shape[1] > 4
    # the block is the space of its definition
    problem = model._aligned[0]
    other = model.get_latent_representation(modality="b", block="latent")[maps["b"] >= 0]
    by_hand = matching_space(problem, ("a", "b"), {"a": own.astype(float), "b": other.astype(float)})
    assert np.allclose(unit_rows(by_hand[0]), x, atol=1e-4)
    assert np.allclose(unit_rows(by_hand[1]), y, atol=1e-4)
    assert foscttm(x, y) <= foscttm(own, other) + 0.02
    one_by_one = model.get_latent_representation(modality="a", block="aligned", batch_size=40)  # some without "a"
    assert np.allclose(one_by_one, z["a"], atol=1e-5, equal_nan=True)
    partner = model.match("a", "b", by="alignment").plan.partner
    model.save(tmp_path / "model")
    loaded = UnpairedCCA.load(tmp_path / "model", mdata)
    assert np.allclose(aligned(loaded), aligned(model), atol=1e-4)
    assert (loaded.match("a", "b").plan.partner == partner).mean() > 0.98
    with pytest.raises(NotFittedError, match="gone after loading"):
        loaded.match("a", "b", by="evidence")
    query = diagonal(seed=0)
    new = loaded.get_latent_representation(query, modality="a", block="aligned")
    assert np.allclose(new[maps["a"] >= 0], x, atol=1e-4)
