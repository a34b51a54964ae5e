"""How time and memory grow with the number of cells, in memory and out of core; prints the table of docs/benchmarks.md.

    python benchmarks/scale.py                                   # 10^4 and 10^5 cells, all readers
    python benchmarks/scale.py --cells 10000 --readers zarr
    python benchmarks/scale.py --cells 1000000 --readers zarr --density 0.003

Cells have 2,000 genes and 100,000 regions, of which 3 % are open; half of them are paired, a quarter has either
alone. They are drawn from a planted model of twelve types (``_scale_data.py``), not from a fitted one: that is faster
than decoding, and nothing here depends on what the cells mean. Every line is a process of its own, so that its peak of
memory is its own. The model is CLUE with its defaults. The bare network is one of the same sizes in plain torch that
reads the same sparse minibatches and decodes every feature.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

if TYPE_CHECKING:
    from collections.abc import Callable

READERS = ("memory", "h5mu", "zarr")
PHASES = ("write", "setup", "fit inputs", "epoch", "read-outs", "latent", "loader")
BARE_STEPS = 12
MEBI = 2**20


class Clock:
    """CPU and wall seconds of phases, and the peak of memory so far."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {"start": _peak()}

    def time(self, phase: str, call: Callable[[], Any]) -> Any:
        cpu, wall, before = time.process_time(), time.perf_counter(), _peak()
        out = call()
        took = time.process_time() - cpu, time.perf_counter() - wall
        self.found[phase] = {"cpu": took[0], "wall": took[1], "peak": _peak(), "before": before}
        return out


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(kind: str, store: Path, n_cells: int, density: float, *, read_outs: bool = True) -> dict[str, Any]:
    """Do the phases of one line in this process."""
    import _scale_data

    import smalti as sm
    from smalti.data import open_mosaic

    clock = Clock()
    if kind == "write":
        clock.time("write", lambda: _scale_data.write(store, n_cells, density))
        files = [store] if store.is_file() else [path for path in store.rglob("*") if path.is_file()]
        clock.found["disk"] = sum(path.stat().st_size for path in files) / MEBI
        return clock.found
    mdata = clock.time("read", lambda: sm.read(store) if kind in ("memory", "bare") else open_mosaic(store))
    setup = {"rna": "nb", "atac": "bernoulli"}
    clock.time("setup", lambda: sm.model.CLUE.setup_mudata(mdata, setup, batch_key="source"))
    manager = sm.model.CLUE._get_most_recent_anndata_manager(mdata)
    if kind == "bare":
        return bare(clock, manager)
    model = clock.time("fit inputs", lambda: sm.model.CLUE(mdata))
    readouts = model._fit_readouts
    model._fit_readouts = lambda: clock.time("read-outs", readouts if read_outs else lambda: None)
    clock.time("epoch", lambda: model.train(1, progress=False))
    clock.found["epoch"]["cpu"] -= clock.found["read-outs"]["cpu"]  # which take as long after many epochs
    clock.time("latent", lambda: model.get_latent_representation(block=None if read_outs else "aligned"))
    clock.time("loader", lambda: load(manager))
    return clock.found


def load(manager: Any) -> None:
    """Go through the batches of an epoch and do nothing with them."""
    from smalti.train import MosaicSplitter

    splitter = MosaicSplitter(manager, train_size=1.0)
    for batch in splitter.train_dataloader():
        assert len(batch["batch"])


def bare(clock: Clock, manager: Any) -> dict[str, Any]:
    """Train a network of the same sizes on a few batches; all it does is embed, decode and step."""
    from smalti.train import MosaicSplitter

    torch.manual_seed(0)
    widths = {"rna": 2_000, "atac": 100_000}
    encoders = {name: torch.nn.EmbeddingBag(g, 128, mode="sum") for name, g in widths.items()}
    decoders = {
        name: torch.nn.Sequential(torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, g))
        for name, g in widths.items()
    }
    weights = [p for part in (*encoders.values(), *decoders.values()) for p in part.parameters()]
    optimiser = torch.optim.Adam(weights, lr=1e-3)
    batches = iter(MosaicSplitter(manager, train_size=1.0).train_dataloader())

    def steps() -> None:
        for _ in range(BARE_STEPS):
            batch = next(batches)
            loss = torch.zeros(())
            for name, g in widths.items():
                x = batch["values"][name]
                here = batch["cells"].having[name]
                z = encoders[name](x.indices, x.indptr[:-1], per_sample_weights=x.values.log1p())[here]
                dense = x.to_dense(g)[here]
                if name == "rna":
                    loss = loss + torch.nn.functional.poisson_nll_loss(decoders[name](z), dense)
                else:
                    loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(
                        decoders[name](z), dense.clamp(max=1)
                    )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    clock.time("epoch", steps)
    return clock.found


def run(kind: str, store: Path, n_cells: int, given: argparse.Namespace) -> dict[str, Any]:
    """Do one line in a process of its own."""
    command = [sys.executable, __file__, "--work", kind, "--store", str(store)]
    command += ["--cells", str(n_cells), "--density", str(given.density)]
    command += ["--no-read-outs"] if given.no_read_outs else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{n_cells} {kind}: {json.dumps(found)}", file=sys.stderr)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of phases, and of growth, in Markdown; seconds are CPU seconds."""
    names = ["cells", "reader", "setup", "fit inputs", "epoch", "rows/s", "read-outs", "latent"]
    names += ["loaded/s", "per wall s", "peak MiB", "with read-outs"]
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    for row in rows:
        n, kind, found = row["cells"], row["kind"], row["found"]
        cpu = {phase: found[phase]["cpu"] for phase in PHASES if phase in found}
        if "write" in cpu:
            what = f"{kind}: {cpu['write']:.0f} s, {found['disk']:,.0f} MiB on disk"
            cells = [f"{n:,}", what, *[""] * 8, f"{found['write']['peak']:,.0f}", ""]
        elif kind == "bare":
            rate = f"{BARE_STEPS * 256 / cpu['epoch']:,.0f}"
            cells = [f"{n:,}", "bare network", "", "", "", rate, *[""] * 4, f"{found['epoch']['peak']:,.0f}", ""]
        else:
            times = [f"{cpu[phase]:.1f}" for phase in ("setup", "fit inputs", "epoch")]
            loads = [f"{n / found['loader'][clock]:,.0f}" for clock in ("cpu", "wall")]
            rate = f"{n / cpu['epoch']:,.0f}"
            peaks = [f"{peak:,.0f}" for peak in (found["read-outs"]["before"], found["loader"]["peak"])]
            cells = [f"{n:,}", kind, *times, rate, f"{cpu['read-outs']:.1f}", f"{cpu['latent']:.1f}", *loads, *peaks]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *growth(rows)])


def growth(rows: list[dict[str, Any]]) -> list[str]:
    """Return growth exponents between the smallest and the largest number of cells, by reader and phase."""
    lines = []
    for kind in READERS:
        own = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["cells"])
        if len(own) > 1:
            first, last = own[0], own[-1]
            ratio = np.log(last["cells"] / first["cells"])
            parts = [
                f"{phase} {np.log(last['found'][phase]['cpu'] / first['found'][phase]['cpu']) / ratio:.2f}"
                for phase in PHASES
                if phase in last["found"]
            ]
            lines.append(
                f"Growth exponents, {kind}, {first['cells']:,} to {last['cells']:,} cells: {', '.join(parts)}."
            )
    return lines


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--readers", nargs="+", choices=[*READERS, "bare"], default=[*READERS, "bare"])
    parser.add_argument("--density", type=float, default=0.03, help="share of open regions")
    parser.add_argument("--folder", type=Path, help="where stores are written; a temporary folder by default")
    parser.add_argument("--no-read-outs", action="store_true", help="leave out what is fitted after training")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        torch.set_num_threads(1)
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        read_outs = not given.no_read_outs
        print(json.dumps(work(given.work, given.store, given.cells[0], given.density, read_outs=read_outs)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for n in given.cells:
            for ending in dict.fromkeys("h5mu" if kind == "h5mu" else "zarr" for kind in given.readers):
                store = folder / f"{n}.{ending}"
                if not store.exists():
                    found = run("write", store, n, given)
                    rows.append({"cells": n, "kind": f"write .{ending}", "found": found})
            for kind in given.readers:
                store = folder / f"{n}.{'h5mu' if kind == 'h5mu' else 'zarr'}"
                rows.append({"cells": n, "kind": kind, "found": run(kind, store, n, given)})
    print(table(rows))


if __name__ == "__main__":
    main()
