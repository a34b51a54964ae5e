"""The tutorials run as they are printed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.conftest import DATA_DIR

TUTORIALS = sorted((Path(__file__).resolve().parents[1] / "tutorials").glob("*.ipynb"))
QUICK = {"quickstart"}
"""Tutorials that train one small model; the others take a minute or two."""
NEED_DATA: set[str] = set()
"""Tutorials that cannot do without the real data sets."""


def marks(path: Path) -> list[pytest.MarkDecorator]:
    slow = [] if path.stem in QUICK else [pytest.mark.slow]
    return [*slow, pytest.mark.data] if path.stem in NEED_DATA else slow


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=marks(path)) for path in TUTORIALS], ids=lambda path: path.stem
)
def test_a_tutorial_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    if DATA_DIR.is_dir():  # otherwise a tutorial on real data simulates its own
        monkeypatch.setenv("SMALTI_DATA_DIR", str(DATA_DIR.resolve()))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_with_its_output_and_without_errors(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs, "run the notebook and save it with its output"
    assert not [output for output in outputs if output.output_type == "error"]
