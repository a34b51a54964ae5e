"""Stored models are whole: damaged, mixed and lying files are refused, and an earlier model survives any failure."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from _factories import make_mosaic
from safetensors.torch import load_file, save_file

from smalti._errors import UnsafeFileError
from smalti.model import UnpairedCCA
from smalti.model.base import _persistence

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def trained() -> UnpairedCCA:
    mdata = make_mosaic(n_obs=60)
    UnpairedCCA.setup_mudata(mdata, batch_key="batch")
    model = UnpairedCCA(mdata, encoder="linear", options={"n_latent": 4, "n_permutations": 0, "accept": "always"})
    model.train(1, progress=False, accelerator="cpu")
    return model


@pytest.fixture(scope="module")
def stored(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "model"
    trained.save(folder, save_anndata=True)
    return folder


@pytest.fixture
def folder(stored, tmp_path) -> Path:
    """A stored model with data, to be spoiled."""
    return shutil.copytree(stored, tmp_path / "model")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flipped(data: bytes, bit: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[bit // 8] ^= 1 << (bit % 8)
    return bytes(spoiled)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "mdata.h5mu"])
def test_no_flipped_bit_goes_unseen(folder, name):
    whole = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.integers(0, 8 * len(whole), 130):
        (folder / name).write_bytes(flipped(whole, int(bit)))
        with pytest.raises(UnsafeFileError, match=name.replace(".", r"\.")):
            UnpairedCCA.load(folder)
    (folder / name).write_bytes(whole)
    UnpairedCCA.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "mdata.h5mu"])
@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_truncated_files_are_refused(folder, name, share):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnsafeFileError, match=name.replace(".", r"\.")):
        UnpairedCCA.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "mdata.h5mu"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UnsafeFileError, match=rf"{name} is missing"):
        UnpairedCCA.load(folder)


def test_weights_of_another_model_are_refused(folder, trained, tmp_path):
    weights = {
        name: w + 1 if w.is_floating_point() else w for name, w in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UnsafeFileError, match="checksum differs"):
        UnpairedCCA.load(folder)


def sealed(folder: Path, change) -> None:
    """Change the registry and give it valid checksums, as somebody who means harm would."""
    state = json.loads((folder / "model.json").read_text())
    change(state)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    state["files"], state["checksum"] = {**state["files"], "model.safetensors": weights}, "0" * 64
    text = json.dumps(state)
    (folder / "model.json").write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1))


def test_a_registry_that_claims_huge_sizes_is_refused_before_memory_is_asked_for(folder, monkeypatch):
    def huge(state):
        state["sizes"]["modalities"]["a"]["n_features"] = 10**9
        state["sizes"]["modalities"]["a"]["input_config"]["n_features"] = 10**9
        state["config"]["encoder"] = "deep"
        state["config"]["options"]["n_hidden"] = 10**7

    sealed(folder, huge)
    (folder / "mdata.h5mu").unlink()
    sealed(folder, lambda state: state["files"].pop("mdata.h5mu"))
    with pytest.raises(UnsafeFileError, match="larger than the stored weights|is not|cannot build|belong together"):
        UnpairedCCA.load(folder)


@pytest.mark.parametrize("spoil", ["nan", "integers", "shape", "names"])
def test_weights_that_are_no_weights_are_refused(folder, spoil):
    weights = load_file(folder / "model.safetensors")
    name = next(n for n, w in weights.items() if n.startswith("inputs.") and w.is_floating_point() and w.numel())
    weights[name] = {
        "nan": lambda w: torch.full_like(w, torch.nan),
        "integers": lambda w: w.to(torch.int32),
        "shape": lambda w: w.ravel()[:1],
        "names": lambda w: w,
    }[spoil](weights[name])
    if spoil == "names":
        weights["other"] = weights.pop(name)
    save_file(weights, folder / "model.safetensors")
    sealed(folder, lambda state: None)
    with pytest.raises(UnsafeFileError, match=r"NaN|int32|shape|not those"):
        UnpairedCCA.load(folder)


def test_models_of_the_first_format_are_read(folder, trained):
    state = json.loads((folder / "model.json").read_text())
    state = {key: value for key, value in state.items() if key not in ("checksum", "files")}
    (folder / "model.json").write_text(json.dumps({**state, "format_version": 1}))
    model = UnpairedCCA.load(folder)
    np.testing.assert_allclose(model.get_latent_representation(), trained.get_latent_representation(), atol=1e-6)


# ------------------------------------------------------------------ failures while writing


@pytest.mark.parametrize("where", ["save_file", "write_mudata", "write_text"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_earlier_model_and_its_data(folder, trained, monkeypatch, where, error):
    def fail(*args, **kwargs):
        raise error

    before = content(folder)
    monkeypatch.setattr(_persistence, where, fail)
    with pytest.raises(type(error)):
        trained.save(folder, overwrite=True, save_anndata=True)
    assert content(folder) == before


@pytest.mark.parametrize("moment", range(8))
def test_a_process_killed_between_two_files_leaves_one_whole_model(folder, tmp_path, trained, monkeypatch, moment):
    """The folder as it is after each renaming and removal: what a kill at that moment would leave."""
    left: list[Path] = []
    calls = {"replace": os.replace, "unlink": os.unlink}

    def watched(name):
        def call(*args, **kwargs):
            left.append(shutil.copytree(folder, tmp_path / f"moment{len(left)}"))
            return calls[name](*args, **kwargs)

        return call

    other = UnpairedCCA.load(folder)
    with torch.no_grad():
        for weight in other.module.parameters():
            weight += 1
    expected = {True: trained.get_latent_representation(), False: other.get_latent_representation()}
    for name in calls:
        monkeypatch.setattr(os, name, watched(name))
    other.save(folder, overwrite=True, save_anndata=True)
    monkeypatch.undo()
    left.append(folder)
    found = UnpairedCCA.load(left[min(moment, len(left) - 1)]).get_latent_representation()
    assert any(np.allclose(found, z, atol=1e-6) for z in expected.values())
    UnpairedCCA.load(left[-1]).save(left[min(moment, len(left) - 1)], overwrite=True)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_kill_while_saving_leaves_a_whole_model(folder, tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from smalti.model import UnpairedCCA
        model = UnpairedCCA.load(sys.argv[1])
        print("ready", flush=True)
        while True:
            model.save(sys.argv[1], overwrite=True, save_anndata=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(float(np.random.default_rng().uniform(0.05, 0.4)))
    process.kill()
    process.wait()
    assert UnpairedCCA.load(folder).adata is not None


def test_an_empty_registry_does_not_count_as_a_model(trained, tmp_path):
    (tmp_path / "model.json").write_text("")
    trained.save(tmp_path)
    UnpairedCCA.load(tmp_path)


def test_other_files_in_the_folder_stay(trained, folder):
    (folder / "notes.txt").write_text("mine")
    trained.save(folder, overwrite=True)
    assert sorted(content(folder)) == ["model.json", "model.safetensors", "notes.txt"]


def test_a_file_in_the_place_of_the_folder_is_named(trained, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        trained.save(tmp_path / "file", overwrite=True)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.0, 2.0]), pd.Series(["a", "b"], dtype="string"), pd.Series(pd.date_range("2020", periods=2)),
        pd.Series([1, "b"], dtype=object), pd.Series([True, False]), pd.Series([1, 2], dtype="Int64"),
    ],
    ids=lambda values: str(values.dtype),
)  # fmt: skip
def test_batches_of_every_dtype_survive_storing_with_the_data(values, tmp_path):
    mdata = make_mosaic(n_obs=40)
    mdata.obs["run"] = values.iloc[np.arange(mdata.n_obs) % 2].array
    UnpairedCCA.setup_mudata(mdata, batch_key="run")
    model = UnpairedCCA(mdata, encoder="linear", options={"n_latent": 3, "n_permutations": 0, "accept": "always"})
    model.save(tmp_path / "model", save_anndata=True)
    loaded = UnpairedCCA.load(tmp_path / "model")
    assert loaded.batch_categories == model.batch_categories
    assert (loaded.adata_manager.codes()["batch"] == model.adata_manager.codes()["batch"]).all()
