"""Time and memory of fitting encoder inputs as cells grow, on planted mosaics of counts.

    python benchmarks/fit_inputs.py
    python benchmarks/fit_inputs.py --cells 2500 5000 10000 20000 --features 100000 --depth 2600

One row per number of cells: CPU seconds of ``LSI(30).fit`` and of ``PCA(30).fit`` (2,000 genes), and the largest memory
taken above the data, in sizes of the data; the growth exponent of the time between the first and the last number of
cells. Memory is read from ``/proc`` (Linux). Cells are mixtures of 12 topics.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

import smalti as sm

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
DRAWS = 1_000_000


def planted(n: int, g: int, depth: int, *, n_topics: int = 12, binary: bool = False, seed: int = 0) -> sp.csr_matrix:
    """Return counts ``(n, g)`` of cells that mix topics, drawn without anything dense of that size."""
    rng = np.random.default_rng(seed)
    profiles = (rng.gamma(0.5, size=g) + 1e-3) * np.exp(rng.normal(size=(n_topics, g)))
    sums = np.cumsum(profiles, axis=1)
    sums /= sums[:, -1:]
    blocks, step = [], max(1, DRAWS // depth)
    for start in range(0, n, step):
        m = min(step, n - start)
        mixed = np.cumsum(rng.dirichlet(np.full(n_topics, 0.3), size=m), axis=1)
        row = np.repeat(np.arange(m), np.maximum(rng.lognormal(np.log(depth), 0.4, m).astype(int), 50))
        topic = np.minimum((rng.random(len(row))[:, None] > mixed[row]).sum(axis=1), n_topics - 1)
        column = np.empty(len(row), dtype=np.int32)
        for k in range(n_topics):
            at = np.flatnonzero(topic == k)
            column[at] = np.minimum(np.searchsorted(sums[k], rng.random(len(at))), g - 1)
        block = sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(m, g))
        block.sum_duplicates()
        if binary:
            block.data[:] = 1
        blocks.append(block)
    return sp.vstack(blocks, format="csr")


def cost(transform: sm.pp.LinearTransform, x: sp.csr_matrix) -> tuple[float, float]:
    """Return CPU seconds of a fit, and the memory it takes above the data in sizes of the data."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    RESET.write_text("5")  # the largest memory so far begins anew
    before, start = memory("VmRSS"), time.process_time()
    transform.fit(x)
    seconds = time.process_time() - start
    return seconds, (memory("VmHWM") - before) / (x.data.nbytes + x.indices.nbytes + x.indptr.nbytes)


def memory(key: str) -> int:
    """Return an entry of the status of this process in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", type=int, default=[2500, 5000, 10_000, 20_000])
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--depth", type=int, default=2600)
    args = parser.parse_args()
    sm.pp.LSI(5).fit(planted(600, 1000, 50, binary=True))  # imports and caches
    found: dict[str, list[float]] = {"LSI": [], "PCA": []}
    print("| cells | LSI CPU s | peak / data | PCA CPU s | peak / data |\n| --- | --- | --- | --- | --- |")
    for n in args.cells:
        cells = []
        atac, rna = (planted(n, args.features, args.depth, binary=True), planted(n, 2000, 300))
        for transform, x in ((sm.pp.LSI(30), atac), (sm.pp.PCA(30), rna)):
            seconds, peak = cost(transform, x)
            found[type(transform).__name__].append(seconds)
            cells += [f"{seconds:.2f}", f"{peak:.2f}"]
        print("|", " | ".join([str(n), *cells]), "|", flush=True)
    if len(args.cells) > 1:
        for name, seconds in found.items():
            slope = np.log(seconds[-1] / seconds[0]) / np.log(args.cells[-1] / args.cells[0])
            print(f"{name}: growth exponent {slope:.2f}")


if __name__ == "__main__":
    main()
