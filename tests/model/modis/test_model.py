from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from _compare import by_name, rebuilt
from _factories import make_mosaic
from _modis import SCALED, build_modis, fit_modis, only, options, planted, train

from smalti import simulate
from smalti.data import presence
from smalti.model import MODIS, MODISWeights
from smalti.train import MosaicSplitter


def shared_latent(model):
    return model.get_latent_representation(block="shared")


@pytest.fixture(scope="module")
def model():
    return fit_modis(make_mosaic(n_obs=150, unlabeled=0.3))


# ----------------------------------------------------------------------- any labels


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_no_some_and_all_labels_go_one_way(share):
    mdata = make_mosaic(n_obs=90, pattern="diagonal", unlabeled=share)
    setup = {"labels_key": None} if share == 1 else {}
    model = fit_modis(mdata, setup=setup, training={"max_epochs": 1})
    assert model.sizes_.n_labels == (0 if share == 1 else 3)
    assert np.isfinite(shared_latent(model)).all()
    assert np.isfinite(model.history["monitor_validation"].to_numpy(float)).all()
    if share < 1:
        assert set(model.predict()) <= {"label_0", "label_1", "label_2"}
        return
    with pytest.raises(ValueError, match="no label head"):
        model.predict()
    assert set(model.absent_classes()) == {"a", "b", "c"}


def test_without_labels_and_without_a_game_there_is_still_something_to_train():
    mdata = make_mosaic(n_obs=90, labels=False)
    model = fit_modis(mdata, adversary="none", training={"max_epochs": 1})
    assert "adversarial_train" not in model.history
    assert np.isfinite(shared_latent(model)).all()


def test_without_labels_clusters_are_named_and_every_sample_gets_one():
    model = fit_modis(planted(90), SCALED, setup={"labels_key": None}, n_classes=3, training={"max_epochs": 1})
    found = model.predict()
    assert set(found) <= {"cluster_1", "cluster_2", "cluster_3"}
    assert list(model.predict_proba().columns) == ["cluster_1", "cluster_2", "cluster_3"]
    assert {"separation_train", "corners_train", "usage_train"} < set(model.history)
    assert "label_train" not in model.history


@pytest.mark.parametrize("labels", [True, False])
def test_a_modality_with_one_sample_trains(labels):
    mdata = planted(80)
    here = presence(mdata)
    keep = here.copy()
    keep[np.flatnonzero(here[:, 1])[1:], 1] = False
    mdata = simulate.drop(mdata, keep)
    assert mdata["b"].n_obs == 1
    model = fit_modis(mdata, SCALED, setup={} if labels else {"labels_key": None}, training={"max_epochs": 1})
    assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
    assert np.isfinite(model.get_latent_representation(modality="b")).any(1).sum() == 1
    if labels:
        assert model.predict(modality="b").notna().sum() == 1


# ---------------------------------------------------------------- latents and labels


def test_latents_average_the_means_of_what_was_measured(model):
    here = presence(model.adata)
    alone = np.stack([model.get_latent_representation(modality=name, block="shared") for name in "abc"])
    np.testing.assert_allclose(shared_latent(model), np.nanmean(alone, axis=0), atol=1e-5)
    assert (np.isnan(alone).any(2).T == ~here).all()


def test_the_full_latent_has_the_private_ones_beside_the_shared_one(model):
    here, full = presence(model.adata), model.get_latent_representation(block="full")
    assert full.shape == (150, 4 + 3 * 3)
    np.testing.assert_allclose(full[:, :4], shared_latent(model), atol=1e-6)
    for i, name in enumerate("abc"):
        own = full[:, 4 + 3 * i : 7 + 3 * i]
        assert (own[~here[:, i]] == 0).all()
        alone = model.get_latent_representation(modality=name, block="full")
        np.testing.assert_allclose(alone[here[:, i], 4:], own[here[:, i]], atol=1e-5)
    with pytest.raises(ValueError, match="`block`.*found 'private'"):
        model.get_latent_representation(block="private")


def test_predictions_come_in_the_order_of_names_whatever_the_order_of_modalities(model, rng):
    mdata = model.adata
    order = rng.permutation(mdata.obs_names)
    parts = {m: mdata[m][[name for name in order if name in mdata[m].obs_names]] for m in "abc"}
    other = rebuilt(mdata, parts)
    assert list(other.obs_names) != list(mdata.obs_names)
    for rule in ("auto", "off"):
        found = model.predict(other, absent_class=rule)
        assert list(found.index) == list(other.obs_names)
        assert found.loc[mdata.obs_names].equals(model.predict(absent_class=rule))
    np.testing.assert_allclose(
        by_name(model.predict_proba(other).to_numpy(), other.obs_names, mdata.obs_names),
        model.predict_proba().to_numpy(),
        atol=1e-5,
    )


def test_the_class_of_a_sample_is_that_of_its_mean_logits_at_the_temperature_of_each_modality(model):
    soft = [model.predict_proba(modality=name).to_numpy() for name in "abc"]
    with np.errstate(all="ignore"):
        mean = np.nanmean(np.log(np.stack(soft)), axis=0)
    expected = np.exp(mean) / np.exp(mean).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(), expected, atol=1e-4)


# ----------------------------------------------------------------------- translation


def test_translations_have_a_row_per_sample_of_the_source_and_a_column_per_feature_of_the_target(model):
    here = presence(model.adata)
    for i, source in enumerate("abc"):
        for target, n_features in zip("abc", (30, 20, 12), strict=True):
            out = model.translate(source, target)
            assert out.values.shape == (here[:, i].sum(), n_features)
            assert list(out.obs_names) == list(model.adata.obs_names[here[:, i]])
            assert np.isfinite(out.values).all()
            if target in "ab":
                assert (out.values >= 0).all()


def test_translation_is_in_the_unit_of_the_data():
    mdata = planted(160)
    results = []
    for scale, shift in ((1.0, 0.0), (7.0, 1000.0)):
        other = mdata.copy()
        other["b"].X = scale * other["b"].X + shift
        out = fit_modis(other, SCALED, training={"max_epochs": 1}).translate("a", "b").values
        results.append((out - shift) / scale)
        assert abs(results[-1].mean() - np.asarray(mdata["b"].X).mean()) < 1
    np.testing.assert_allclose(results[1], results[0], atol=0.02)


def test_private_latents_serve_their_own_modality_alone():
    model = fit_modis(planted(80), SCALED, training={"max_epochs": 1})
    d = model.module.n_latent

    def moved(name, part):
        before = {pair: model.translate(*pair, by="network").values for pair in ("ab", "bb")}
        with torch.no_grad():
            model.module.encoders[name].mean_head.bias[part] += 1
        after = {pair: model.translate(*pair, by="network").values for pair in before}
        return [pair for pair in before if np.abs(after[pair] - before[pair]).max() > 1e-3]

    assert moved("a", slice(d, None)) == []
    assert moved("b", slice(d, None)) == ["bb"]
    assert moved("a", slice(d)) == ["ab"]
    assert moved("b", slice(d)) == ["bb"]


# ---------------------------------------------------------------------------- training


def test_nothing_of_a_class_with_few_labels_in_a_modality_is_held_out():
    mdata = simulate.degrade(planted(400), labels_key="label", labels={("label_0", "a"): 4, ("label_1", "b"): 40})
    model = build_modis(mdata, SCALED)
    splitter = MosaicSplitter(model.adata_manager, train_size=0.8, strata=model.strata(), seed=0)
    here, label = presence(mdata), mdata.obs["label"].astype(str).to_numpy()
    few = here[:, 0] & (label == "label_0")
    assert few.sum() == 4
    assert set(np.flatnonzero(few)) <= set(splitter.train_idx)
    for column in (0, 1):
        for kind in ("label_0", "label_1", "label_2", "unknown"):
            cells = np.flatnonzero(here[:, column] & (label == kind) & ~few)
            share = np.isin(cells, splitter.val_idx).mean() if len(cells) > 9 else 0.2
            assert share == pytest.approx(0.2, abs=0.03), (column, kind)


def test_wanted_frequencies_are_those_of_the_labels_of_each_modality():
    mdata = simulate.degrade(planted(400), labels_key="label", classes={("label_0", "a"): 0, ("label_1", "b"): 12})
    model = fit_modis(mdata, SCALED, training={"max_epochs": 1, "train_size": 1.0})
    frequency = model.module.frequency.numpy()
    np.testing.assert_allclose(frequency.sum(1), 1, rtol=1e-5)
    assert frequency[0, 0] == 0
    assert frequency[1].argmin() == 1
    assert 0.08 < frequency[1, 1] < 0.25  # drawn more often than it occurs
    uniform = fit_modis(mdata, SCALED, options=options(frequency="uniform"), training={"max_epochs": 1})
    np.testing.assert_allclose(uniform.module.frequency, 1 / 3, rtol=1e-6)


def test_batches_hold_as_many_samples_of_each_modality_and_labelled_ones_besides():
    mdata = simulate.degrade(planted(300), labels_key="label", labels=2)
    model = build_modis(mdata, SCALED)
    here = presence(mdata)
    sampler = model.make_sampler(40)(np.arange(300))
    for batch in sampler:
        assert here[batch].sum(0).tolist() == [25, 25]
        assert (mdata.obs["label"].iloc[batch[40:]] != "unknown").all()


def test_the_plan_of_a_preset_is_the_published_one():
    mdata = planted(80)
    paper = {"ratios": (1.0, 0.5), "discriminator_widths": (8,)}
    model = train(build_modis(mdata, SCALED, preset="paper-intersim", options=paper, n_latent=4), max_epochs=1)
    plan = model.trainer.lightning_module.options
    assert (plan.lr, plan.betas, plan.lr_schedule, plan.gradient_clip) == (1e-4, (0.5, 0.999), "constant", None)
    assert model.default_batch_size == 64
    default = fit_modis(mdata, SCALED, training={"max_epochs": 1}).trainer.lightning_module.options
    assert (default.lr, default.betas, default.game_warmup) == (1e-3, (0.9, 0.999), 0.1)


# ------------------------------------------------------------------- absent and stored


@pytest.fixture(scope="module")
def lacking():
    """A model of samples of which modality a never showed one class, and the complete ones."""
    everything = planted(400, cluster_share=0.9, noise=0.3, n_private=2)
    mdata = simulate.degrade(everything, labels_key="label", classes={("label_2", "a"): 0})
    model = fit_modis(
        mdata,
        SCALED,
        adversary="none",
        weights=only(label=1.0, data=0.1),
        options=options(dropout_rate=0.1, discriminator_widths=(32,)),
        training={"max_epochs": 8, "batch_size": 64, "plan_kwargs": {"lr": 1e-2}},
    )
    return model, everything


def test_a_class_that_a_modality_never_showed_is_found_by_the_rule_alone(lacking):
    model, everything = lacking
    assert model.absent_classes() == {"a": ["label_2"], "b": []}
    here = presence(everything)
    truth = everything.obs["label"].astype(str).to_numpy()
    absent = here[:, 0] & (truth == "label_2")
    known = here[:, 0] & ~absent
    found = {rule: model.predict(everything, absent_class=rule) for rule in ("auto", "abstain", "off")}
    assert (found["off"][absent] == "label_2").mean() < 0.1
    assert (found["auto"][absent] == "label_2").mean() > 0.9
    assert found["abstain"][absent].isna().mean() > 0.9
    for rule in ("auto", "abstain", "off"):
        assert (found[rule][known] == truth[known]).mean() > 0.9
        assert found[rule][here[:, 1]].equals(found["off"][here[:, 1]])
    novelty = model.novelty(everything)
    assert list(novelty.index) == list(everything.obs_names)
    assert (novelty.notna().to_numpy() == here).all()
    assert (novelty["a"][absent] < 0.01).mean() > 0.9
    assert (novelty["a"][known] < 0.01).mean() < 0.1


def test_a_stored_model_predicts_the_same(lacking, tmp_path):
    model, everything = lacking
    with torch.no_grad():
        model.module.temperature.copy_(torch.tensor([0.5, 3.0]))
    model.save(tmp_path / "model")
    loaded = MODIS.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(everything), model.predict_proba(everything), atol=1e-6)
    for rule in ("auto", "abstain", "off"):
        assert loaded.predict(everything, absent_class=rule).equals(model.predict(everything, absent_class=rule))
    np.testing.assert_allclose(loaded.novelty(everything), model.novelty(everything), atol=1e-6)
    np.testing.assert_allclose(
        loaded.translate("a", "b", mdata=everything).values, model.translate("a", "b", mdata=everything).values
    )
    assert loaded.options == model.options
    assert loaded.weights == model.weights


def test_presets_and_ratios_by_name_survive_storage(tmp_path):
    mdata = planted(80)
    ratios = {"a": (1.0, 0.5), "b": (0.5,)}
    model = build_modis(
        mdata, SCALED, preset="paper-tcga", n_latent=4, options={"ratios": ratios, "discriminator_widths": (8,)},
        weights=MODISWeights(label=2.0),
    )  # fmt: skip
    train(model, max_epochs=1)
    model.save(tmp_path / "model")
    loaded = MODIS.load(tmp_path / "model", mdata)
    assert (loaded.preset, loaded.options.ratios, loaded.weights.label) == ("paper-tcga", ratios, 2.0)
    np.testing.assert_allclose(shared_latent(loaded), shared_latent(model), atol=1e-6)


@pytest.mark.parametrize(
    ("pattern", "alone", "said"), [("diagonal", True, True), ("diagonal", False, False), ("all", True, False)]
)
def test_classes_labelled_in_one_modality_of_data_without_pairs_are_warned_of(pattern, alone, said, caplog):
    mdata = planted(120, pattern=pattern)
    kinds = sorted(mdata.obs["label"].astype(str).unique())
    kept = presence(mdata)[:, 0] | (mdata.obs["label"] != kinds[1]).to_numpy() | (not alone)
    mdata.obs["label"] = mdata.obs["label"].astype(object).where(kept, "unknown")
    model = build_modis(mdata, SCALED)
    with caplog.at_level(logging.WARNING):
        train(model, max_epochs=1)
    assert ("labels in one of them only" in caplog.text) == said
    assert not said or repr(kinds[1]) in caplog.text
