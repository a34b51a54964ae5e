from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import mudata
import numpy as np
import pytest
from _factories import make_mosaic
from PIL import Image
from typer.testing import CliRunner

import smalti as sm
from smalti import _console, cli
from smalti._mudata import no_pull

if TYPE_CHECKING:
    from types import ModuleType

runner = CliRunner()


def run(*arguments: object, ok: bool = True) -> str:
    """Run a command and return all it printed; errors must be one line, without a traceback."""
    result = runner.invoke(cli.app, list(map(str, arguments)))
    assert (result.exit_code == 0) == ok, result.output
    if not ok:
        lines = [line for line in result.output.splitlines() if "Error" in line]
        assert len(lines) == 1
        assert "Traceback" not in result.output
    return result.output


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small mosaic in a file."""
    path = tmp_path_factory.mktemp("mosaic") / "in.h5mu"
    with no_pull():
        make_mosaic(pattern="mosaic", n_obs=120, n_features={"a": 30, "b": 20}).write(path)
    return path


def read(path: Path) -> mudata.MuData:
    with no_pull():
        return mudata.read_h5mu(path)


def test_version_and_help_are_shown() -> None:
    assert run("--version").strip() == f"smalti {sm.__version__}"
    text = run("--help")
    assert all(command in text for command in ("demo", "fit", "describe", "models"))


def test_every_model_that_can_be_fitted_is_listed_with_what_it_is_for() -> None:
    lines = run("models").splitlines()
    assert [line.split()[0] for line in lines] == [e.command for e in sm.tl.MODELS if e.available]
    assert all(len(line.split()) > 3 for line in lines)


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "smalti", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"smalti {sm.__version__}"


@pytest.mark.parametrize("module", [cli, _console])
def test_nothing_heavy_is_imported_before_a_command_runs(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    found = {
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert found - set(sys.stdlib_module_names) <= {"typer", "rich"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[mudata.MuData]]:
    """A demo of one epoch: its folder, what it printed, and the mosaics that something was fitted to."""
    folder, seen = tmp_path_factory.mktemp("results") / "demo", []
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((sm.tl, "linear_cca"), (sm.model.CLUE, "setup_mudata")):

            def spy(mdata, original=getattr(owner, name), **options):
                seen.append(mdata)
                return original(mdata, **options)

            patch.setattr(owner, name, spy)
        text = run("demo", "--out", folder, "--epochs", 1)
    return folder, text, seen


def test_demo_writes_a_mosaic_a_picture_and_scores(demo) -> None:
    folder, _, _ = demo
    names = ["metrics.json", "pbmc_mosaic_integrated.h5mu", "umap.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    mdata = read(folder / "pbmc_mosaic_integrated.h5mu")
    assert mdata.n_obs == 1600
    assert mdata.obs["hidden_in_training"].sum() == 160
    for key in ("X_clue", "X_cca", "X_umap"):
        assert len(mdata.obsm[key]) == 1600
        assert np.isfinite(mdata.obsm[key]).all()
    with Image.open(folder / "umap.png") as picture:
        assert min(picture.size) > 400
        assert len(picture.convert("RGB").resize((200, 200)).getcolors(40_000)) > 20


def test_demo_prints_scores_on_held_out_pairs_beside_the_baseline(demo) -> None:
    folder, text, _ = demo
    record = json.loads((folder / "metrics.json").read_text())
    assert (record["held_out"], record["n_pairs"], record["epochs"]) == (True, 160, 1)
    assert set(record["scores"]) == {"CLUE", "linear joint", "linear CCA"}
    assert record["chance"]["foscttm"] == 0.5
    for scores in record["scores"].values():
        assert scores["foscttm"] < 0.1
        assert scores["transfer rna -> adt"] > 0.8
        assert f"{scores['foscttm']:.3f}" in text


def test_nothing_that_the_demo_fits_sees_the_pairs_that_it_scores(demo) -> None:
    _, _, seen = demo
    assert len(seen) == 2
    for mdata in seen:
        here = sm.data.presence(mdata)[mdata.obs["hidden"].to_numpy()]
        assert len(here) == 320
        assert (here.sum(axis=1) == 1).all()


def test_fit_writes_the_latent_the_model_and_a_picture(source: Path, tmp_path: Path) -> None:
    target, folder, picture = tmp_path / "out.h5mu", tmp_path / "model", tmp_path / "picture.png"
    text = run(
        *("fit", source, "-o", target, "--model", "clue", "--epochs", 1, "--seed", 3),
        *("--batch-key", "batch", "--labels-key", "label", "--modalities", "b=poisson,a=nb"),
        *("--save-model", folder, "--plot", picture),
    )
    before, after = read(source), read(target)
    assert "X_clue" in after.obsm
    assert after.obs_names.equals(before.obs_names)
    assert (after["a"].X != before["a"].X).nnz == 0
    model = sm.model.CLUE.load(folder, after)
    assert model.modalities == ["b", "a"]
    assert [size.likelihood for size in model.sizes_.modalities.values()] == ["poisson", "nb"]
    assert (model.random_state, model.label_categories[0]) == (3, "label_0")
    np.testing.assert_allclose(model.get_latent_representation(), after.obsm["X_clue"], atol=1e-5)
    assert picture.stat().st_size > 10_000
    assert "X_clue" in text


def test_fit_offers_every_model_that_exists(source: Path, tmp_path: Path) -> None:
    target, folder = tmp_path / "out.h5mu", tmp_path / "model"
    run(
        *("fit", source, "-o", target, "--model", "modis", "--epochs", 1, "--labels-key", "label"),
        *("--save-model", folder),
    )
    after = read(target)
    assert np.isfinite(after.obsm["X_modis"]).all()
    model = sm.model.MODIS.load(folder, after)
    np.testing.assert_allclose(model.get_latent_representation(), after.obsm["X_modis"], atol=1e-5)
    assert set(model.predict()) <= set(model.label_categories)


def test_files_are_not_replaced_unless_told(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.h5mu"
    target.write_text("precious")
    assert "--overwrite" in run("fit", source, "-o", target, ok=False)
    assert target.read_text() == "precious"
    run("fit", source, "-o", target, "--epochs", 1, "--overwrite")
    assert "X_clue" in read(target).obsm


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nonsense"], r"Expected `--model` to be one of 'clue'.*'modis'.*found 'nonsense'"),
        (["--modalities", "a=nb,b=wrong"], r"likelihood.*'nb'.*found 'wrong'"),
        (["--modalities", "a,z"], r"'z' not found; available: 'a', 'b'"),
        (["--batch-key", "tissue"], r"no column 'tissue'"),
    ],
)
def test_mistakes_get_one_line(source: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    text = run("fit", source, "-o", tmp_path / "out.h5mu", *arguments, ok=False)
    assert re.search(message, text)
    assert not (tmp_path / "out.h5mu").exists()


def test_files_that_are_no_mudata_get_one_line(tmp_path: Path) -> None:
    assert "There is no file" in run("describe", tmp_path / "nothing.h5mu", ok=False)
    (tmp_path / "text.h5mu").write_text("hello")
    assert "cannot be read as a MuData file" in run("describe", tmp_path / "text.h5mu", ok=False)
    with h5py.File(tmp_path / "empty.h5mu", "w") as file:
        file["x"] = 1
    # mudata 0.4 reads such a file as one without modalities
    said = run("describe", tmp_path / "empty.h5mu", ok=False)
    assert "cannot be read as a MuData file" in said or "modalit" in said


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["describe", str(tmp_path / "nothing.h5mu"), "--debug"])
    assert isinstance(result.exception, FileNotFoundError)


def test_describe_prints_the_description_and_draws_the_mosaic(source: Path, tmp_path: Path) -> None:
    text = run("describe", source, "--batch-key", "batch", "--labels-key", "label", "--plot", tmp_path / "m.png")
    found = sm.tl.describe_mosaic(read(source), batch_key="batch", labels_key="label")
    assert text.strip() == repr(found)
    with Image.open(tmp_path / "m.png") as picture:
        assert min(picture.size) > 100


def test_columns_that_only_modalities_have_are_collected(source: Path, tmp_path: Path) -> None:
    mdata = read(source)
    for adata in mdata.mod.values():
        adata.obs["donor"] = mdata.obs.loc[adata.obs_names, "batch"].astype(str)
    mdata.obs = mdata.obs.drop(columns="batch")
    with no_pull():
        mdata.write(tmp_path / "columns.h5mu")
    assert "and in which donor" in run("describe", tmp_path / "columns.h5mu", "--batch-key", "donor")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("rna=nb,adt=nb", {"rna": "nb", "adt": "nb"}),
        (" rna , adt = poisson ", {"rna": None, "adt": "poisson"}),
    ],
)
def test_modalities_are_read_as_written(text: str | None, expected: dict[str, str | None] | None) -> None:
    assert cli._parse_modalities(text) == expected
