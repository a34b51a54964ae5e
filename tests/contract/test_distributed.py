"""Training in two processes on CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from contract._models import ONE_PER_PLAN
from contract.conftest import contract_mosaic
from safetensors.torch import load_file

from smalti.data import presence
from smalti.model import CLUE

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("_distributed.py")
NAMES = [spec.name for spec in ONE_PER_PLAN]


def run(*command) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK", "MASTER_"))}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "did not find any unused parameters" not in done.stderr


@pytest.fixture(scope="module")
def by_torchrun(tmp_path_factory) -> Path:
    """A folder with what two processes of ``torchrun`` made of every model and plan."""
    folder = tmp_path_factory.mktemp("torchrun")
    run("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", SCRIPT, folder, "ddp", *NAMES)
    return folder


def weights(file: Path, rank: int) -> dict[str, torch.Tensor]:
    return load_file(file.with_suffix(f".{rank}.safetensors"))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


def test_the_first_process_stores_the_model(plan_spec, by_torchrun):
    stored = load_file(by_torchrun / f"{plan_spec.name}.model" / "model.safetensors")
    assert_same(stored, weights(by_torchrun / plan_spec.name, 0))


def test_both_processes_have_the_same_model_and_history(plan_spec, by_torchrun):
    file = by_torchrun / plan_spec.name
    assert_same(weights(file, 1), weights(file, 0))  # what is fitted after training, too
    first, second = (json.loads(file.with_suffix(f".{rank}.history").read_text()) for rank in (0, 1))
    assert first == second
    assert len(first["train_loss"]) == 3
    assert np.isfinite(first["train_loss"]).all()
    assert len(first["monitor_validation"]) == 3


def test_processes_see_different_cells_and_each_pattern_in_proportion(plan_spec, by_torchrun):
    file = by_torchrun / plan_spec.name
    seen = [json.loads(file.with_suffix(f".{rank}.json").read_text()) for rank in (0, 1)]
    first, second = (each["batches"] for each in seen)
    assert len(first) == len(second) >= 3
    assert not any(batch in second for batch in first)
    here = presence(contract_mosaic())
    shares = [here[np.concatenate([cells for _, cells in batches])].mean(axis=0) for batches in (first, second)]
    np.testing.assert_allclose(*shares, atol=0.2)
    if plan_spec.name.startswith("modis"):  # whose batches draw labelled cells again
        return
    paired = here.sum(axis=1) >= 2
    for epoch in range(3):
        drawn = Counter(cell for batches in (first, second) for e, cells in batches if e == epoch for cell in cells)
        assert max(drawn[cell] for cell in np.flatnonzero(~paired)) == 1


def test_a_training_of_two_processes_resumes_to_the_same_numbers(plan_spec, by_torchrun):
    file = by_torchrun / f"{plan_spec.name}-resumed"
    assert_same(weights(file, 0), weights(by_torchrun / plan_spec.name, 0))
    assert_same(weights(file, 1), weights(file, 0))
    histories = [(by_torchrun / name).with_suffix(".0.history").read_text() for name in (plan_spec.name, file.name)]
    assert histories[0] == histories[1]


def test_both_processes_stop_early_together(by_torchrun):
    first, second = (json.loads((by_torchrun / f"stopped.{rank}.history").read_text()) for rank in (0, 1))
    assert first == second
    assert 2 < len(first["train_loss"]) < 30
    assert_same(weights(by_torchrun / "stopped", 1), weights(by_torchrun / "stopped", 0))


@pytest.mark.parametrize("name", ["modis", "fusion"])
def test_processes_that_are_started_here_leave_the_same_model(name, by_torchrun, tmp_path):
    run(SCRIPT, tmp_path, "ddp_spawn", name)
    assert_same(weights(tmp_path / name, 0), weights(by_torchrun / name, 0))
    histories = [(folder / name).with_suffix(".0.history").read_text() for folder in (tmp_path, by_torchrun)]
    assert histories[0] == histories[1]


def test_the_script_of_the_documentation_trains_and_goes_on(tmp_path):
    script = Path(__file__).parents[2] / "docs" / "user_guide" / "train_in_processes.py"
    contract_mosaic().write(tmp_path / "in.h5mu")
    command = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", script]
    histories = []
    for max_epochs in (1, 2):
        run(*command, tmp_path / "in.h5mu", tmp_path / "model", max_epochs)
        model = CLUE.load(tmp_path / "model", contract_mosaic(), accelerator="cpu")
        histories.append(model.history["train_loss"]["train_loss"].tolist())
    assert [len(each) for each in histories] == [1, 2]
    assert histories[1][0] == histories[0][0]  # out of the checkpoint
    assert np.isfinite(model.get_latent_representation()).all()
