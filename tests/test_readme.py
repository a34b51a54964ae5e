"""What the README promises exists, and what it calls planned does not."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from typer.testing import CliRunner

import smalti as sm
from smalti import cli

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
OWN, STEPS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHELL = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)[1]


def table_of_parts() -> list[tuple[str, str, str]]:
    """Return (part, now, planned) of the table under "What there is"."""
    section = TEXT.partition("## What there is")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in row) for row in rows[1:] if not row[0].startswith(" ---")]


def names(text: str) -> list[str]:
    return re.findall(r"`([A-Za-z_.]+)`", text)


def exists(name: str) -> bool:
    where = sm.model if name[0].isupper() else sm
    for part in name.split("."):
        where = getattr(where, part, None)
    return where is not None


def test_links_and_pictures_lead_somewhere() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", TEXT) if not t.startswith("http")]
    assert len(targets) > 5
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_code_runs_from_loading_to_the_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    train = sm.model.CLUE.train
    monkeypatch.setattr(sm.model.CLUE, "train", lambda model: train(model, 1, progress=False))
    *lines, picture = STEPS.strip().splitlines()
    exec("\n".join(lines), names := {})
    compile(picture, "README.md", "exec")  # the tutorial runs it
    assert np.isfinite(names["mdata"].obsm["X_clue"]).all()
    assert "X_clue" in picture


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README speaks of: 300 cells, some of them in both."""
    folder = tmp_path_factory.mktemp("newcomer")
    mdata = sm.datasets.pbmc_mosaic()
    chosen = np.random.default_rng(0).choice(mdata.obs_names.to_numpy(str), 400, replace=False)
    for name, adata in mdata.mod.items():
        part = adata[adata.obs_names.isin(chosen)].copy()
        part.obs["donor"] = mdata.obs.loc[part.obs_names, "batch"].astype(str).to_numpy()
        part.write_h5ad(folder / f"{name}.h5ad")
    query = mdata["rna"][~mdata["rna"].obs_names.isin(chosen)][:50].copy()
    query.obs["donor"] = "new"
    query.write_h5ad(folder / "new_donor.h5ad")
    return folder


def test_ten_lines_lead_from_own_files_to_markers_and_a_page_without_a_warning(newcomer, monkeypatch) -> None:
    lines = OWN.strip().splitlines()
    assert len([line for line in lines if line]) <= 10
    train = sm.model.CLUE.train
    monkeypatch.setattr(sm.model.CLUE, "train", lambda model, *_, **__: train(model, 2, progress=False))
    monkeypatch.chdir(newcomer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(OWN, names := {})
    plt.close("all")
    assert names["mdata"].obs["leiden"].nunique() > 1
    assert (newcomer / "report.html").stat().st_size > 4_000_000
    assert [f"{w.category.__name__}: {w.message} ({w.filename})" for w in caught if shown_to_users(w)] == []


def shown_to_users(warning: warnings.WarningMessage) -> bool:
    """Return whether Python shows it by default: deprecations only where the user's own code causes them."""
    hidden = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
    return not issubclass(warning.category, hidden)


def test_three_commands_lead_to_a_page_and_a_mapped_donor(newcomer, monkeypatch) -> None:
    monkeypatch.chdir(newcomer)
    commands = [shlex.split(line) for line in SHELL.strip().splitlines()]
    assert len(commands) == 3
    for program, *arguments in commands:
        assert program == "smalti"
        further = ["--epochs", "2", "--overwrite"] if arguments[0] == "fit" else []
        done = CliRunner().invoke(cli.app, [*arguments, *further])
        assert done.exit_code == 0, done.output
    assert (newcomer / "mapped.h5mu").exists()


@pytest.mark.parametrize(("part", "now", "planned"), table_of_parts())
def test_what_exists_exists_and_what_is_planned_does_not(part: str, now: str, planned: str) -> None:
    assert [name for name in names(now) if not exists(name)] == []
    assert [name for name in names(planned) if exists(name)] == []


def test_targets_of_make_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake (\w+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
