"""Gates: planted features, nothing to find, shared and differential structure, models on real data. One command.

    python benchmarks/gates.py                              # every row, seeds 0-4
    python benchmarks/gates.py --rows moons noise --seeds 0
    python benchmarks/gates.py --list                       # rows, targets, minutes per seed on one free core

Rows ``clue_*``, ``pbmc_*``, ``planted_groups`` and ``cll`` need the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

import sys

from _gate_rows import ROWS
from _run import measured, run


def options(parser) -> None:
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--quick", action="store_true", help="few cells and steps: that it runs, not how well")
    parser.add_argument("--list", action="store_true", help="print rows, targets and minutes, and end")


def rows(args):
    if args.list:
        for name, row in ROWS.items():
            print(f"{name:22s} {row.minutes:5.1f} min  {row.target}")
        sys.exit()
    for name in args.rows:
        for seed in args.seeds[: ROWS[name].most_seeds]:
            with measured() as used:
                scores = ROWS[name].run(seed, args.quick)
            yield {"row": name, "seed": seed, **scores, **used}


def heading(name: str) -> str:
    return f"{name}, target: {ROWS[name].target}"


if __name__ == "__main__":
    run(__doc__, rows, by=("row",), options=options, heading=heading)
