"""CLUE with its data on the GPU against MULTIVI with the loader of scvi-tools; bfloat16 against float32.

    python benchmarks/gpu.py                # one GPU, at most eight minutes
    python benchmarks/gpu.py --cpu-dry-run  # a minute, to see that everything runs

Planted RNA (2,000 genes) and chromatin (100,000 regions) of 100,000 cells, half of them paired, a quarter each with one
modality. One JSON line per row:

``clue resident``, ``clue host``
    Rows (cells visited) per second of wall time in training without validation, data on the GPU and read from main
    memory; share of the time in which the GPU computes, from the profiler, over steps in the middle.
``multivi``
    The same with ``scvi.model.MULTIVI``, batches of its default size.
``quality``
    FOSCTTM and label transfer of paired test cells with float32 and bfloat16, three seeds each, on fewer cells.

A time limit is kept: what would begin too late is left out, and the row says so.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from fit_inputs import planted
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile

import smalti as sm

DISTINCT = 20_000
"""Cells that are drawn; more are copies of them in another order, which cost as much to read."""
WARM, TIMED, PROFILED = 30, 250, 40
"""Steps before the clock starts, under it, and under the profiler."""
SHARED, PRIVATE = {"paired": 0.5, "rna": 0.25}, ("rna", "atac")


class Clock(Callback):
    """Times steps in the middle of a training, then looks at what the device does, then stops."""

    def __init__(self, warm: int, timed: int, profiled: int) -> None:
        self.warm, self.timed, self.profiled = warm, timed, profiled
        self.steps, self.seconds, self.busy = 0, 0.0, float("nan")
        self._start, self._profiler = 0.0, profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU])

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Start and stop the clock and the profiler."""
        self.steps += 1
        if self.steps == self.warm:
            self._start = now()
        elif self.steps == self.warm + self.timed:
            self.seconds = now() - self._start
            if not torch.cuda.is_available():
                trainer.should_stop = True
                return
            self._profiler.__enter__()
            self._start = now()
        elif self.steps == self.warm + self.timed + self.profiled:
            wall = now() - self._start
            self._profiler.__exit__(None, None, None)
            kernels = [(e.time_range.start, e.time_range.end) for e in self._profiler.events() if on_gpu(e)]
            self.busy = covered(kernels) / 1e6 / wall
            trainer.should_stop = True


def now() -> float:
    """Return the time when the device has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def on_gpu(event: Any) -> bool:
    """Return whether an event of the profiler ran on the GPU."""
    return event.device_type == torch.autograd.DeviceType.CUDA


def covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of time spans."""
    total, end = 0.0, -np.inf
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def mosaic(n: int, n_genes: int, n_regions: int, seed: int = 0) -> md.MuData:
    """Return a mosaic of planted counts; both modalities of a cell have the same topics."""
    rng, distinct = np.random.default_rng(seed), min(n, DISTINCT)
    both = planted(distinct, n_genes + n_regions, max(20, (n_genes + n_regions) // 35), seed=seed)
    x = both[rng.permutation(np.arange(n) % distinct)] if n > distinct else both
    names = np.array([f"cell_{i}" for i in range(n)])
    kind = rng.random(n)
    have = {"rna": kind < 0.75, "atac": (kind < 0.5) | (kind >= 0.75)}
    parts = {}
    for name, columns in (("rna", slice(0, n_genes)), ("atac", slice(n_genes, None))):
        values = sp.csr_matrix(x[have[name]][:, columns])
        if name == "atac":
            values.data[:] = 1
        var = pd.DataFrame(index=[f"{name}_{i}" for i in range(values.shape[1])])
        parts[name] = ad.AnnData(values, obs=pd.DataFrame(index=names[have[name]]), var=var)
    with md.set_options(pull_on_update=False):
        return md.MuData(parts)


def clue(mdata: md.MuData, clock: Clock, device: str, *, on_device: bool) -> dict[str, Any]:
    """Time the training of CLUE."""
    torch.manual_seed(0)
    sm.model.CLUE.setup_mudata(mdata, modalities={"rna": "nb", "atac": "bernoulli"})
    start = now()
    model = sm.model.CLUE(mdata)
    fitted = now() - start
    # scores of early stopping are left out on both sides: nothing is held out
    model.train(
        max_epochs=50, train_size=1.0, accelerator=device, devices=1, on_device=on_device, progress=False,
        trainer_kwargs={"callbacks": [clock]},
    )  # fmt: skip
    return {**timing(clock, model.default_batch_size), "fit_inputs_s": round(fitted, 1)}


def multivi(mdata: md.MuData, clock: Clock, device: str) -> dict[str, Any]:
    """Time the training of MULTIVI on the same cells; it wants one matrix per modality with all cells."""
    import scvi

    parts = {}
    for name, adata in mdata.mod.items():
        rows = np.asarray(mdata.obsmap[name]).ravel().astype(np.int64)
        at = np.flatnonzero(rows > 0)
        place = sp.csr_matrix((np.ones(len(at), np.float32), (at, rows[at] - 1)), shape=(mdata.n_obs, adata.n_obs))
        parts[name] = ad.AnnData(sp.csr_matrix(place @ adata.X), var=adata.var.copy())
        parts[name].obs_names = mdata.obs_names
        parts[name].obs["batch"] = "0"
    with md.set_options(pull_on_update=False):
        whole = md.MuData(parts)
    scvi.model.MULTIVI.setup_mudata(
        whole, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"}
    )
    model = scvi.model.MULTIVI(whole, n_genes=parts["rna"].n_vars, n_regions=parts["atac"].n_vars)
    batch_size = 128
    model.train(
        max_epochs=50, train_size=1.0, accelerator=device, devices=1, batch_size=batch_size, early_stopping=False,
        enable_progress_bar=False, callbacks=[clock], adversarial_mixing=True,
    )  # fmt: skip
    return timing(clock, batch_size)


def timing(clock: Clock, batch_size: int) -> dict[str, Any]:
    """Return rows per second and the share of time the device computes."""
    rate = clock.timed * batch_size / clock.seconds if clock.seconds else float("nan")
    return {"rows_per_s": round(rate, 1), "gpu_busy": round(clock.busy, 3), "steps": clock.timed}


def quality(mdata: md.MuData, device: str, precision: str, seed: int, epochs: int | None) -> dict[str, Any]:
    """Return scores of paired cells whose pairs were hidden from training."""
    rng = np.random.default_rng(seed)
    names = mdata.obs_names
    paired = np.flatnonzero(names.isin(mdata["rna"].obs_names) & names.isin(mdata["atac"].obs_names))
    test = rng.choice(paired, len(paired) // 5, replace=False)
    sm.model.CLUE.setup_mudata(mdata, modalities={"rna": "nb", "atac": "bernoulli"})
    model = sm.model.CLUE(mdata, random_state=seed)
    model.train(
        max_epochs=epochs, validation_indices=test, accelerator=device, devices=1, progress=False,
        trainer_kwargs={"precision": precision},
    )  # fmt: skip
    z = [model.get_latent_representation(block="aligned", modality=name, indices=test) for name in PRIVATE]
    loss = float(model.history["monitor_validation"].min().iloc[0])
    return {"foscttm": round(float(sm.metrics.foscttm(*z)), 4), "validation_loss": round(loss, 4)}


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-dry-run", action="store_true", help="small, on the processor")
    parser.add_argument("--limit", type=float, default=450, help="seconds after which no part begins")
    args = parser.parse_args()
    dry, began = args.cpu_dry_run, time.perf_counter()
    if not dry and not torch.cuda.is_available():
        parser.error("no GPU: pass --cpu-dry-run")
    device = "cpu" if dry else "gpu"
    n, genes, regions = (600, 60, 300) if dry else (100_000, 2000, 100_000)
    steps = (3, 10, 5) if dry else (WARM, TIMED, PROFILED)
    mdata = mosaic(n, genes, regions)
    small = mosaic(600, 60, 300, seed=1) if dry else mosaic(8000, 2000, 20_000, seed=1)
    parts: list[tuple[str, Any]] = [
        ("clue resident", lambda: clue(mdata, Clock(*steps), device, on_device=True)),
        ("multivi", lambda: multivi(mdata, Clock(*steps), device)),
        ("clue host", lambda: clue(mdata, Clock(*steps), device, on_device=False)),
    ]
    for seed in range(1 if dry else 3):
        for precision in ("32-true", "bf16-mixed"):
            score = partial(quality, small, device, precision, seed, 2 if dry else None)
            parts.append((f"quality {precision} seed {seed}", score))
    where = "cpu" if dry else torch.cuda.get_device_name()
    made = round(time.perf_counter() - began)
    print(json.dumps({"device": where, "cells": n, "features": genes + regions, "data_s": made}), flush=True)
    for name, part in parts:
        used = time.perf_counter() - began
        row = {"left_out": f"{used:.0f} s were used"} if used > args.limit else part()
        print(json.dumps({"part": name, **row, "at_s": round(time.perf_counter() - began)}), flush=True)


if __name__ == "__main__":
    main()
