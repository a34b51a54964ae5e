from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from _clue import build_clue, fit_clue, only, options
from _factories import as_storage, make_mosaic

from smalti import simulate
from smalti.data import Modality, row_maps
from smalti.model.parts import modality_weights

CELLS = np.arange(84)


def aligned(model):
    return model.get_latent_representation(block="full" if model.module.aligners is None else "aligned")


@pytest.fixture(scope="module")
def model():
    return build_clue(make_mosaic(n_obs=210), {"a": "nb", "b": "poisson", "c": "gaussian"})


@pytest.fixture(scope="module")
def batch(model):
    return model.adata_manager.create_torch_dataset()[np.arange(210)]


def log_totals(mdata, name: str) -> np.ndarray:
    rows = row_maps(mdata, [name])[name]
    out = np.full(mdata.n_obs, np.nan)
    total = np.asarray(mdata[name].X.sum(1)).ravel()
    out[rows >= 0] = np.log(np.maximum(total, 1))[rows[rows >= 0]]
    return out


def test_observed_library_sizes_are_log_totals(model, batch):
    for name in ("a", "b"):
        expected = log_totals(model.adata, name)
        found = model.module.inputs.log_library(batch, name).numpy()
        here = np.isfinite(expected)
        np.testing.assert_allclose(found[here], expected[here], rtol=1e-5)
        assert (found[~here] == 0).all()


def test_library_sizes_predict_each_other_by_a_line_through_the_means(model, batch):
    inputs = model.module.inputs
    x, y = log_totals(model.adata, "a"), log_totals(model.adata, "b")
    both = np.isfinite(x) & np.isfinite(y)
    assert both.sum() >= 50
    slope = np.polyfit(x[both], y[both], 1)[0]
    expected = np.nanmean(y) + slope * (x - np.nanmean(x))
    found = inputs.predicted_log_library(batch, "a", "b").numpy()
    np.testing.assert_allclose(found[np.isfinite(x)], expected[np.isfinite(x)], rtol=1e-4)


def test_too_few_pairs_predict_the_mean():
    model = build_clue(make_mosaic(n_obs=60), {"a": "nb", "b": "poisson", "c": "gaussian"})
    assert not model.module.inputs.library_slope.any()


def test_decoders_start_at_the_mean_of_every_feature(model):
    for name in ("a", "b"):
        x = model.adata[name].X
        rate = np.asarray(x.sum(0)).ravel() / np.maximum(x.sum(1), 1).sum()
        np.testing.assert_allclose(model.module.decoding.decoders[name].bias[0].detach().exp(), rate, rtol=1e-4)
    np.testing.assert_allclose(
        model.module.decoding.decoders["c"].bias[0].detach(), model.adata["c"].X.mean(0), rtol=1e-4, atol=1e-6
    )


def test_covariates_are_one_hot_and_equal_shares_on_average(model):
    found = model.module.decoding.covariates(torch.tensor([0, 1, -1])).numpy()
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [0.5, 0.5]])


def test_weights_of_modalities_have_mean_1():
    found = modality_weights({"a": 4.0, "b": 1.0}, ["a", "b", "c"])
    assert found == {"a": 2.0, "b": 0.5, "c": 0.5}


def test_encoder_inputs_have_a_leading_component_of_the_same_spread(model, batch):
    for name in model.modalities:
        here = batch["present"][:, model.module.inputs.position(name)]
        z = model.module.inputs.encode(batch, name, here)
        assert z.shape == (int(here.sum()), model.module.inputs.width(name))
        assert float(z.std(dim=0, correction=0).max()) == pytest.approx(3.0, rel=0.02)


def test_given_components_are_centred_per_batch_and_nothing_else_is_seen(rng):
    def components(mdata):
        for mod in mdata.mod.values():
            mod.obsm["X_own"] = np.random.default_rng(0).normal(size=(mod.n_obs, 4)) + 7
        return mdata

    spec = {name: Modality(encoder_input="X_own") for name in "abc"}
    mdata = components(make_mosaic())
    model = fit_clue(mdata, spec)
    inputs, batch = model.module.inputs, model.adata_manager.create_torch_dataset()[CELLS]
    here, codes = batch["present"][:, 0], batch["batch"].ravel()
    z = inputs.encode(batch, "a", here)
    for code in (0, 1):
        np.testing.assert_allclose(z[codes[here] == code].mean(0), 0, atol=1e-4)
    latent = aligned(model)
    mdata["a"].X = mdata["a"].X[:, ::-1].copy()
    np.testing.assert_array_equal(aligned(model), latent)
    mdata["a"].obsm["X_own"] = mdata["a"].obsm["X_own"][::-1].copy()
    assert np.abs(aligned(model) - latent).max() > 1e-3


# ---------------------------------------------------------------------- feature masks

PANELS = {
    "clr": Modality(likelihood="nb", encoder_input="clr", feature_mask="measured"),
    "pca": Modality(likelihood="poisson", encoder_input="pca", feature_mask="measured"),
    "lsi": Modality(likelihood="zinb", encoder_input="lsi", feature_mask="measured"),
    "counts": Modality(likelihood="nb", encoder_input="counts", feature_mask="measured"),
    "dense counts": Modality(likelihood="nb", encoder_input="counts", feature_mask="measured"),
    "bernoulli": Modality(likelihood="bernoulli", encoder_input="lsi", feature_mask="measured"),
    "mixture": Modality(likelihood="nb_mixture", encoder_input="clr", feature_mask="measured"),
}
NEVER = ("a_03", "a_11")
"""Features that no batch measured."""


def with_panels(storage: str):
    mdata = make_mosaic(likelihood={"a": "nb", "b": "poisson", "c": "gaussian"})
    names = [name for name in mdata["a"].var_names if name not in NEVER]
    mdata = simulate.panels(mdata, "a", panels={"batch_0": names[:20], "batch_1": names[8:]}, random_state=0)
    return as_storage(mdata, {"a": storage})


def poison(mdata) -> int:
    """Put large counts where a batch did not measure a feature; return how many."""
    mod = mdata["a"]
    batch = mdata.obs.loc[mod.obs_names, "batch"].astype(str)
    unmeasured = ~mod.varm["measured"][batch].to_numpy().T
    x = mod.X.toarray() if sp.issparse(mod.X) else mod.X.copy()
    x[unmeasured] = np.random.default_rng(1).poisson(500, int(unmeasured.sum()))
    mod.X = sp.csr_matrix(x) if sp.issparse(mod.X) else x
    return int(unmeasured.sum())


@pytest.mark.parametrize(("kind", "preset"), [*((kind, "default") for kind in PANELS), ("clr", "paper")])
def test_values_of_features_that_a_batch_did_not_measure_change_nothing(kind, preset):
    storage = "dense" if kind == "dense counts" else "csr"
    modalities = {"a": PANELS[kind], "b": "poisson", "c": "gaussian"}
    clean, poisoned = with_panels(storage), with_panels(storage)
    assert poison(poisoned) == 480
    first, second = (fit_clue(mdata, modalities, preset=preset) for mdata in (clean, poisoned))
    for term, series in first.history.items():
        np.testing.assert_allclose(second.history[term].to_numpy(), series.to_numpy(), rtol=1e-3, err_msg=term)
    np.testing.assert_allclose(aligned(second), aligned(first), atol=1e-3)
    np.testing.assert_allclose(second.translate("a", "b").values, first.translate("a", "b").values, rtol=1e-4)
    assert second.module.inputs.masks is not None


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("kind", ["clr", "counts"])
def test_features_that_nobody_measured_get_no_gradient(kind, preset):
    mdata = with_panels("csr")
    poison(mdata)
    modalities = {"a": PANELS[kind], "b": "poisson", "c": "gaussian"}
    model = build_clue(mdata, modalities, preset=preset)
    module = model.module.train()
    module(model.adata_manager.create_torch_dataset()[CELLS])[2].loss.backward()
    never = mdata["a"].var_names.isin(NEVER)
    decoder = module.decoding.decoders["a"]
    for gradient, axis in ((decoder.weight.grad, 1), (decoder.bias.grad, 1), (decoder.log_scale.grad, 1)):
        assert not gradient.index_select(axis, torch.from_numpy(np.flatnonzero(never))).any()
        assert gradient.index_select(axis, torch.from_numpy(np.flatnonzero(~never))).abs().max() > 0
    if kind == "counts":
        weight = module.inputs.layers["a"].linear.weight.grad
        assert not weight[never].any()
        assert weight[~never].abs().max() > 0


def test_without_the_mask_unmeasured_values_would_matter():
    """The control: the same poison is seen where no panel is declared."""
    modalities = {"a": Modality(likelihood="nb", encoder_input="counts"), "b": "poisson", "c": "gaussian"}
    clean, poisoned = with_panels("csr"), with_panels("csr")
    poison(poisoned)
    first, second = (aligned(fit_clue(mdata, modalities)) for mdata in (clean, poisoned))
    # what differs may be the number of axes that is kept
    assert first.shape != second.shape or np.abs(first - second).max() > 0.1


def test_a_model_of_panels_is_stored_with_them(tmp_path):
    modalities = {"a": PANELS["counts"], "b": "poisson", "c": "gaussian"}
    model = fit_clue(with_panels("csr"), modalities)
    model.save(tmp_path / "model")
    poisoned = with_panels("csr")
    poison(poisoned)
    loaded = type(model).load(tmp_path / "model", poisoned)
    np.testing.assert_allclose(aligned(loaded), aligned(model), atol=1e-5)


def test_the_loss_is_the_mean_over_measured_features():
    mdata = with_panels("csr")
    model = build_clue(
        mdata,
        {"a": PANELS["counts"], "b": "poisson", "c": "gaussian"},
        weights=only(data=1.0),
        options=options(dropout_rate=0.0),
    )
    module = model.module.eval()
    cells = np.flatnonzero(row_maps(mdata, ["a"])["a"] >= 0)
    batch = model.adata_manager.create_torch_dataset()[cells]
    torch.manual_seed(0)
    inferred, generated, output = module(batch)
    decoding = module.decoding
    mask = decoding.observed(decoding.step(batch, module.inputs), "a").mask
    codes = batch["batch"].ravel()
    heads = decoding.decoders["a"](module.block(generated["samples"]["a"], "a"), decoding.covariates(codes), None, mask)
    heads = torch.cat([heads[:1] + module.inputs.log_library(batch, "a")[None, :, None], heads[1:]])
    scale = decoding.decoders["a"].scales(codes)
    x = torch.from_numpy(mdata["a"].X.toarray()[row_maps(mdata, ["a"])["a"][cells]])
    nll = module.decoding.families["a"].nll(x, heads, scale.expand_as(x))
    expected = (torch.where(mask, nll, 0.0).sum(1) / mask.sum(1)).mean()
    torch.testing.assert_close(output.extra_metrics["nll_a"], expected.detach(), rtol=1e-4, atol=1e-5)
    measured = mdata["a"].varm["measured"][mdata.obs["batch"].astype(str).iloc[cells]].to_numpy().T
    np.testing.assert_array_equal(mask.numpy(), measured)
