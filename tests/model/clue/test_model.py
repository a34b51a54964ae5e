from __future__ import annotations

import logging

import numpy as np
import pytest
from _clue import build_clue, fit_clue, only, options, train
from _compare import by_name
from _factories import make_mosaic

import smalti as sm
from smalti import simulate
from smalti.data import presence

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}


@pytest.fixture(scope="module")
def model():
    return fit_clue(make_mosaic(), MODALITIES)


# -------------------------------------------------------------------------- the latents


def test_blocks_are_slices_of_the_full_latent(model):
    full = model.get_latent_representation(block="full")
    assert full.shape == (84, 3 * 5)
    for i, name in enumerate("abc"):
        np.testing.assert_array_equal(model.get_latent_representation(block=name), full[:, 5 * i : 5 * (i + 1)])


def test_the_aligned_block_is_of_unit_length_and_as_wide_as_its_axes(model):
    aligned = model.get_latent_representation(block="aligned")
    assert aligned.shape == (84, int(model.module.aligners.n_axes))
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=1), 1, rtol=1e-5)


def test_the_aligned_latent_of_a_cell_is_the_direction_of_the_mean_over_its_modalities(model):
    single = np.stack([model.get_latent_representation(modality=name, block="aligned") for name in "abc"])
    mean = np.nanmean(single, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(model.get_latent_representation(block="aligned"), expected, atol=1e-5)


def test_without_the_contrastive_term_the_full_latent_is_the_default_before_training_and_enters_the_joint_one():
    untrained = build_clue(make_mosaic(), MODALITIES, weights=only(data=1, kl=1))
    untrained.is_trained_ = True
    full = untrained.get_latent_representation(block="full")
    np.testing.assert_array_equal(untrained.get_latent_representation(), full)
    model = fit_clue(make_mosaic(), MODALITIES, weights=only(data=1, kl=1))
    assert "latent" in model.module.joint.joint.scales
    with pytest.raises(ValueError, match="no aligned block.*block='full'"):
        model.get_latent_representation(block="aligned")


def test_unknown_blocks_are_refused(model):
    with pytest.raises(
        ValueError, match="`block` to be one of 'joint', 'aligned', 'full', 'a', 'b', 'c', found 'separate'"
    ):
        model.get_latent_representation(block="separate")


@pytest.mark.parametrize("fusion", ["mean", "poe", "poe_prior"])
def test_fusion_follows_its_formula(fusion):
    model = fit_clue(make_mosaic(), MODALITIES, fusion=fusion)
    here = presence(model.adata)
    batch = model.adata_manager.create_torch_dataset()[np.arange(84)]
    latents = model.module.inference(batch)["latents"]
    mean = np.stack([latents[name].mean.detach().numpy() for name in "abc"])
    precision = np.stack([latents[name].scale.detach().numpy() ** -2 for name in "abc"])
    weight = here.T[:, :, None] * (np.ones_like(precision) if fusion == "mean" else precision)
    expected = (weight * mean).sum(0) / (weight.sum(0) + (fusion == "poe_prior"))
    np.testing.assert_allclose(model.get_latent_representation(block="full"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["mean", "poe", "poe_prior"])
def test_a_paired_cell_without_its_other_modalities_has_the_latent_of_the_one_left(fusion):
    model = fit_clue(make_mosaic(), MODALITIES, fusion=fusion)
    here = presence(model.adata)
    keep = here.copy()
    keep[here[:, 0], 1:] = False
    reduced = simulate.drop(model.adata, keep)
    cells = model.adata.obs_names[here[:, 0]]
    for block in ("full", "aligned", "b"):
        alone = model.get_latent_representation(modality="a", block=block)[here[:, 0]]
        found = by_name(model.get_latent_representation(reduced, block=block), reduced.obs_names, cells)
        np.testing.assert_allclose(found, alone, atol=1e-5)


def test_normalised_latents_have_unit_length():
    model = fit_clue(make_mosaic(), MODALITIES, preset="paper")
    for modality in (None, "a"):
        z = model.get_latent_representation(modality=modality, block="full")
        norms = np.linalg.norm(z, axis=1)
        np.testing.assert_allclose(norms[~np.isnan(norms)], 1, rtol=1e-5)


# ----------------------------------------------------------------------------- set-up


def test_set_up_alone_works_on_the_shipped_mosaic_and_tells_what_it_inferred(caplog):
    mdata = sm.datasets.pbmc_mosaic()
    with caplog.at_level(logging.INFO, logger="smalti"):
        sm.model.CLUE.setup_mudata(mdata)
    said = "\n".join(record.getMessage() for record in caplog.records)
    for name in ("rna", "adt"):
        assert f"Modality '{name}': likelihood 'nb', inferred from the values." in said
        assert f"Modality '{name}': encoder input " in said
    model = sm.model.CLUE(mdata, options=options(n_components=10))
    train(model, max_epochs=1, batch_size=256)
    latent = model.get_latent_representation()
    assert len(latent) == 1600
    assert np.isfinite(latent).all()
    assert "1600 cells, batches: 1, labels: 0, paired: 'rna-adt'" in repr(model)


def test_likelihoods_that_are_given_are_not_inferred(caplog):
    with caplog.at_level(logging.INFO, logger="smalti"):
        build_clue(make_mosaic(), MODALITIES)
    assert "likelihood" not in "".join(record.getMessage() for record in caplog.records)


def test_the_summary_names_modalities_and_state(model):
    text = repr(model)
    assert text == model.summary()
    assert "CLUE (trained)" in text
    assert "a: 30 features, nb, encoder sees projection 10" in text
    assert "c: 12 features, gaussian" in text
    assert "84 cells, batches: 2, labels: 3" in text
    assert "fusion mean" in text
    assert "not trained" in repr(build_clue(make_mosaic()))


def test_without_the_shared_trunk_there_is_a_network_per_block():
    shared, apart = (build_clue(make_mosaic(), options=options(share_trunk=flag)) for flag in (True, False))
    assert [len(e.trunks) for e in shared.module.encoders.members.values()] == [1] * 3
    assert [len(e.trunks) for e in apart.module.encoders.members.values()] == [3] * 3


# --------------------------------------------------------------------- what pairs teach


def foscttm(model, mdata) -> float:
    """Return FOSCTTM of the test pairs of ``hide_pairs``."""
    first, second = simulate.hidden_pairs(mdata, "a", "b")
    z = model.get_latent_representation(mdata)
    return sm.metrics.foscttm(z[first], z[second])


def factor_mosaic(*, shuffled: bool = False, paired: float = 1.0, seed: int = 0):
    mdata = simulate.factor_views(
        1500, n_features=(100, 80), likelihood={"a": "nb", "b": "gaussian"}, random_state=seed
    )
    test = simulate.hide_pairs(mdata, 0.25, random_state=seed)
    if shuffled:
        test = simulate.shuffle_pairs(test, "b", random_state=seed)
    if paired < 1:
        test = simulate.mosaic(test, paired=paired, random_state=seed)
    return test


def learned(mdata, **kwargs) -> float:
    sm.model.CLUE.setup_mudata(mdata)
    model = sm.model.CLUE(mdata, **kwargs)
    model.train(max_epochs=80, progress=False, accelerator="cpu")
    return foscttm(model, mdata)


@pytest.mark.slow
def test_held_out_pairs_find_each_other_when_all_others_are_paired():
    assert learned(factor_mosaic()) < 0.05


@pytest.mark.slow
def test_held_out_pairs_are_at_chance_when_the_pairs_are_shuffled():
    # what is learned is a random map, whose score varies by 0.04 between seeds
    found = [learned(factor_mosaic(shuffled=True, seed=seed)) for seed in range(4)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_more_pairs_match_better():
    found = [learned(factor_mosaic(paired=share)) for share in (1.0, 0.3, 0.05)]
    assert found == sorted(found)
    assert found[-1] < 0.4
