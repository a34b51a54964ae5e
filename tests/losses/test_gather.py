"""Negatives from all processes: two halves of a batch learn what one process learns from the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from losses._gather import data, step


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradient_of_one_with_the_whole_batch(tmp_path):
    script = str(Path(__file__).with_name("_gather.py"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, script]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error[-3000:]
    x, present = data()
    loss, grads = step(x, present)
    alone, _ = step(x[:6], present[:6])
    assert abs(alone - loss) > 0.1
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["loss"] == pytest.approx(loss, rel=1e-5)
        assert found["present"].dtype == torch.bool
        assert torch.equal(found["present"], present)
        for a, b in zip(found["grads"], grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
