"""What every benchmark shares: options, quiet libraries, time and memory, rows to a CSV, the table at the end."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import time
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Where the data lie by default: beside the repository."""
PACKAGES = ("smalti", "torch", "scvi-tools", "scikit-learn", "scipy", "numpy")
NOISY = ("lightning.pytorch", "scvi", "smalti")


def run(
    doc: str,
    rows: Callable[[argparse.Namespace], Iterator[dict]],
    *,
    by: Sequence[str],
    seeds: Sequence[int] | None = (0, 1, 2, 3, 4),
    data: Sequence[str] = (),
    options: Callable[[argparse.ArgumentParser], None] | None = None,
    shown: Sequence[str] = (),
    heading: Callable[[str], str] = str,
) -> None:
    """Run what the command line asks for, print rows as they come, and means and standard deviations at the end.

    doc
        Docstring of the script, of which the help is made.
    rows
        From the parsed options to rows, ``{column: value}``, in the order of their making; a column is ``seed``.
    by
        Columns that say what a row is; there is a table for each value of the first, a line for each of the others.
    seeds, data
        Defaults of ``--seeds`` and ``--data``; no seeds: the script chooses; no data: no such option.
    options
        Adds the script's own options.
    shown
        Scores in the table; all that are numbers by default.
    heading
        From a value of the first column of ``by`` to the heading of its table.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds, help=f"default: {seeds or 'by data set'}")
    if data:
        parser.add_argument("--data", nargs="+", default=list(data), metavar="NAME", help=f"default: {' '.join(data)}")
    parser.add_argument(
        "--data-dir",
        help="folder of the real data sets; default: what SMALTI_DATA_DIR says, or shared/data beside the repository",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="CSV to which a line per row is added")
    if options is not None:
        options(parser)
    args = parser.parse_args()
    if args.data_dir:
        os.environ["SMALTI_DATA_DIR"] = args.data_dir
    elif BESIDE.is_dir():
        os.environ.setdefault("SMALTI_DATA_DIR", str(BESIDE))
    quiet(args.threads)
    print(f"# python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    earlier = pd.read_csv(args.out) if args.out and args.out.exists() else pd.DataFrame()
    found: list[dict] = []
    for row in rows(args):
        found.append(row)
        print(json.dumps({k: _rounded(v) for k, v in row.items()}), flush=True)
        if args.out:  # written whole: a later row may have a column that earlier ones lack
            pd.concat([earlier, pd.DataFrame(found)], ignore_index=True).to_csv(args.out, index=False)
    if found:
        print_table(pd.DataFrame(found), by=by, shown=shown, heading=heading)


def print_table(
    table: pd.DataFrame, *, by: Sequence[str], shown: Sequence[str] = (), heading: Callable[[str], str] = str
) -> None:
    """Print a table for each value of the first column of ``by``: mean and standard deviation over seeds."""
    for first, block in table.groupby(by[0], sort=False):
        numbers = block.drop(columns=["seed", *by], errors="ignore").select_dtypes("number")
        numbers = numbers[[c for c in shown if c in numbers] if shown else list(numbers)].dropna(axis=1, how="all")
        keys = [block[name] for name in by[1:]] or [block[by[0]]]
        groups = numbers.groupby(keys, sort=False, dropna=False)
        texts = {name: _text(groups[name]) for name in numbers}
        print(f"\n{heading(str(first))} ({block['seed'].nunique()} seeds)\n{pd.DataFrame(texts).T.to_string()}")


def _text(groups) -> pd.Series:
    mean, spread = groups.mean(), groups.std()
    pairs = zip(mean.items(), spread, strict=True)
    return pd.Series(
        {key: "" if np.isnan(m) else f"{m:.4g}" if np.isnan(s) else f"{m:.4f} ± {s:.4f}" for (key, m), s in pairs}
    )


def quiet(threads: int) -> None:
    """Silence warnings and logs of libraries, and set the number of threads."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Fill a dictionary with ``wall_s`` and ``cpu_s`` of the block, and ``peak_mb`` of the process so far."""
    used: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield used
    used["wall_s"], used["cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
    used["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _rounded(value):
    if isinstance(value, np.generic):
        value = value.item()
    return round(value, 5) if isinstance(value, float) else value
