from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from _clue import build_clue, train
from _factories import make_mosaic

from smalti import simulate
from smalti.data import presence
from smalti.model.parts import encoder_inputs, linear_alignment, warm_start

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}


@pytest.fixture(scope="module")
def model():
    return build_clue(make_mosaic(n_obs=210), MODALITIES)


def test_encoder_inputs_are_those_of_the_network_for_every_cell(model):
    components, maps = encoder_inputs(model.adata_manager, model.module.inputs)
    batch = model.adata_manager.create_torch_dataset()[np.arange(210)]
    for name in model.modalities:
        here = batch["present"][:, model.module.inputs.position(name)]
        np.testing.assert_array_equal(maps[name] >= 0, here)
        expected = model.module.inputs.encode(batch, name, here)
        np.testing.assert_allclose(components[name][maps[name][here]], expected, rtol=1e-5, atol=1e-5)


def test_a_warm_start_sees_only_training_cells_and_starts_at_linear_cca(model):
    cells = np.flatnonzero(np.arange(210) % 3 > 0)
    warm_start(model.module.inputs, model.module.aligners.sets(), model.cell_components().of(cells))
    components = model.cell_components().values
    cca = linear_alignment(model.cell_components().of(cells))
    everybody = linear_alignment(model.cell_components())
    assert np.abs(everybody.axes["a"] - cca.axes["a"]).max() > 1e-3
    k = min(8, len(cca.correlations))
    for name in model.modalities:
        linear = model.module.aligners.sets()[0][name].linear.weight.detach().numpy()
        np.testing.assert_allclose(
            linear[:k], (cca.axes[name] * np.maximum(cca.correlations, 0)).T[:k], rtol=1e-4, atol=1e-6
        )
        expected = cca.transform({name: components[name]})[name][:, :k]
        found = components[name] @ linear.T + model.module.aligners.sets()[0][name].head.bias.detach().numpy()
        np.testing.assert_allclose(found[:, :k], expected, rtol=1e-3, atol=1e-3)


def test_too_few_pairs_give_no_warm_start():
    mdata = make_mosaic(n_obs=40, pattern="mosaic")
    model = build_clue(mdata, MODALITIES)
    assert presence(mdata).all(1).sum() == 20
    before = {k: v.clone() for k, v in model.module.aligners.state_dict().items()}
    few = model.cell_components().of(np.flatnonzero(presence(mdata).all(1))[:15])
    warm_start(model.module.inputs, model.module.aligners.sets(), few)
    assert all(torch.equal(v, before[k]) for k, v in model.module.aligners.state_dict().items())


def test_unlinked_modalities_are_left_out_of_the_warm_start():
    mdata = make_mosaic(n_obs=400, n_features={"a": 30, "b": 20, "c": 30, "d": 20}, likelihood="nb", pattern="paired")
    keep = np.zeros((400, 4), dtype=bool)
    keep[:250, :2] = True
    keep[250:, 2:] = True
    model = build_clue(simulate.drop(mdata, keep))
    cca = linear_alignment(model.cell_components())
    assert list(cca.axes) == ["a", "b"]
    train(model, max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


def test_components_are_kept_from_construction_and_are_those_of_the_network():
    model = build_clue(make_mosaic(n_obs=210), MODALITIES)
    kept = model.cell_components()
    assert kept is model.cell_components()
    streamed = encoder_inputs(model.adata_manager, model.module.inputs)
    for name in model.modalities:
        np.testing.assert_array_equal(kept.maps[name], streamed.maps[name])
        np.testing.assert_allclose(kept.values[name], streamed.values[name], rtol=1e-4, atol=1e-4)


def test_components_behind_gates_are_not_kept():
    model = build_clue(make_mosaic(n_obs=120), {"a": {"gate": "global"}, "b": "poisson", "c": "gaussian"})
    first = model.cell_components().values["a"]
    with torch.no_grad():
        model.module.inputs.gates["a"].shared.mu.fill_(-1.0)
    assert np.abs(model.cell_components().values["a"] - first).max() > 1e-3


@pytest.mark.parametrize("kind", ["pca", "scaled"])
@pytest.mark.parametrize("storage", ["csr", "dense"])
def test_gates_start_in_the_order_of_what_linear_cca_needs(kind, storage):
    mdata = make_mosaic(
        n_obs=400, pattern="paired", n_features={"a": 60, "b": 40}, likelihood="gaussian", n_private=0, storage=storage
    )
    rng, x = np.random.default_rng(0), np.array(mdata["a"].to_df())
    x[:, 30:] = 3 * x[rng.permutation(400)][:, 30:]  # varies most, shares nothing
    mdata["a"].X = sp.csr_matrix(x) if storage == "csr" else x
    spec = {"a": {"encoder_input": kind, "gate": "global"}, "b": {"encoder_input": kind}}
    model = build_clue(mdata, {name: {"likelihood": "gaussian"} | s for name, s in spec.items()})
    gate = model.module.inputs.gates["a"].shared
    train_cells, start = np.arange(300), torch.full((60,), 0.5)
    gate.mu.data.copy_(start)
    model.module.inputs.train()
    warm_start(model.module.inputs, model.module.aligners.sets(), model.cell_components().of(train_cells))
    assert model.module.inputs.training
    order = gate.mu.detach().argsort(descending=True).numpy()
    assert (order[:25] < 30).mean() >= 0.9
    before = gate.mu.detach().clone()
    x[300:] = 1000 * rng.standard_normal((100, 60))  # cells that are not for training
    other = build_clue(mdata, {name: {"likelihood": "gaussian"} | s for name, s in spec.items()})
    other.module.load_state_dict(model.module.state_dict())
    other.module.inputs.gates["a"].shared.mu.data.copy_(start)
    warm_start(other.module.inputs, other.module.aligners.sets(), other.cell_components().of(train_cells))
    assert torch.allclose(other.module.inputs.gates["a"].shared.mu, before, atol=1e-5)


@pytest.mark.parametrize("storage", ["csr", "dense"])
def test_what_batches_differ_by_opens_no_gate(storage):
    mdata = make_mosaic(
        n_obs=300, pattern="paired", n_features={"a": 30, "b": 20}, likelihood="gaussian", storage=storage
    )
    batch = np.asarray(mdata.obs["batch"].astype("category").cat.codes)
    x = np.array(mdata["a"].to_df())
    x[:, 7] += 50 * batch
    mdata["a"].X = sp.csr_matrix(x) if storage == "csr" else x
    spec = {"likelihood": "gaussian", "encoder_input": "pca"}
    model = build_clue(mdata, {"a": spec | {"gate": "global"}, "b": spec})
    within = np.sqrt(
        np.mean([x[batch == b].var(axis=0) * (batch == b).mean() for b in np.unique(batch)], axis=0)
        * len(np.unique(batch))
    )
    assert len(np.unique(batch)) > 1
    assert model.sizes_.n_batch > 1
    np.testing.assert_allclose(model.module.inputs.gates["a"].spread, within, rtol=1e-3)
