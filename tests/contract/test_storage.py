"""Saving and loading: with data, without, with other data; nothing is ever unpickled."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from _compare import assert_same, assert_same_weights, by_name, rebuilt, snapshot
from contract.conftest import contract_mosaic
from safetensors.torch import load_file, save_file

from smalti._errors import NotFittedError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path

CLOSE = 1e-6


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A stored model without data."""
    trained.model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def plan_folder(trained_plan, tmp_path) -> Path:
    """A stored model without data, one per training plan."""
    trained_plan.model.save(tmp_path / "model")
    return tmp_path / "model"


def subset(mdata, rng, share=0.4):
    """Return a MuData of some cells, in another order."""
    cells = rng.permutation(mdata.obs_names)[: round(share * mdata.n_obs)]
    return rebuilt(mdata, {name: mod[[c for c in cells if c in mod.obs_names]] for name, mod in mdata.mod.items()})


# ------------------------------------------------------------------------- round trips


def test_with_data(trained, tmp_path):
    trained.model.save(tmp_path / "model", save_anndata=True)
    model = trained.spec.cls.load(tmp_path / "model")
    assert model.is_trained_
    assert list(model.adata.obs_names) == list(trained.mdata.obs_names)
    np.testing.assert_allclose(model.get_latent_representation(), trained.latent, atol=CLOSE)


def test_with_passed_data(trained, folder):
    mdata = contract_mosaic()
    model = trained.spec.cls.load(folder, mdata)
    assert model.adata is mdata
    np.testing.assert_allclose(model.get_latent_representation(), trained.latent, atol=CLOSE)
    assert_same_weights(model.module, trained.model.module)


def test_without_data_and_data_later(trained, folder):
    model = trained.spec.cls.load(folder)
    assert model.adata is None
    assert "no data" in repr(model)
    with pytest.raises(NotFittedError, match="loaded without data"):
        model.get_latent_representation()
    with pytest.raises(ValueError, match="loaded without data"):
        model.train()
    model.adata = contract_mosaic()
    np.testing.assert_allclose(model.get_latent_representation(), trained.latent, atol=CLOSE)


def test_without_data_and_a_query(trained, folder, rng):
    query = subset(trained.mdata, rng)
    model = trained.spec.cls.load(folder)
    expected = by_name(trained.latent, trained.mdata.obs_names, query.obs_names)
    np.testing.assert_allclose(model.get_latent_representation(query), expected, atol=1e-5)


def test_with_other_cells(trained, folder, rng):
    query = subset(trained.mdata, rng)
    model = trained.spec.cls.load(folder, query)
    expected = by_name(trained.latent, trained.mdata.obs_names, query.obs_names)
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["a", "c"])
def test_with_one_modality_only(trained, folder, name):
    query = rebuilt(trained.mdata, {name: trained.mdata[name]})
    model = trained.spec.cls.load(folder, query)
    assert model.modalities == ["a", "b", "c"]
    alone = trained.model.get_latent_representation(modality=name)
    expected = by_name(alone, trained.mdata.obs_names, query.obs_names)
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-5)


def test_after_the_data_were_replaced(trained_plan, plan_folder, rng, tmp_path):
    query = subset(trained_plan.mdata, rng)
    model = trained_plan.spec.cls.load(plan_folder, contract_mosaic())
    model.adata = query
    expected = model.get_latent_representation()
    model.save(tmp_path / "again", save_anndata=True)
    again = trained_plan.spec.cls.load(tmp_path / "again")
    assert list(again.adata.obs_names) == list(query.obs_names)
    np.testing.assert_allclose(again.get_latent_representation(), expected, atol=CLOSE)
    again = trained_plan.spec.cls.load(tmp_path / "again", contract_mosaic())
    np.testing.assert_allclose(again.get_latent_representation(), trained_plan.latent, atol=CLOSE)


def test_a_loaded_model_tells_what_the_trained_one_told(trained_plan, plan_folder):
    model, loaded = trained_plan.model, trained_plan.spec.cls.load(plan_folder)
    assert list(loaded.history) == list(model.history)
    for key, series in model.history.items():
        values = loaded.history[key]
        assert values[key].dtype == float
        assert list(values.index) == list(series.index)
        np.testing.assert_array_equal(values[key].to_numpy(), series[key].to_numpy(dtype=float))
    assert loaded.get_var_names() == model.get_var_names()
    assert loaded.sizes_ == model.sizes_
    assert loaded.label_categories == model.label_categories == [f"label_{i}" for i in range(3)]
    assert loaded.batch_categories == model.batch_categories
    np.testing.assert_array_equal(loaded.train_indices_, model.train_indices_)


def test_an_untrained_model_can_be_stored(one_spec, mosaic, tmp_path):
    model = one_spec.build(mosaic)
    model.save(tmp_path / "model")
    loaded = one_spec.cls.load(tmp_path / "model", mosaic)
    assert not loaded.is_trained_
    one_spec.fit(model)
    one_spec.fit(loaded)
    assert_same_weights(loaded.module, model.module)


def test_saving_changes_neither_data_nor_model(trained_plan, tmp_path):
    mdata = contract_mosaic()
    for mod in mdata.mod.values():
        mod.obs["depth"] = 1.0
        mod.obs["site"] = np.where(np.arange(mod.n_obs) % 2, "left", "right")
    trained_plan.model.save(tmp_path / "first")
    model = trained_plan.spec.cls.load(tmp_path / "first", mdata)
    before, weights = snapshot(mdata), {k: v.clone() for k, v in model.module.state_dict().items()}
    model.save(tmp_path / "second", save_anndata=True)
    assert_same(snapshot(mdata), before)
    assert_same(snapshot(trained_plan.spec.cls.load(tmp_path / "second").adata)["obs"], before["obs"])
    assert all(torch.equal(v, weights[k]) for k, v in model.module.state_dict().items())


# -------------------------------------------------------------------------- overwriting


def test_a_model_is_overwritten_only_when_told(trained_plan, plan_folder):
    before = {path.name: path.read_bytes() for path in plan_folder.iterdir()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained_plan.model.save(plan_folder)
    assert {path.name: path.read_bytes() for path in plan_folder.iterdir()} == before
    trained_plan.model.save(plan_folder, overwrite=True)


def test_overwriting_leaves_no_data_of_the_model_before(trained_plan, tmp_path):
    trained_plan.model.save(tmp_path / "model", save_anndata=True)
    trained_plan.model.save(tmp_path / "model", overwrite=True)
    loaded = trained_plan.spec.cls.load(tmp_path / "model")
    assert loaded.adata is None


def test_data_that_are_not_there_cannot_be_stored(trained_plan, plan_folder, tmp_path):
    model = trained_plan.spec.cls.load(plan_folder)
    with pytest.raises(NotFittedError, match="no data"):
        model.save(tmp_path / "again", save_anndata=True)
    assert not (tmp_path / "again").exists()


# ------------------------------------------------------------------ what is in the files


def test_only_weights_and_plain_json_are_stored(trained, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert set(load_file(folder / "model.safetensors")) == set(trained.model.module.state_dict())


def lists_in(value, where="model"):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from lists_in(item, f"{where}.{key}")
    elif isinstance(value, list):
        yield where, len(value)
        for item in value:
            yield from lists_in(item, where)


def test_nothing_in_the_files_tells_about_single_cells(trained, folder):
    text = (folder / "model.json").read_text()
    assert not [name for name in trained.mdata.obs_names if name in text]
    counts = {trained.mdata.n_obs, *(mod.n_obs for mod in trained.mdata.mod.values())}
    stored = [(where, n) for where, n in lists_in(json.loads(text)) if n in counts or n > 60]
    assert {where.split(".")[1] for where, _ in stored} <= {"train_indices", "validation_indices"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        # the joint latent keeps positions of some cells, as the user guide says
        assert name.startswith("joint.") or not counts & set(tensor.shape), name


# ----------------------------------------------------------------------- foreign files


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def bomb(tmp_path):
    """Return what goes off when it is unpickled, and the file that tells so."""
    crater = tmp_path / "crater"
    pickle.loads(pickle.dumps(Bomb(tmp_path / "rehearsal"))).close()
    assert (tmp_path / "rehearsal").exists(), "the bomb must work"
    return Bomb(crater), crater


def test_a_pickled_model_of_another_tool_is_refused_and_never_opened(one_spec, tmp_path, bomb):
    load, crater = bomb
    (tmp_path / "foreign").mkdir()
    torch.save({"model_state_dict": {}, "attr_dict": load}, tmp_path / "foreign" / "model.pt")
    with pytest.raises(UnsafeFileError, match=r"model\.pt"):
        one_spec.cls.load(tmp_path / "foreign")
    assert not crater.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_pickle_under_another_name_is_refused_and_never_opened(one_spec, mosaic, tmp_path, bomb, name):
    load, crater = bomb
    one_spec.build(mosaic).save(tmp_path / "model")
    torch.save(load, tmp_path / "model" / name)
    with pytest.raises(UnsafeFileError, match=name.replace(".", r"\.")):
        one_spec.cls.load(tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(pickle.dumps(load))
    with pytest.raises(UnsafeFileError, match=name.replace(".", r"\.")):
        one_spec.cls.load(tmp_path / "model")
    assert not crater.exists()


def test_a_pickle_instead_of_a_checkpoint_is_refused_and_never_opened(one_spec, mosaic, tmp_path, bomb):
    load, crater = bomb
    torch.save(load, tmp_path / "state.ckpt")
    with pytest.raises(UnsafeFileError, match=r"state\.ckpt"):
        one_spec.fit(one_spec.build(mosaic), checkpoint=tmp_path / "state.ckpt", resume=True)
    assert not crater.exists()


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '{"format": "other"}', '{"format": "smalti-model", "format_version": 99}']
)
def test_json_of_another_tool_or_a_newer_version_is_refused(one_spec, tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(UnsafeFileError, match=r"model\.json"):
        one_spec.cls.load(tmp_path)


def test_a_folder_without_a_model_is_named(one_spec, tmp_path):
    with pytest.raises(FileNotFoundError, match="No smalti model"):
        one_spec.cls.load(tmp_path / "nowhere")


def test_another_class_refuses_the_model(trained_plan, plan_folder):
    other = type("Another", (trained_plan.spec.cls,), {})
    with pytest.raises(ValueError, match=rf"holds a {trained_plan.spec.cls.__name__}"):
        other.load(plan_folder)


def test_data_that_do_not_fit_are_refused_with_the_first_difference(trained_plan, plan_folder):
    mdata = contract_mosaic()
    mdata = rebuilt(mdata, {name: mod[:, ::-1] if name == "b" else mod for name, mod in mdata.mod.items()})
    with pytest.raises(ValueError, match="Modality 'b'.*another order.*'b_19' != 'b_00'"):
        trained_plan.spec.cls.load(plan_folder, mdata)


def test_a_history_is_a_table_per_term(trained_plan):
    for key, series in trained_plan.model.history.items():
        assert isinstance(series, pd.DataFrame)
        assert list(series.columns) == [key]
