"""The installed libraries work together: traps that a resolver walks into."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from packaging.requirements import Requirement

import smalti

ROOT = Path(__file__).resolve().parents[1]


def requirement(name: str) -> Requirement:
    found = [r for r in map(Requirement, requires("smalti") or []) if r.name == name]
    assert len(found) == 1, f"smalti must declare one bound on {name}, found {found}"
    return found[0]


def test_neighbors_of_ten_thousand_cells() -> None:
    """Below 8,192 cells scanpy searches by brute force; above, it calls pynndescent, of which 0.7 breaks it."""
    n_obs, n_neighbors = 10_000, 15
    adata = ad.AnnData(np.random.default_rng(0).normal(size=(n_obs, 10)).astype(np.float32))
    sc.pp.neighbors(adata, n_neighbors=n_neighbors, use_rep="X")
    distances = adata.obsp["distances"].tocsr()

    rows = np.arange(0, n_obs, 500)
    exact = np.linalg.norm(adata.X[rows, None] - adata.X[None], axis=2)
    exact = np.sort(exact, axis=1)[:, 1:n_neighbors]
    found = np.stack([np.sort(distances[row].data[distances[row].data > 0])[: n_neighbors - 1] for row in rows])
    assert np.mean(np.isclose(found, exact, atol=1e-4)) > 0.8


def test_pynndescent_is_within_the_declared_bound() -> None:
    bound = requirement("pynndescent").specifier
    assert version("pynndescent") in bound
    assert "0.7.0" not in bound


def test_scvi_is_within_the_declared_bound() -> None:
    assert requirement("scvi-tools").specifier.contains(version("scvi-tools"), prereleases=True)


@pytest.mark.parametrize("python", ["3.11.7", "3.12.1", "3.13.0"])
def test_constraints_pin_every_dependency_within_its_bounds(python: str) -> None:
    marked = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": "linux"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and pin.url is None for pin in pins)
    exact = {
        pin.name: str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(marked)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [item for group in project["dependency-groups"].values() for item in group if isinstance(item, str)]
    for wanted in map(Requirement, project["project"]["dependencies"] + groups):
        assert wanted.name in exact, f"{wanted.name} is not pinned for Python {python}"
        assert exact[wanted.name] in wanted.specifier, f"{wanted} against {exact[wanted.name]} for Python {python}"


def test_models_load_without_what_only_some_calls_need() -> None:
    """Subclassing scvi-tools' base class loads Lightning and scikit-learn; POT is for `align` alone."""
    code = "import sys, smalti.model, smalti.align; print('ot' in sys.modules, 'umap' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(("interactive", "loaded"), [(True, False), (True, True), (False, False)])
def test_who_waits_at_a_prompt_is_told_once_what_for(monkeypatch, capsys, interactive, loaded) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    if not loaded:
        monkeypatch.delitem(sys.modules, "scvi", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "scvi", sys)
    smalti._announce()
    assert ("loading" in capsys.readouterr().err) == (interactive and not loaded)
