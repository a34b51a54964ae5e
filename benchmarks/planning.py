"""Measure what the planner says: constants, intervals, batch sizes. Writes one CSV file per row into ``--out``.

Run from the root of the repository as ``python benchmarks/planning.py phase --out DIR``; without a row, all are run.
Rows on simulated data need no files, the others look for data in ``SMALTI_DATA_DIR``. Phase diagrams are resumed.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path

import _planning_batch
import _planning_calibrate
import _planning_links
import _planning_phase
import _planning_pilot

ROWS = {
    "phase": _planning_phase.phase,
    "gates": _planning_phase.gates,
    "methods": _planning_phase.methods,
    "hide": _planning_pilot.hide,
    "far": _planning_pilot.far,
    "halve": _planning_pilot.halve,
    "shuffled": _planning_pilot.shuffled,
    "links": _planning_links.links,
    "published": _planning_links.published,
    "bias": _planning_batch.bias,
    "batches": _planning_batch.batches,
    "gradients": _planning_batch.gradients,
    "auto": _planning_batch.auto,
    "calibrate": _planning_calibrate.calibrate,
    "gemmr": _planning_calibrate.gemmr,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="row", help=f"among {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, default=Path("planning_results"))
    parser.add_argument("--replicates", type=int, default=50, help="data sets, splits or seeds per setting")
    parser.add_argument("--features", type=int, nargs="+", help="values of p of the row `phase`")
    parser.add_argument("--correlations", type=float, nargs="+", default=(0.9, 0.7, 0.5), help="of the row `phase`")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the rows on batches")
    parser.add_argument("--quick", action="store_true", help="a part of the row `batches` and of the row `gates`")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    unknown = sorted(set(args.rows) - set(ROWS))
    if unknown:
        parser.error(f"unknown rows {unknown}; there are {sorted(ROWS)}")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("smalti").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.rows or ROWS:
        start = time.perf_counter()
        print(f"# {name}", flush=True)
        ROWS[name](args.out, args)
        print(f"# {name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
