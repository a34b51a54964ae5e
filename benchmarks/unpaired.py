"""UnpairedCCA: hidden pairs, few pairs, verdicts, removed types, cost. One command, one table.

    python benchmarks/unpaired.py                               # every row, seeds 0-4
    python benchmarks/unpaired.py --rows pbmc snare --seeds 0
    python benchmarks/unpaired.py --rows verdict --runs 4 --quick

Needs the real data sets (``SMALTI_DATA_DIR``). ``--quick`` takes at most 1,500 cells of each modality.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from _run import run
from _unpaired_data import baseline_latents, gene_links, latents, pair_scores, read, unpair
from _unpaired_links import DATA, few_links
from _unpaired_rows import LINKED, N, deep, few_pairs, fit, hidden, kinds_of, removed, rounds, sln, sln_pairs
from scipy.stats import kendalltau

from smalti._mudata import build_mudata
from smalti.losses import gumbel_sinkhorn

if TYPE_CHECKING:
    from collections.abc import Callable


def verdict(seed: int, args) -> list[dict]:
    """Forty runs each: true links, permuted links, unrelated data."""
    mdatas = {name: read(data) for name, data in LINKED.items()}
    other = read("sln_diagonal")
    out = []
    for turn in range(args.runs):
        name = ("pbmc", "snare")[turn % 2]
        mdata, links = mdatas[name], gene_links(mdatas[name])
        rng = np.random.default_rng(3000 + 100 * seed + turn)
        train, _ = unpair(mdata, N, 100 * seed + turn)
        wrong = links.assign(**{links.columns[0]: _permuted_genes(links, rng)})
        genes = mdatas["snare"]["rna"].var_names.intersection(other["rna"].var_names)
        pairs = pd.DataFrame({"cortex": genes, "spleen": genes})
        names = {"cortex": ("snare", "rna"), "spleen": (None, "rna")}
        parts = {}
        for key, (source, mod) in names.items():
            part = (other if source is None else mdatas[source])[mod]
            part = part[rng.choice(part.n_obs, N, replace=False)].copy()
            part.obs_names = key + "_" + part.obs_names
            part.var_names = part.var_names.astype(str)
            parts[key] = part
        for method, data, table in (
            ("true links", train, links),
            ("permuted links", train, wrong),
            ("unrelated", build_mudata(parts), pairs),
        ):
            found = fit(data, turn, links=table, options={"n_permutations": 20}).verdict
            row = {"method": method, "data": name, "identified": float(found.identified), "held_out": found.score}
            out.append(row | {"null": float(np.mean(found.null)), "p": found.p_value})
    return out


def eight_links(seed: int, args) -> list[dict]:
    """Eight links, true and permuted, on data that tuned nothing."""
    return [
        {"method": f"{name}, {'permuted' if permuted else 'true'}", **few_links(name, seed, permuted=permuted)}
        for name in DATA
        for permuted in (False, True)
    ]


def cell_lines(seed: int, args) -> list[dict]:
    """No links: distances alone, on random 80 % of the cells; ``floor`` is a random cell of the same line."""
    mdata = read("snare_celllines")
    n = round(0.8 * mdata.n_obs)
    train, names = unpair(_as_shares(mdata), n, seed)
    model = fit(train, seed)
    first, second = mdata.mod
    kind = kinds_of(mdata, names)
    found = pair_scores(*baseline_latents(model, "gromov", first, second, names), kind)
    same = kind[:, None] == kind[None]
    return [
        {"method": "gromov", **found},
        {"method": "UnpairedCCA", **pair_scores(*latents(model, first, second, names), kind)},
        {"method": "floor", "foscttm": float((same.sum(1) / 2 / len(kind)).mean())},
    ]


def scgem(seed: int, args) -> list[dict]:
    """177 cells, no links: distances alone."""
    mdata = read("scgem")
    train, names = unpair(mdata, round(0.9 * mdata.n_obs), seed)
    model = fit(train, seed)
    first, second = mdata.mod
    found = baseline_latents(model, "gromov", first, second, names)
    return [{"method": "gromov", **pair_scores(*found, kinds_of(mdata, names))}]


def landmarks(seed: int, args) -> list[dict]:
    """The same 5,000 cells with and without landmarks."""
    mdata = read("pbmc10k_cite")
    train, names = unpair(mdata, N if args.quick else 5000, seed)
    out = []
    for method, options in {
        "all": {},
        "landmarks": {"max_cells": 100, "n_landmarks": 600 if args.quick else 2000},
    }.items():
        start = time.process_time()
        model = fit(train, seed, links=gene_links(mdata), options=options)
        out.append(
            {"method": method, **pair_scores(*latents(model, *mdata.mod, names)), "cpu_s": time.process_time() - start}
        )
    return out


def cost(n: int) -> Callable:
    """Time and memory of a process of its own."""

    def row(seed: int, args) -> list[dict]:
        size = 3000 if args.quick else n
        script = Path(__file__).with_name("_unpaired_cost.py")
        command = [sys.executable, str(script), str(size), str(seed), str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(done.stdout.splitlines()[-1])]

    return row


def sorting(seed: int, args) -> list[dict]:
    """Learn to sort 100 numbers by gradients through the plan."""
    torch.manual_seed(seed)
    n = 100
    values = torch.rand(n)
    weight = torch.nn.Linear(1, n)
    optimizer = torch.optim.Adam(weight.parameters(), lr=0.1)
    for step in range(600):
        plan = gumbel_sinkhorn(weight(values[:, None]), 1.5 - step / 600, noise=0.2)
        loss = (plan.transpose(1, 2) @ values - values.sort().values).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    place = gumbel_sinkhorn(weight(values[:, None]), 0.2, noise=0)[0].detach() @ torch.arange(float(n))
    return [{"method": "gumbel", "kendall": float(kendalltau(place, values).statistic)}]


def _permuted_genes(links: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    codes, genes = pd.factorize(links[links.columns[0]])
    return np.asarray(genes)[rng.permutation(len(genes))][codes]


def _as_shares(mdata):
    """Topic counts as shares of the cell: their sums are of no interest."""
    mods = {name: mod.copy() for name, mod in mdata.mod.items()}
    for mod in mods.values():
        x = np.asarray(mod.X)
        if (x >= 0).all():
            mod.X = np.sqrt(x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
    out = build_mudata(mods)
    out.obs["kind"] = mdata.obs["kind"].loc[out.obs_names]
    return out


SLN_TYPES = ("CD4 T cells", "CD8 T cells", "Mature B cells", "Neutrophils", "NK cells")
ROWS: dict[str, Callable] = {
    "pbmc": hidden("pbmc", N),
    "snare": hidden("snare", N),
    "pbmc_whole": hidden("pbmc", None),
    "snare_whole": hidden("snare", None),
    "pbmc_rounds": rounds("pbmc", N),
    "snare_rounds": rounds("snare", N),
    "pbmc_pairs": few_pairs("pbmc", N, 20),
    "snare_pairs": few_pairs("snare", N, 20),
    "pbmc_whole_pairs": few_pairs("pbmc", None, 20),
    "deep_pbmc": deep("pbmc"),
    "deep_snare": deep("snare"),
    "sln": sln,
    "sln_pairs": sln_pairs,
    "removed_pbmc": removed("pbmc10k_cite", ("B", "NK", "CD8 T", "CD14 Mono"), N),
    "removed_sln": removed("sln_diagonal", SLN_TYPES, None),
    "cell_lines": cell_lines,
    "scgem": scgem,
    "landmarks": landmarks,
    "cost20k": cost(20_000),
    "cost50k": cost(50_000),
    "sorting": sorting,
    "verdict": verdict,
    "few_links": eight_links,
}
ONCE = ("verdict", "cost20k", "cost50k")


def options(parser) -> None:
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--runs", type=int, default=40, help="of each kind in the row 'verdict'")
    parser.add_argument("--quick", action="store_true", help="at most 1,500 cells of each modality")


def rows(args):
    for name in args.rows:
        for seed in args.seeds[:1] if name in ONCE else args.seeds:
            for found in ROWS[name](seed, args):
                yield {"row": name, "seed": seed, **found}


if __name__ == "__main__":
    run(__doc__, rows, by=("row", "method"), options=options)
