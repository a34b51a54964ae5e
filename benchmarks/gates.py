"""Gates: planted features, nothing to find, shared and differential structure, models on real data. One command.

    python benchmarks/gates.py                              # every row, seeds 0-4
    python benchmarks/gates.py --rows moons noise --seeds 0
    python benchmarks/gates.py --list                       # rows, targets, minutes per seed on one free core

Rows ``clue_*``, ``pbmc_*``, ``planted_groups`` and ``cll`` need the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _gate_rows import ROWS


def main() -> None:
    """Run what the command line asks for; print a line per run, and a table of means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few cells and steps: that it runs, not how well")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", type=Path, help="file to append a JSON line per run to")
    args = parser.parse_args()
    if args.list:
        for name, row in ROWS.items():
            print(f"{name:22s} {row.minutes:5.1f} min  {row.target}")
        sys.exit()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("smalti").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("scvi").setLevel(logging.ERROR)
    found = []
    for name in args.rows:
        for seed in args.seeds[: ROWS[name].most_seeds]:
            wall, cpu = time.perf_counter(), time.process_time()
            scores = ROWS[name].run(seed, args.quick)
            row = {"row": name, "seed": seed, **scores}
            row |= {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            found.append(row)
            text = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            print(text, flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(text + "\n")
    for name in args.rows:
        table = pd.DataFrame([r for r in found if r["row"] == name]).drop(columns=["row", "seed"])
        numbers = table.select_dtypes(np.number)
        shown = ", ".join(f"{c} {numbers[c].mean():.3f} ± {numbers[c].std(ddof=0):.3f}" for c in numbers)
        print(f"{name} (target: {ROWS[name].target}): {shown}")


if __name__ == "__main__":
    main()
