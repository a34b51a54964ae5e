"""Time and memory of UnpairedCCA in a process of its own.

``_unpaired_cost.py CELLS SEED THREADS`` prints one line of JSON.
"""

from __future__ import annotations

import json
import sys

from _run import measured, quiet
from _unpaired_data import bootstrap, gene_links, read
from _unpaired_rows import fit


def main(n: int, seed: int, threads: int) -> None:
    """Measure one fit and its matches."""
    quiet(threads)
    mdata = read("pbmc10k_cite")
    links, data = gene_links(mdata), bootstrap(mdata, n, seed)
    with measured() as used:
        model = fit(data, seed, links=links, options={"n_permutations": 20})
        model.match(*data.mod)
    row = {"method": f"{n} + {n} cells", "wall_s": used["wall_s"], "cpu_s": used["cpu_s"]}
    row |= {"peak_gib": used["peak_mb"] / 1024, "identified": float(model.verdict.identified)}
    print(json.dumps(row))


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
