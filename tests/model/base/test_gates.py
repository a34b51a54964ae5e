"""Gates in models: off they change nothing, on they are priced, trained, written, stored and warned about."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from _clue import build_clue, train
from _factories import make_mosaic
from _mca import OPTIONS as MCA_OPTIONS

from smalti import pl
from smalti.data import Modality
from smalti.model import CLUE, MCA, MODIS, UnpairedCCA
from smalti.nn import GateSchedule

ALL = {
    "a": {"encoder_input": "pca", "gate": "global"},
    "b": {"encoder_input": "counts", "gate": "global+local"},
    "c": {"encoder_input": "scaled", "gate": "local"},
}


def aligned(model):
    return model.get_latent_representation(block="aligned")


def build(name: str, mdata, spec):
    if name == "clue":
        return build_clue(mdata, spec)
    cls, kwargs = {"mca": (MCA, {"options": MCA_OPTIONS}), "modis": (MODIS, {})}[name]
    cls.setup_mudata(mdata, spec, labels_key="label" if name == "modis" else None)
    return cls(mdata, **kwargs)


@pytest.mark.parametrize("name", ["clue", "mca", "modis"])
def test_without_gates_nothing_changes_and_nothing_is_added(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mdata = make_mosaic(n_obs=96)
    first = train(build(name, mdata, None))
    module = type(first.module)
    monkeypatch.setattr(module, "gate_price", lambda _: None)  # as if gates had never been there
    second = train(build(name, mdata, None))
    for key, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[key]), key
    assert not [key for key in first.module.state_dict() if "gate" in key]
    assert not [key for key in first.history if "gate" in key or "open" in key]


@pytest.mark.parametrize("name", ["clue", "mca", "modis"])
def test_the_loss_that_is_trained_contains_the_price_of_gates(name: str) -> None:
    model = build(name, make_mosaic(n_obs=96), {m: {"gate": "global", "gate_penalty": 0.5} for m in "abc"})
    for gate in model.module.gates:
        gate.anneal(0.6)
    batch = model.adata_manager.create_torch_dataset()[np.arange(96)]
    totals = []
    for price in (0.0, 0.5):
        for gate in model.module.gates:
            gate.penalty = price
        torch.manual_seed(0)
        totals.append(model.module.eval()(batch)[2])
    n_open = sum(float(gate.expected_open()) for gate in model.module.gates)
    assert float(totals[1].extra_metrics["gates"]) == pytest.approx(0.5 * n_open, rel=1e-5)
    assert float(totals[1].loss - totals[0].loss) == pytest.approx(0.5 * n_open, rel=1e-3)
    assert float(totals[1].extra_metrics["monitor"]) == pytest.approx(
        float(totals[0].extra_metrics["monitor"]), rel=1e-5
    )


def test_a_model_without_gates_refuses_them_at_set_up() -> None:
    mdata = make_mosaic(n_obs=60)
    with pytest.raises(ValueError, match="UnpairedCCA has no gates, but modality 'a'"):
        UnpairedCCA.setup_mudata(mdata, {"a": {"gate": "global"}, "b": "nb", "c": "gaussian"})


@pytest.mark.parametrize("name", ["clue", "mca", "modis"])
def test_every_model_takes_every_kind_of_gate_and_logs_its_price(name: str, tmp_path) -> None:
    mdata = make_mosaic(n_obs=96, storage={"a": "csr", "b": "csc", "c": "dense"})
    mdata["a"].var["set"] = [f"s{i // 3}" if i < 24 else None for i in range(mdata["a"].n_vars)]
    for spec in (ALL, {"a": {"gate": "sparse_group", "gate_groups": "set", "gate_keep": 9}, "b": None, "c": None}):
        model = train(build(name, mdata, spec), max_epochs=4)
        for name_ in model.gate_names():
            for end in ("train", "validation"):
                assert f"open_{name_}_{end}" in model.history
                assert f"gates_{end}" in model.history
        model.write_gates(groupby="label")
        z = aligned(model)
        model.save(tmp_path / "model", overwrite=True)
        again = type(model).load(tmp_path / "model", mdata)
        assert np.allclose(aligned(again), z, atol=1e-5, equal_nan=True)
        assert again.get_gates("a").equals(model.get_gates("a"))
    var = mdata["a"].var
    assert {"selected", "gate", "gate_prob", "gate_group"} <= set(var)
    groups = mdata["a"].uns["gates"]["groups"]
    assert groups["n_features"].sum() == mdata["a"].n_vars
    assert set(groups.index[:1]) <= {f"s{i}" for i in range(8)} | set(var.index)
    assert {"n_open"} <= set(mdata["c"].obs)
    assert mdata["c"].varm["gate_by_label"].to_numpy().max() <= 1
    assert mdata["a"].uns["gates"]["convention"] == "mu, sigma, no shift"


def test_closed_features_cannot_influence_the_latent() -> None:
    mdata = make_mosaic(n_obs=96, storage="dense")
    model = train(
        build_clue(mdata, {"a": {"encoder_input": "scaled", "gate": "global", "gate_keep": 8}, "b": None, "c": None})
    )
    z = aligned(model)
    closed = ~model.get_gates("a")["selected"].to_numpy()
    assert closed.sum() >= 22
    other = mdata.copy()
    at = np.flatnonzero(closed)
    layer = model.module.inputs.layers["a"]
    layer.centre[:, at] += 100.0  # the same as changing the standardised values of closed features
    assert np.allclose(model.get_latent_representation(other, block="aligned"), z, atol=1e-5)
    layer.centre[:, np.flatnonzero(~closed)] += 1.0
    assert not np.allclose(model.get_latent_representation(other, block="aligned"), z, atol=1e-3)


@pytest.mark.slow
def test_gates_keep_features_that_modalities_share_and_close_permuted_ones() -> None:
    mdata = make_mosaic(n_obs=600, pattern="paired", n_features={"a": 60, "b": 40}, likelihood="gaussian", n_private=0)
    rng = np.random.default_rng(0)
    x = np.array(mdata["a"].X)
    for j in range(30, 60):
        x[:, j] = x[rng.permutation(600), j]
    mdata["a"].X = x
    spec = {"a": {"encoder_input": "scaled", "gate": "global", "gate_keep": 25}, "b": {"encoder_input": "scaled"}}
    model = train(build_clue(mdata, spec), max_epochs=120, batch_size=128)
    selected = np.flatnonzero(model.get_gates("a")["selected"])
    assert len(selected) <= 25
    assert (selected < 30).mean() >= 0.9


@pytest.mark.parametrize("name", ["clue", "mca", "modis"])
def test_permuted_features_are_not_supported_and_keeping_them_is_warned_of(name: str, caplog) -> None:
    mdata = make_mosaic(n_obs=400, pattern="paired", n_features={"a": 60, "b": 40}, likelihood="gaussian", n_private=0)
    rng = np.random.default_rng(0)
    x = np.array(mdata["a"].X)
    for j in range(30, 60):
        x[:, j] = x[rng.permutation(400), j]
    mdata["a"].X = x
    spec = {"a": {"encoder_input": "scaled", "gate": "global", "gate_keep": 55}, "b": {"encoder_input": "scaled"}}
    model = build(name, mdata, spec)
    with caplog.at_level(logging.INFO, logger="smalti"):
        train(model, max_epochs=12, batch_size=128)
    support = model.gate_support("a")
    assert support.supported[30:].sum() <= 2
    assert support.supported[:30].mean() > 0.8
    assert f"only {support.n_supported} are told from permuted ones" in caplog.text
    assert "gate_keep" in caplog.text
    assert f"{support.n_supported} of 60 features are supported" in caplog.text
    model.write_gates()
    assert mdata["a"].var["supported"].sum() == mdata["a"].uns["gates"]["n_supported"] == support.n_supported
    with pytest.raises(KeyError, match="b"):
        model.gate_support("b")


@pytest.mark.slow
def test_a_price_path_closes_more_at_higher_prices_leaves_the_model_alone_and_is_drawn() -> None:
    mdata = make_mosaic(n_obs=140, pattern="paired", n_features={"a": 24, "b": 20}, likelihood="gaussian", n_private=0)
    x = np.array(mdata["a"].X)
    x[:, 12:] = np.random.default_rng(0).permuted(x[:, 12:], axis=0)
    mdata["a"].X = x
    spec = {"a": {"encoder_input": "scaled", "gate": "global", "gate_keep": 22}, "b": {"encoder_input": "scaled"}}
    model = train(build_clue(mdata, spec), max_epochs=10, batch_size=64)
    before, table = {k: v.clone() for k, v in model.module.state_dict().items()}, model.get_gates("a")
    history, batches = len(model.history["gates_train"]), {"max_epochs": 40, "batch_size": 32}
    found = model.gate_path("a", prices=[1e-3, 10.0], stability=1, **batches)
    assert len(model._prices("a", 3)) == 3
    n_open = found.path["n_a"].to_numpy()
    assert (np.diff(found.path["lam"]) > 0).all()
    assert n_open[-1] < n_open[0]
    assert (found.path["difference"] >= 0).all()
    assert found.tables["a"]["gate_stability"].isin([0, 1]).all()
    lasting = found.open_along_path["a"].mean(axis=0)
    assert lasting[:12].mean() > lasting[12:].mean(), "features that modalities share close before permuted ones"
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert model.get_gates("a").equals(table)
    assert len(model.history["gates_train"]) == history
    assert "report_gates" not in vars(model)
    found.write(mdata)
    path, top = pl.gates(mdata, "a", n_top=5).axes
    assert list(path.lines[0].get_ydata()) == n_open.tolist()
    assert len(top.texts) == 5
    best = found.tables["a"]["effect"].sort_values(ascending=False)
    assert top.get_yticklabels()[-1].get_text() == best.index[0]
    with pytest.raises(ValueError, match="lowest first"):
        model.gate_path("a", prices=[1.0, 0.5])
    with pytest.raises(KeyError, match="b"):
        model.gate_path("b")


@pytest.mark.parametrize(("penalty", "word"), [(1e4, "closed"), (0.0, "open|stuck")])
def test_prices_that_close_or_open_everything_are_named(penalty: float, word: str, caplog) -> None:
    mdata = make_mosaic(n_obs=96)
    model = build_clue(mdata, {"a": {"gate": "global", "gate_penalty": penalty}, "b": None, "c": None})
    with caplog.at_level(logging.WARNING, logger="smalti"):
        train(model, max_epochs=400 if penalty else 2)  # gates move by a hundredth per step

    assert re.search(word, caplog.text)
    assert "price" in caplog.text


def test_the_best_epoch_is_one_in_which_gates_were_final() -> None:
    mdata = make_mosaic(n_obs=96)
    model = train(build_clue(mdata, {"a": {"gate": "global", "gate_keep": 0.3}, "b": None, "c": None}), max_epochs=20)
    gate = model.module.inputs.gates["a"].shared
    assert gate.closed.sum() >= 21, "weights of an epoch before gates closed were restored"
    assert GateSchedule().refit == 0.9


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"gate": "glob"}, "gate"),
        ({"gate": "group"}, "gate_groups"),
        ({"gate_keep": 10}, "no meaning without gates"),
        ({"gate": "global", "gate_keep": 10, "gate_penalty": 1.0}, "either"),
        ({"gate": "global", "gate_keep": -1}, "gate_keep"),
    ],
)
def test_gates_that_make_no_sense_are_refused(spec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Modality(**spec)


def test_gates_on_components_are_refused_and_so_is_writing_none() -> None:
    mdata = make_mosaic(n_obs=96)
    mdata["a"].obsm["X_mine"] = np.random.default_rng(0).standard_normal((mdata["a"].n_obs, 4))
    with pytest.raises(ValueError, match="act on features"):
        CLUE.setup_mudata(mdata, {"a": {"encoder_input": "X_mine", "gate": "global"}, "b": None, "c": None})
    model = build_clue(mdata)
    with pytest.raises(ValueError, match="no gates"):
        model.write_gates()
    with pytest.raises(KeyError, match="sets"):
        build_clue(mdata, {"a": {"gate": "group", "gate_groups": "sets"}, "b": None, "c": None})


def test_effects_rank_features_whose_gates_are_equally_open():
    """A feature that the latent does not look at has no effect, however open its gate."""
    mdata = make_mosaic(n_obs=120, pattern="paired")
    model = build_clue(mdata, {"a": {"likelihood": "nb", "gate": "global", "gate_keep": 10}, "c": "gaussian"})
    train(model, max_epochs=2, batch_size=32)
    table = model.get_gates("a")
    assert (table["effect"] >= 0).all()
    assert table["effect"].nunique() > 5
    layer = model.module.inputs.layers["a"]
    blind = int(table["effect"].to_numpy().argmax())
    with torch.no_grad():
        layer.weight[blind] = 0
    assert model.get_gates("a")["effect"].iloc[blind] == pytest.approx(0, abs=1e-6)
    model.write_gates()
    top = pl.gates(mdata, "a", n_top=5).axes[1]
    best = model.get_gates("a")["effect"].sort_values(ascending=False)
    assert [t.get_text() for t in top.get_yticklabels()][::-1] == list(best.index[:5])
    np.testing.assert_allclose([patch.get_width() for patch in top.patches][::-1], best.iloc[:5])


def test_the_best_epoch_of_a_gated_model_is_the_one_whose_weights_were_kept():
    mdata = make_mosaic(n_obs=120, pattern="paired")
    model = build_clue(mdata, {"a": {"likelihood": "nb", "gate": "global", "gate_keep": 10}, "c": "gaussian"})
    train(model, max_epochs=10, batch_size=32)
    noted = model.history["best_epoch"]
    monitor = model.history["monitor_validation"]
    epoch = noted.index[0]
    assert noted.iloc[0, 0] == pytest.approx(float(monitor.loc[epoch].iloc[0]))
    assert epoch >= int(GateSchedule().refit * 10)
    assert any(f"best epoch: {epoch}" in str(line.get_label()) for line in pl.history(model).axes[0].lines)
