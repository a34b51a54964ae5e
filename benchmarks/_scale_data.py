"""A planted mosaic of any size, made row by row, that lies nowhere: what ``benchmarks/scale.py`` writes into stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._disk import DiskMatrix
from smalti.data._sources import Part, Source

if TYPE_CHECKING:
    from pathlib import Path

N_GENES, N_REGIONS, N_TYPES = 2_000, 100_000, 12
GENES_SEEN = 0.15
"""Share of genes with a count."""


class PlantedCounts(DiskMatrix):
    """Counts of cells of twelve types, Poisson given type and depth, whose rows are drawn when they are read.

    Parameters
    ----------
    types
        ``(n,)`` type of every cell.
    n_features
        Number of features.
    per_cell
        Mean total of a cell.
    spread
        Standard deviation of the log level of a feature over types.
    seed
        Seed.
    """

    sparse, dtype = True, np.dtype(np.float32)

    def __init__(self, types: Any, n_features: int, per_cell: float, spread: float, seed: int) -> None:
        self.types, self.seed, self.per_cell = types, seed, per_cell
        self.shape, self.nnz = (len(types), n_features), int(len(types) * per_cell)
        rng = np.random.default_rng(seed)
        level = rng.normal(0, 1, n_features) + rng.normal(0, spread, (N_TYPES, n_features))
        share = np.exp(level)
        self.reached = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=1)

    def take(self, rows: Any) -> sp.csr_matrix:
        rng = np.random.default_rng((self.seed, int(rows[0]) if len(rows) else 0))
        g = self.shape[1]
        total = rng.poisson(self.per_cell * rng.lognormal(-0.045, 0.3, len(rows)))
        columns = []
        for kind in range(N_TYPES):
            here = np.flatnonzero(self.types[rows] == kind)
            place = np.sort(rng.random(int(total[here].sum())))  # sorted look-ups are faster; rows are dealt out below
            drawn = np.searchsorted(self.reached[kind], place).clip(max=g - 1)
            owner = rng.permutation(np.repeat(here, total[here]))
            columns.append(owner * g + drawn)
        cells, counts = np.unique(np.concatenate(columns), return_counts=True)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(cells // g, minlength=len(rows)))])
        return sp.csr_matrix((counts.astype(np.float32), (cells % g).astype(np.int32), indptr), shape=(len(rows), g))

    def samples(self) -> list[Any]:
        return []


def planted(n_cells: int, density: float, seed: int = 0) -> list[Source]:
    """Return two samples of a mosaic of RNA and ATAC: half of the cells paired, a quarter with either alone."""
    rng = np.random.default_rng(seed)
    sources = []
    for s, n in enumerate((n_cells // 2, n_cells - n_cells // 2)):
        types = rng.integers(0, N_TYPES, n)
        names = np.char.add(f"s{s}_", np.arange(n).astype(str)).astype(object)
        parts = []
        for name, g, seen, spread, cells in (
            ("rna", N_GENES, GENES_SEEN * 1.6, 1.0, slice(0, 3 * n // 4)),
            ("atac", N_REGIONS, density * 1.05, 0.7, slice(n // 4, None)),
        ):
            matrix = PlantedCounts(types[cells], g, seen * g, spread, seed=10 * seed + len(parts))
            matrix.seed += 100 * s
            var = pd.DataFrame(index=[f"{name}{j}" for j in range(g)])
            obs = pd.DataFrame({"type": [f"t{t}" for t in types[cells]]}, index=names[cells])
            parts.append(Part(f"s{s}", name, matrix, np.arange(g), var, obs))
        sources.append(Source(f"s{s}", tuple(parts)))
    return sources


def write(out: Path, n_cells: int, density: float) -> None:
    """Write the mosaic into a store, row by row."""
    from smalti.data._write import write_sources

    write_sources(planted(n_cells, density), out, source_key="source", mask_key="measured", random_state=0)
