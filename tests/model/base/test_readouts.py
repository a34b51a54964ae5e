"""Which latent is for what: joint for analysis, aligned for matching, and a floor under the latter."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from _clue import build_clue, fit_clue, options, train

from smalti import simulate
from smalti.model import CLUE, MCA, MODIS, UnpairedCCA
from smalti.model.base import HeldOutMatching


def factors(n=600, **changes):
    settings = {"n_features": {"a": 40, "b": 30}, "n_shared": 6, "n_private": 2, "noise": 0.6, "n_clusters": 3}
    return simulate.factor_views(n, **{**settings, **changes})


@pytest.fixture(scope="module")
def model():
    return fit_clue(factors(), options=options(n_align=8))


@pytest.mark.parametrize("cls", [CLUE, MCA, MODIS, UnpairedCCA])
def test_after_training_the_default_latent_is_the_joint_one_and_aligned_is_there_to_match(cls, tmp_path):
    mdata = factors(150)
    cls.setup_mudata(mdata, labels_key="label")
    model = cls(mdata)
    model.train(max_epochs=1, progress=False, accelerator="cpu")
    joint, aligned = model.get_latent_representation(), model.get_latent_representation(block="aligned")
    np.testing.assert_array_equal(model.get_latent_representation(block="joint"), joint)
    assert joint.shape[0] == aligned.shape[0] == 150
    assert np.isfinite(joint).all()
    assert joint.shape != aligned.shape or np.abs(joint - aligned).max() > 0.1
    model.save(tmp_path / "model")
    loaded = cls.load(tmp_path / "model", mdata)
    np.testing.assert_allclose(loaded.get_latent_representation(), joint, atol=1e-5)


def test_new_cells_of_known_batches_need_no_refit(model):
    mdata = model.adata
    whole = model.get_latent_representation()
    some = mdata[:40].copy()
    np.testing.assert_allclose(model.get_latent_representation(some), whole[:40], atol=1e-2)


def test_modalities_of_one_cell_agree_more_in_the_aligned_block_than_strangers(model):
    a, b = (model.get_latent_representation(modality=name, block="aligned") for name in "ab")
    own = (a * b).sum(1)
    assert own.mean() > (a @ b.T).mean() + 0.3


def test_batches_are_mixed_unless_shown():
    mdata = factors(400)
    batch = np.where(np.arange(400) % 2, "x", "y")
    mdata.obs["batch"] = batch
    for mod in mdata.mod.values():
        shift = np.random.default_rng(0).normal(size=mod.n_vars) * 2
        mod.X = np.asarray(mod.to_df(), dtype=np.float32) + shift * (batch == "x")[:, None]
    model = fit_clue(mdata, dict.fromkeys("ab", "gaussian"), options=options(n_align=8))
    z = {word: model.get_latent_representation(batch_correction=word) for word in ("on", "off")}

    def apart(values):
        return float(np.linalg.norm(values[batch == "x"].mean(0) - values[batch == "y"].mean(0)) / values.std())

    assert apart(z["on"]) < 0.5 * apart(z["off"])
    with pytest.raises(ValueError, match="`batch_correction` to be one of 'on', 'off'"):
        model.get_latent_representation(batch_correction="maybe")


def test_a_model_that_matches_worse_than_linear_cca_says_so(caplog):
    """The networks are spoilt and the share that would save them is fixed: nothing is left of the matching."""
    mdata = factors(900)
    model = build_clue(mdata, options=options(n_align=8))
    model._after_training = lambda: [torch.nn.init.normal_(p) for p in model.module.aligners.networks.parameters()]
    with caplog.at_level(logging.WARNING, "smalti"):
        train(model, max_epochs=1)
    found = model.held_out_matching_
    assert found.n_pairs == 90
    assert found.model > 0.3
    assert found.linear < 0.15
    assert found.model_is_worse
    assert "Linear CCA matches cells better than this model on your own 90 held-out pairs" in caplog.text


def test_a_sound_model_says_nothing_and_keeps_the_comparison(caplog):
    model = build_clue(factors(900), options=options(n_align=8))
    with caplog.at_level(logging.WARNING, "smalti"):
        train(model, max_epochs=3)
    assert "Linear CCA matches" not in caplog.text
    assert model.held_out_matching_.model <= model.held_out_matching_.linear + 0.05


def test_too_few_held_out_pairs_are_not_judged(model):
    small = fit_clue(factors(100), options=options(n_align=8))
    assert small.held_out_matching_ is None


def test_worse_means_by_more_than_two_standard_errors():
    values = {"n_pairs": 100, "linear": 0.10, "standard_error": 0.01}
    assert not HeldOutMatching(model=0.119, **values).model_is_worse
    assert HeldOutMatching(model=0.121, **values).model_is_worse


@pytest.mark.parametrize("cls", [MCA, MODIS])
def test_linear_cca_stands_beside_networks_that_match_worse(cls, tmp_path):
    """After one epoch a network knows little; the block for matching must not."""
    mdata = factors(500)
    cls.setup_mudata(mdata, labels_key="label")
    model = cls(mdata)
    model.train(max_epochs=1, progress=False, accelerator="cpu")
    assert model.held_out_matching_ is not None
    assert not model.held_out_matching_.model_is_worse
    one, own = (model.get_latent_representation(block=block) for block in ("aligned", cls.aligned_block))
    assert one.shape != own.shape
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    model.save(tmp_path / "model")
    loaded = cls.load(tmp_path / "model", mdata)
    np.testing.assert_allclose(loaded.get_latent_representation(block="aligned"), one, atol=1e-5)
