"""Training in two processes on CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contract._models import MODELS
from safetensors.torch import load_file


@pytest.mark.slow
def test_two_processes_train_one_model_on_different_batches(plan_spec, tmp_path):
    script = Path(__file__).with_name("_distributed.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LOCAL_RANK", "MASTER_"))}
    done = subprocess.run(
        [sys.executable, str(script), str(MODELS.index(plan_spec)), str(tmp_path)],
        cwd=tmp_path,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    weights = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        if "running_" not in name and "num_batches" not in name:  # statistics of batch norm are each process's own
            torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-6, msg=name)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert len(first["batches"]) == len(second["batches"]) >= 4
    assert not any(batch in second["batches"] for batch in first["batches"])
    assert len(first["loss"]) == 2
    assert np.isfinite(first["loss"]).all()
