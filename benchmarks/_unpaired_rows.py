"""Rows of the benchmark of UnpairedCCA that hide a truth and score against it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _unpaired_data import baseline_latents, gene_links, latents, pair_scores, read, spaces, transfer, unpair
from sklearn.metrics import roc_auc_score

from smalti import metrics
from smalti._mudata import build_mudata
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
        out.append({"method": "UnpairedCCA, matching space", **pair_scores(*spaces(model, first, second, names), kind)})
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
        space = pair_scores(*spaces(model, first, second, names), kind)
        out.append({"method": f"{n_pairs} pairs, matching space", **space})
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
    train = some(mdata, N if args.quick else None, seed)
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

    own = {m: model.get_latent_representation(modality=m, block="latent")[here[m]] for m in train.mod}
    out = [{"method": "UnpairedCCA", **scores(own), "identified": float(model.verdict.identified)}]
    space = dict(zip(train.mod, model.matching_space(first, second), strict=True))
    out.append({"method": "UnpairedCCA, matching space", **scores(space)})
    for method in BASELINES:
        out.append({"method": method, **scores({m: z[here[m]] for m, z in model.baseline(method).items()})})
    return out


def sln_pairs(seed: int, args) -> list[dict]:
    """The same on the features that the 512 paired cells have, scored on these."""
    mdata, paired = read("sln_diagonal"), read("sln_paired")
    common = {m: mdata[m].var_names.intersection(paired[m].var_names) for m in mdata.mod}
    train = build_mudata({m: mdata[m][:, common[m]].copy() for m in mdata.mod})
    query = build_mudata({m: paired[m][:, common[m]].copy() for m in mdata.mod})
    train = some(train, N if args.quick else None, seed)
    table = gene_links(mdata)
    table = table[table["rna"].isin(common["rna"]) & table["adt"].isin(common["adt"])]
    model = fit(train, seed, links=table)
    u, v = (model.get_latent_representation(query, modality=m, block="latent") for m in query.mod)
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
                train = some(mdata, size, seed)
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


def some(mdata, n: int | None, seed: int):
    """At most ``n`` cells of every modality."""
    rng = np.random.default_rng(1000 + seed)
    return build_mudata(
        {name: mod[rng.permutation(mod.n_obs)[: n or mod.n_obs]].copy() for name, mod in mdata.mod.items()}
    )
