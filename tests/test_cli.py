from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic
from PIL import Image
from typer.testing import CliRunner

import smalti as sm
from smalti import _cli_options, _commands, _console, cli
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
    assert all(
        command in text for command in ("demo", "fit", "describe", "models", "query", "translate", "match", "report")
    )


def test_every_model_that_can_be_fitted_is_listed_with_what_it_is_for() -> None:
    lines = run("models").splitlines()
    assert [line.split()[0] for line in lines] == [e.command for e in sm.tl.MODELS if e.available]
    assert all(len(line.split()) > 3 for line in lines)


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "smalti", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"smalti {sm.__version__}"


@pytest.mark.parametrize("module", [cli, _console, _commands, _cli_options])
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


def test_a_file_name_with_markup_is_printed_as_it_is(source: Path, tmp_path: Path) -> None:
    (tmp_path / "[").mkdir()
    target = tmp_path / "[" / "x].h5mu"  # "[/x]" closes a tag that was never opened
    text = run("fit", source, "-o", target, "--model", "clue", "--epochs", 1)
    assert "[/x].h5mu" in text
    assert target.exists()


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
    assert _console.parse_modalities(text, {}, []) == expected


def test_the_choices_of_models_in_the_help_are_those_of_the_catalogue() -> None:
    assert [entry.command for entry in sm.tl.MODELS if entry.available] == list(_cli_options.MODELS)
    text = " ".join(run("fit", "--help").split())
    assert all(name in text for name in ("clue", "modis", "--links", "--layers", "--report", "rna=counts"))


@pytest.fixture(scope="module")
def stored(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, its page, its latents as a table; the folder and what was written."""
    folder = tmp_path_factory.mktemp("stored")
    run(
        *("fit", source, "-o", folder / "out.h5mu", "--epochs", 2, "--batch-key", "batch"),
        *("--save-model", folder / "model", "--latents", folder / "z.tsv", "--report", folder / "page.html"),
    )
    return folder / "model", folder


def test_fit_writes_the_latents_as_a_table_and_the_page(stored) -> None:
    _, folder = stored
    table = pd.read_csv(folder / "z.tsv", sep="\t", index_col="cell")
    np.testing.assert_allclose(table.to_numpy(), read(folder / "out.h5mu").obsm["X_clue"], rtol=1e-4, atol=1e-5)
    assert (folder / "page_mqc.json").exists()
    assert "Who was measured in what" in (folder / "page.html").read_text(encoding="utf-8")


def test_a_query_is_mapped_and_labelled(source: Path, stored, tmp_path: Path) -> None:
    model, _ = stored
    query = read(source)["a"]
    query.write_h5ad(tmp_path / "query.h5ad")
    text = run(
        *("query", model, tmp_path / "query.h5ad", "-o", tmp_path / "mapped.h5mu", "--modality", "a"),
        *("--reference", source, "--labels-key", "label"),
    )
    mapped = read(tmp_path / "mapped.h5mu")
    loaded = sm.model.CLUE.load(model, read(source))
    expected = loaded.get_latent_representation(modality="a", block="joint")[loaded.adata.obsmap["a"].ravel() > 0]
    assert mapped.obsm["X_clue"].shape == expected.shape
    assert {"label_label", "label_confidence", "label_unknown"} <= set(mapped.obs)
    assert "prediction sets" in text
    assert "--labels-key" in run("query", model, source, "-o", tmp_path / "x.h5mu", "--reference", source, ok=False)


def test_translation_and_matches_are_written(source: Path, stored, tmp_path: Path) -> None:
    model, _ = stored
    run("translate", model, source, "-o", tmp_path / "b.h5ad", "--from", "a", "--to", "b")
    found = anndata.read_h5ad(tmp_path / "b.h5ad")
    assert list(found.var_names) == list(read(source)["b"].var_names)
    assert found.n_obs == read(source)["a"].n_obs
    text = run("match", model, source, "-o", tmp_path / "m.tsv", "--from", "a", "--to", "b", "--within", "batch")
    table = pd.read_csv(tmp_path / "m.tsv", sep="\t", index_col="cell")
    assert list(table) == ["match", "confidence", "mutual"]
    assert set(table["match"]) <= set(read(source)["b"].obs_names)
    assert "CellMatch" in text
    assert "name it .h5ad or .tsv" in run("translate", model, source, "-o", tmp_path / "b.csv", "--to", "b", ok=False)


def test_a_page_of_a_stored_model(source: Path, stored, tmp_path: Path) -> None:
    run("report", stored[0], source, "-o", tmp_path / "r.html")
    assert "CLUE, smalti" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "at least 2 seeds" in run("report", stored[0], source, "-o", tmp_path / "x.html", "--stability", 1, ok=False)


def test_one_file_per_modality_with_layers(source: Path, tmp_path: Path) -> None:
    whole = read(source)
    parts = []
    for name, adata in whole.mod.items():
        adata.layers["raw"], adata.X = adata.X.copy(), np.asarray(np.log1p(adata.X.todense()))
        adata.obs["donor"] = whole.obs.loc[adata.obs_names, "batch"].astype(str)
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        parts.append(f"{name}={tmp_path / f'{name}.h5ad'}")
    target = tmp_path / "out.h5mu"
    run("fit", *parts, "-o", target, "--epochs", 1, "--batch-key", "donor", "--layers", "a=raw,b=raw")
    assert read(target).obsm["X_clue"].shape[0] == whole.n_obs
    assert "need names" in run("describe", *(tmp_path / f"{m}.h5ad" for m in whole.mod), ok=False)
    bad = ("fit", *parts, "-o", tmp_path / "x.h5mu", "--layers", "z=raw")
    assert "'z' not found" in run(*bad, ok=False)
    zarr = tmp_path / "in.zarr"
    with no_pull():
        read(source).write_zarr(zarr)
    assert "120" in run("describe", zarr)


def test_clusters_are_written_beside_the_latent(source: Path, tmp_path: Path) -> None:
    run("fit", source, "-o", tmp_path / "f.h5mu", "--model", "fusionclustering", "--epochs", 2)
    assert "cluster" in read(tmp_path / "f.h5mu").obs


def test_links_are_read_from_a_table(source: Path, tmp_path: Path) -> None:
    mdata = read(source)
    links = pd.DataFrame({"a": mdata["a"].var_names[:10], "b": mdata["b"].var_names[:10]})
    links.to_csv(tmp_path / "links.tsv", sep="\t", index=False)
    target = tmp_path / "u.h5mu"
    run("fit", source, "-o", target, "--model", "unpairedcca", "--epochs", 1, "--links", tmp_path / "links.tsv")
    assert "X_unpairedcca" in read(target).obsm
    assert "unpairedcca" in run("fit", source, "-o", tmp_path / "x.h5mu", "--links", tmp_path / "links.tsv", ok=False)


def test_with_three_links_four_are_asked_for(source: Path, tmp_path: Path) -> None:
    mdata = read(source)
    links = pd.DataFrame({"a": mdata["a"].var_names[:3], "b": mdata["b"].var_names[:3]})
    links.to_csv(tmp_path / "three.tsv", sep="\t", index=False)
    with no_pull():
        a = mdata["a"][:50].copy()
        b = mdata["b"][~mdata["b"].obs_names.isin(a.obs_names)].copy()
        mudata.MuData({"a": a, "b": b}).write(tmp_path / "apart.h5mu")  # no pairs
    where = (tmp_path / "apart.h5mu", "-o", tmp_path / "three.h5mu")
    said = run("fit", *where, "--model", "unpairedcca", "--epochs", 1, "--links", tmp_path / "three.tsv")
    assert "at least 4 links" in " ".join(said.split())
