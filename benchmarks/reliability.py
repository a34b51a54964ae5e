"""How smalti behaves on bad input, under faults and over time; writes the table of docs/reliability.md.

    python benchmarks/reliability.py                 # everything, about fifteen minutes of one core
    python benchmarks/reliability.py --cases 200 --cycles 20 --quick

Bad calls, generated mosaics and faults are those of the tests. Needs the packages for tests (hypothesis, pytest).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "contract")]

import _bad_calls
import _bad_lines
import test_properties as properties
from _cases import recipes
from _factories import make_mosaic
from hypothesis import given, settings
from typer.testing import CliRunner

import smalti as sm
from smalti import cli
from smalti._errors import UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = ROOT / "benchmarks" / "reliability.json"
"""What was found by each step."""
FAULTS = (
    "tests/test_files.py",
    "tests/model/base/test_storage.py",
    "tests/model/base/test_running.py",
    "tests/contract/test_faults.py",
)
UNPAIRED = {"encoder": "linear", "options": {"n_latent": 4, "n_permutations": 0, "accept": "always"}}
NOTES = """\
- *Generated mosaics* come from hypothesis: two to five modalities of any presence pattern, one cell to forty, empty and
  constant modalities, seven number types, seven kinds of storage, odd names, columns of any type, missing and infinite
  values, stale maps, views. A case is ok if minibatches hold the right rows, latents do not depend on order or batch
  size, and nothing of the user's object changed; refused, if set-up and `describe_mosaic` agree that it must be and say
  so in a sentence.
- *Bad calls* are valid calls of public functions with one argument spoilt. An error must come from smalti, not from a
  library below it.
- *Faults* are tests, each of one fault: what was there before must be whole afterwards, and the message says what is
  left.
"""
Row = tuple[str, str, str]


def tried(check: Callable[[Any], str], number: int) -> tuple[Counter[str], list[str]]:
    """Return how a number of generated cases ended, and what was wrong with those that did neither."""
    tally: Counter[str] = Counter()
    bad: list[str] = []

    @settings(max_examples=number, **properties.QUICK)
    @given(recipe=recipes())
    def run(recipe: Any) -> None:
        try:
            tally[check(recipe)] += 1
        except Exception as error:  # noqa: BLE001, it is counted
            tally["bad"] += 1
            bad.append(f"{type(error).__name__}: {str(error)[:120]}")

    run()
    return tally, bad


def generated(n: int, n_trained: int) -> list[Row]:
    """Return how generated mosaics ended."""
    rows = []
    for check, what, number in (
        (properties.check, "generated mosaics, set-up and description", n),
        (properties.check_training, "generated mosaics, training and latents", n_trained),
    ):
        tally, bad = tried(check, number)
        found = f"{tally['ok']} ok, {tally['refused']} refused in a clear sentence, {tally['bad']} bad"
        rows.append((what, found, "0 bad"))
        for text in sorted(set(bad)):
            print("bad:", text)
    return rows


def bad_calls() -> Row:
    """Return how many bad calls of the public API are refused in a clear sentence."""
    tried, failed = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for name, function, arguments in _bad_calls.spoilt(Path(folder)):
            tried += 1
            if found := _bad_calls.verdict(function, arguments):
                failed.append(f"{name}: {found}")
    print("\n".join(failed))
    return "bad calls of the public API", f"{tried - len(failed)} of {tried} refused in a clear sentence", "all, >= 200"


def bad_lines() -> Row:
    """Return how many bad command lines are refused and change nothing."""
    tried, failed, runner = 0, [], CliRunner()
    with tempfile.TemporaryDirectory() as folder:
        lines = _bad_lines.lines(Path(folder))

        def content() -> dict[Path, bytes]:
            return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}

        before = content()
        for line in lines:
            tried += 1
            done = runner.invoke(cli.app, line)
            found = _bad_lines.verdict(done.exit_code, done.output)
            if found or content() != before:
                failed.append(f"{line}: {found or 'files changed'}")
    print("\n".join(failed))
    return "bad command lines", f"{tried - len(failed)} of {tried} refused, no file touched", "all, >= 45"


def faults(quick: bool) -> Row:
    """Return how many faults are survived: kills, full disks, damaged files, interruptions, dying loaders."""

    class Count:
        passed, failed = 0, 0

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" and not report.skipped:
                self.passed += report.passed
                self.failed += report.failed

    count = Count()
    chosen = ["-m", "not nightly and not slow"] if quick else ["-m", "nightly or not nightly"]
    files = [str(ROOT / name) for name in FAULTS]
    arguments = ["-q", "--no-header", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", str(ROOT), *chosen, *files]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        pytest.main(arguments, plugins=[count])
    if count.failed:
        print(said.getvalue()[-3000:])
    tried = count.passed + count.failed
    return (
        "faults (kills, full disks, damaged and foreign files, Ctrl-C, loaders)",
        f"{count.passed} of {tried} survived",
        "all, >= 30",
    )


def flips(n: int) -> Row:
    """Return how many flipped bits of the files of a model are noticed."""
    mdata = make_mosaic(n_obs=60)
    sm.model.UnpairedCCA.setup_mudata(mdata, batch_key="batch")
    model = sm.model.UnpairedCCA(mdata, **UNPAIRED)
    model.train(1, progress=False, accelerator="cpu")
    rng, seen, tried = np.random.default_rng(1), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model.save(path, save_anndata=True)
        for name in ("model.safetensors", "model.json", "mdata.h5mu"):
            whole = (path / name).read_bytes()
            for bit in rng.integers(0, 8 * len(whole), n):
                spoilt = bytearray(whole)
                spoilt[bit // 8] ^= 1 << (bit % 8)
                (path / name).write_bytes(bytes(spoilt))
                tried += 1
                try:
                    sm.model.UnpairedCCA.load(path)
                except UnsafeFileError:
                    seen += 1
            (path / name).write_bytes(whole)
    return "flipped bits of weights, JSON and data of a stored model", f"{seen} of {tried} noticed", "all, >= 240"


def resident() -> float:
    """Return the memory that the process holds, in MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(cycles: int) -> Row:
    """Return the growth of memory over cycles of set-up, fit and letting go."""
    held = []
    for i in range(cycles):
        mdata = make_mosaic(n_obs=60, seed=i % 3)
        sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
        model = sm.model.CLUE(mdata, n_latent=3, n_hidden=8, options={"n_align": 4, "align_hidden": 8})
        model.train(1, batch_size=32, progress=False, accelerator="cpu")
        model.get_latent_representation(make_mosaic(n_obs=60, seed=9))
        del model, mdata
        gc.collect()
        held.append(resident())
    start, end = held[min(9, cycles - 1)], held[-1]
    found = f"{start:.0f} MB after cycle 10, {end:.0f} MB after cycle {cycles}: {100 * (end / start - 1):+.1f} %"
    return f"memory over {cycles} cycles of set-up, fit and drop", found, "<= +5 %"


def fingerprints() -> Row:
    """Return the cost of looking whether data were changed, as a share of an epoch."""
    mdata = sm.datasets.pbmc_mosaic()
    sm.model.CLUE.setup_mudata(mdata, {"rna": "nb", "adt": "nb"}, batch_key="batch")
    model = sm.model.CLUE(mdata)
    manager = model.adata_manager
    manager.fingerprint()
    start = time.process_time()
    for _ in range(20):
        manager.fingerprint()
    one = (time.process_time() - start) / 20
    epochs = []

    class Clock(_callback()):  # type: ignore[misc]
        def on_train_epoch_start(self, *args: Any) -> None:
            self.start = time.process_time()

        def on_train_epoch_end(self, *args: Any) -> None:
            epochs.append(time.process_time() - self.start)

    model.train(8, progress=False, accelerator="cpu", early_stopping=False, trainer_kwargs={"callbacks": [Clock()]})
    epoch = float(np.median(epochs))
    found = f"{1000 * one:.1f} ms of CPU, an epoch takes {1000 * epoch:.0f} ms: {100 * one / epoch:.2f} %"
    return "fingerprint of the data (once per call), PBMC mosaic", found, "<= 1 % of an epoch"


def _callback() -> type:
    from lightning.pytorch.callbacks import Callback

    return Callback


def write(rows: list[Row], path: Path) -> None:
    """Write the page."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("scvi-tools", "torch", "anndata", "mudata"))
    lines = [
        "# Reliability",
        "",
        "What happens to bad input, under faults and over time, measured by one command:",
        "",
        "```bash",
        "python benchmarks/reliability.py",
        "```",
        "",
        "| what was tried | found | wanted |",
        "| --- | --- | --- |",
        *(f"| {what} | {found} | {wanted} |" for what, found, wanted in rows),
        "",
        f"Python {platform.python_version()}, {versions}, one thread on a shared machine; times vary with it.",
        "",
        NOTES,
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--flips", type=int, default=100, help="per file")
    parser.add_argument("--quick", action="store_true", help="without the faults that take processes of their own")
    parser.add_argument("--only", nargs="+", help="steps to run; the others are taken from the record of earlier runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reliability.md")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    steps: dict[str, Callable[[], list[Row]]] = {
        "generated": lambda: generated(chosen.cases, max(chosen.cases // 20, 5)),
        "calls": lambda: [bad_calls()],
        "lines": lambda: [bad_lines()],
        "faults": lambda: [faults(chosen.quick)],
        "flips": lambda: [flips(chosen.flips)],
        "memory": lambda: [memory(chosen.cycles)],
        "fingerprints": lambda: [fingerprints()],
    }
    for name in steps if chosen.only is None else chosen.only:
        with contextlib.redirect_stderr(io.StringIO()):
            rows = steps[name]()
        known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        RECORD.write_text(json.dumps({**known, name: rows}, indent=1) + "\n", encoding="utf-8")
        for row in rows:
            print(*row, sep=" | ", flush=True)
    known = json.loads(RECORD.read_text(encoding="utf-8"))
    write([tuple(row) for name in steps for row in known.get(name, [])], chosen.out)


if __name__ == "__main__":
    main()
