"""UnpairedCCA: hidden pairs, few pairs, verdicts, removed types, cost. One command, one table.

    python benchmarks/unpaired.py                               # every row, seeds 0-4
    python benchmarks/unpaired.py --rows pbmc snare --seeds 0
    python benchmarks/unpaired.py --rows verdict --runs 4 --quick

Needs the real data sets (``SMALTI_DATA_DIR``). ``--quick`` takes at most 1,500 cells of each modality.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from _unpaired_data import (
    baseline_latents,
    bootstrap,
    gene_links,
    latents,
    pair_scores,
    read,
    transfer,
    unpair,
)
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from smalti import metrics
from smalti._mudata import build_mudata
from smalti.losses import gumbel_sinkhorn
from smalti.model import UnpairedCCA

if TYPE_CHECKING:
    from collections.abc import Callable

BASELINES = ("links", "procrustes", "mnn", "gromov", "random")
N = 1500
LINKED = {"pbmc": "pbmc10k_cite", "snare": "snare_mop"}


def fit(mdata, seed: int, *, links=None, options=None, **kwargs) -> UnpairedCCA:
    """Set up, train."""
    UnpairedCCA.setup_mudata(mdata, modalities=list(mdata.mod))
    options = {"n_permutations": 0, **(options or {})}
    model = UnpairedCCA(mdata, links=links, random_state=seed, options=options, **kwargs)
    model.train(progress=False, accelerator="cpu")
    return model


def kinds_of(mdata, names):
    return mdata.obs["kind"].loc[names].to_numpy()


def hidden(name: str, n: int | None, baselines: tuple[str, ...] = BASELINES) -> Callable:
    """Pairs hidden, links given."""

    def row(seed: int, args) -> list[dict]:
        mdata = read(LINKED[name])
        first, second = mdata.mod
        size = min(N, n or N) if args.quick else n
        start = time.process_time()
        train, names = unpair(mdata, size, seed)
        model = fit(train, seed, links=gene_links(mdata), options={"n_permutations": 20})
        kind = kinds_of(mdata, names)
        out = [{"method": "UnpairedCCA", **pair_scores(*latents(model, first, second, names), kind)}]
        out[0] |= {"cpu_s": time.process_time() - start, "identified": float(model.verdict.identified)}
        out[0] |= {"held_out": model.verdict.score, "null_max": max(model.verdict.null)}
        for method in baselines:
            found = baseline_latents(model, method, first, second, names)
            out.append({"method": method, **pair_scores(*found, kind)})
        return out

    return row


def rounds(name: str, n: int | None) -> Callable:
    """Six steps allowed: which the held-out test accepts, and what each does to the truth."""

    def row(seed: int, args) -> list[dict]:
        mdata = read(LINKED[name])
        first, second = mdata.mod
        train, names = unpair(mdata, N if args.quick else n, seed)
        links = gene_links(mdata)
        model = fit(train, seed, links=links, options={"n_rounds": 6})
        verdict = model.verdict
        out = [{"method": "accepted", "n_rounds": verdict.n_rounds}]
        out[0] |= pair_scores(*latents(model, first, second, names))
        problem, _ = model._aligned
        settings = model.options.settings(seed)
        raw = {
            m: np.asarray(v.components / np.where(v.scale > 0, v.scale, np.inf)) + v.mean
            for m, v in problem.views.items()
        }
        order = {m: pd.Index(train.obs_names[train.obsmap[m].astype(int) > 0]) for m in train.mod}
        for i, (_, cca) in enumerate(problem.solve(settings, 6)):
            z = cca.transform(raw)
            u = z[first][order[first].get_indexer(names)]
            v = z[second][order[second].get_indexer(np.char.add("other_", names.astype(str)))]
            out.append({"method": f"step {i + 1}", "held_out": verdict.rounds[i], "foscttm": metrics.foscttm(u, v)})
        return out

    return row


def few_pairs(name: str, n: int | None, n_pairs: int) -> Callable:
    """A few pairs, no links, beside canonical correlations of the pairs alone."""

    def row(seed: int, args) -> list[dict]:
        from smalti.pp import LinearCCA

        mdata = read(LINKED[name])
        first, second = mdata.mod
        train, names = unpair(mdata, N if args.quick else n, seed, n_pairs)
        model = fit(train, seed, options={"n_permutations": 20})
        kind = kinds_of(mdata, names)
        out = [{"method": f"{n_pairs} pairs", **pair_scores(*latents(model, first, second, names), kind)}]
        out[0] |= {"n_rounds": model.verdict.n_rounds, "identified": float(model.verdict.identified)}
        views = model._aligned[0].views
        cells = {m: np.flatnonzero(train.obsmap[m].astype(int) > 0) for m in train.mod}
        x = {m: views[m].components for m in train.mod}
        maps = {m: np.full(train.n_obs, -1) for m in train.mod}
        for m in train.mod:
            maps[m][cells[m]] = np.arange(len(cells[m]))
        alone = LinearCCA(6, ridge=0.5).fit(x, maps).transform(x)
        at = {m: pd.Index(train.obs_names[cells[m]]) for m in train.mod}
        u = alone[first][at[first].get_indexer(names)]
        v = alone[second][at[second].get_indexer(np.char.add("other_", names.astype(str)))]
        out.append({"method": f"CCA of {n_pairs} pairs", **pair_scores(u, v, kind)})
        return out

    return row


def deep(name: str) -> Callable:
    """Deep encoders: what the held-out test says, and the truth."""

    def row(seed: int, args) -> list[dict]:
        mdata = read(LINKED[name])
        first, second = mdata.mod
        train, names = unpair(mdata, N, seed)
        out = []
        for method, kwargs in {
            "tested": {},
            "always": {"options": {"accept": "always"}},
            "gumbel": {"solver": "gumbel", "options": {"accept": "always"}},
            "+ energy": {"align": "energy", "options": {"accept": "always"}},
            "+ max-sliced": {"align": "max_sliced", "options": {"accept": "always"}},
            "+ mmd": {"align": "mmd", "options": {"accept": "always"}},
            "+ ssim": {"align": "ssim", "options": {"accept": "always"}},
            "+ adversarial": {"align": "adversarial", "options": {"accept": "always"}},
        }.items():
            model = fit(train, seed, links=gene_links(mdata), encoder="deep", **kwargs)
            out.append({"method": method, **pair_scores(*latents(model, first, second, names))})
            out[-1]["accepted"] = float(model.module.accepted)
        return out

    return row


def sln(seed: int, args) -> list[dict]:
    """RNA of one day, protein of another: labels carried over, balanced over 35 types."""
    mdata = read("sln_diagonal")
    train = _some(mdata, N if args.quick else None, seed)
    model = fit(train, seed, links=gene_links(mdata), options={"n_permutations": 20})
    first, second = train.mod
    here = {m: train.obsmap[m].astype(int) > 0 for m in train.mod}
    kind = {m: mdata.obs["kind"].loc[train.obs_names[here[m]]].to_numpy() for m in train.mod}

    def scores(z) -> dict:
        u, v = z[first], z[second]
        there, back = (
            transfer(a, kind[i], b, kind[j], balanced=True)
            for a, i, b, j in ((u, first, v, second), (v, second, u, first))
        )
        return {"transfer_1": there, "transfer_2": back, "transfer": (there + back) / 2}

    own = {m: model.get_latent_representation(modality=m)[here[m]] for m in train.mod}
    out = [{"method": "UnpairedCCA", **scores(own), "identified": float(model.verdict.identified)}]
    for method in BASELINES:
        out.append({"method": method, **scores({m: z[here[m]] for m, z in model.baseline(method).items()})})
    return out


def sln_pairs(seed: int, args) -> list[dict]:
    """The same on the features that the 512 paired cells have, scored on these."""
    mdata, paired = read("sln_diagonal"), read("sln_paired")
    common = {m: mdata[m].var_names.intersection(paired[m].var_names) for m in mdata.mod}
    train = build_mudata({m: mdata[m][:, common[m]].copy() for m in mdata.mod})
    query = build_mudata({m: paired[m][:, common[m]].copy() for m in mdata.mod})
    train = _some(train, N if args.quick else None, seed)
    table = gene_links(mdata)
    table = table[table["rna"].isin(common["rna"]) & table["adt"].isin(common["adt"])]
    model = fit(train, seed, links=table)
    u, v = (model.get_latent_representation(query, modality=m) for m in query.mod)
    return [{"method": "UnpairedCCA", **pair_scores(u, v, paired.obs["kind"].loc[query.obs_names].to_numpy())}]


def removed(name: str, types: tuple[str, ...], n: int | None) -> Callable:
    """A type taken out of the second modality: are its cells in the first one the least confident?"""

    def row(seed: int, args) -> list[dict]:
        mdata = read(name)
        links, size, out = gene_links(mdata), N if args.quick else n, []
        for kind in types:
            if name in LINKED.values():
                train, _ = unpair(mdata, size, seed)
            else:
                train = _some(mdata, size, seed)
            first, second = train.mod
            of = np.array([str(c).removeprefix("other_") for c in train[second].obs_names])
            keep = mdata.obs["kind"].loc[of].to_numpy() != kind
            train = build_mudata({first: train[first], second: train[second][keep].copy()})
            found = fit(train, seed, links=links).match(first, second).to_frame()["confidence"]
            gone = mdata.obs["kind"].loc[found.index].to_numpy() == kind
            lowest = found.to_numpy() <= np.quantile(found, 0.2)
            auroc = roc_auc_score(gone, -found.to_numpy())
            out.append({"method": kind, "auroc": auroc, "lowest_fifth": lowest[gone].mean(), "cells": int(gone.sum())})
        return out

    return row


def verdict(seed: int, args) -> list[dict]:
    """Forty runs each: true links, permuted links, unrelated data."""
    mdatas = {name: read(data) for name, data in LINKED.items()}
    other = read("sln_diagonal")
    out = []
    for run in range(args.runs):
        name = ("pbmc", "snare")[run % 2]
        mdata, links = mdatas[name], gene_links(mdatas[name])
        rng = np.random.default_rng(3000 + 100 * seed + run)
        train, _ = unpair(mdata, N, 100 * seed + run)
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
            found = fit(data, run, links=table, options={"n_permutations": 20}).verdict
            row = {"method": method, "data": name, "identified": float(found.identified), "held_out": found.score}
            out.append(row | {"null": float(np.mean(found.null)), "p": found.p_value})
    return out


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
        command = [sys.executable, __file__, "--cost", str(size), "--seeds", str(seed), "--threads", str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(done.stdout.splitlines()[-1])]

    return row


def measure_cost(n: int, seed: int) -> dict:
    mdata = read("pbmc10k_cite")
    links, data = gene_links(mdata), bootstrap(mdata, n, seed)
    start, cpu = time.perf_counter(), time.process_time()
    model = fit(data, seed, links=links, options={"n_permutations": 20})
    model.match(*data.mod)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out = {"method": f"{n} + {n} cells", "wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    return out | {"peak_gib": peak, "identified": float(model.verdict.identified)}


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


def _some(mdata, n: int | None, seed: int):
    """At most ``n`` cells of every modality."""
    rng = np.random.default_rng(1000 + seed)
    return build_mudata(
        {name: mod[rng.permutation(mod.n_obs)[: n or mod.n_obs]].copy() for name, mod in mdata.mod.items()}
    )


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
}
ONCE = ("verdict", "cost20k", "cost50k")


def main() -> None:
    """Run what the command line asks for; append rows to a CSV and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--runs", type=int, default=40, help="of each kind in the row 'verdict'")
    parser.add_argument("--quick", action="store_true", help="at most 1,500 cells of each modality")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="CSV to append to")
    parser.add_argument("--cost", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "scvi", "smalti"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if args.cost:
        print(json.dumps(measure_cost(args.cost, args.seeds[0])))
        return
    tables = []
    for name in args.rows:
        for seed in args.seeds[:1] if name in ONCE else args.seeds:
            start = time.perf_counter()
            found = [{"row": name, "seed": seed, **entry} for entry in ROWS[name](seed, args)]
            for entry in found:
                shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in entry.items()}
                print(json.dumps(shown), flush=True)
            print(f"# {name} seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
            tables += found
            if args.out:
                kept = pd.DataFrame(found).melt(["row", "seed", "method"], var_name="score")
                kept.to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
    numbers = pd.DataFrame(tables).drop(columns=["seed", "data"], errors="ignore")
    table = numbers.groupby(["row", "method"], sort=False).agg(["mean", "std"])
    print(table.dropna(axis=1, how="all").round(3).to_string())


if __name__ == "__main__":
    main()
