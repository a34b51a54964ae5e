"""Rows of the benchmark of gates: what is run, its target, and about how long it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from _gate_data import clusters, f1, factors, moons, mosaic, sparse_pair
from _gate_models import cll, clue_global, clue_regions, pbmc_closed, pbmc_nuisance, pbmc_support, planted_groups, speed
from anndata import AnnData
from mudata import MuData

from smalti import select
from smalti.nn import LocalGate

if TYPE_CHECKING:
    from collections.abc import Callable

Scores = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One row."""

    run: Callable[[int, bool], Scores]
    target: str
    minutes: float
    """Per seed, on one free core."""
    most_seeds: int = 20


def noise(n: int, d: int = 3) -> np.ndarray:
    return np.random.default_rng(99).standard_normal((n, d))


def dufs_f1(x: np.ndarray, n_true: int, seed: int, **kwargs) -> float:
    mdata = mosaic(a=x, b=noise(len(x)))
    select.dufs(mdata, "a", random_state=seed, **kwargs)
    return f1(mdata["a"].var["selected"].to_numpy(), np.arange(n_true))


def moons_row(n: int, n_nuisance: int, batch: int) -> Callable[[int, bool], Scores]:
    def run(seed: int, quick: bool) -> Scores:
        x = moons(n, n_nuisance, seed)
        steps = {"n_steps": 20} if quick else {}
        plain = {"use_warm_start": False, "use_prune": False}
        return {
            "f1": dufs_f1(x, 2, seed, options={"batch_size": batch, **steps}),
            "f1_published": dufs_f1(x, 2, seed, **plain, options={"batch_size": batch, "project": False, **steps}),
            "f1_no_warm_start": dufs_f1(x, 2, seed, **plain, options={"batch_size": batch, **steps}),
            "f1_no_prune": dufs_f1(x, 2, seed, use_prune=False, options={"batch_size": batch, **steps}),
        }

    return run


def pure_noise(seed: int, quick: bool) -> Scores:
    mdata = mosaic(a=np.random.default_rng(seed).standard_normal((300, 52)), b=noise(300))
    options = {"n_steps": 20 if quick else 600}
    before = select.dufs(mdata, "a", use_prune=False, random_state=seed, options=options, write=False)
    select.dufs(mdata, "a", random_state=seed, options=options)
    return {
        "selected": int(mdata["a"].var["selected"].sum()),
        "selected_before_prune": int(before.tables["a"]["selected"].sum()),
    }


def factors_row(seed: int, quick: bool) -> Scores:
    options = {"batch_size": 249, "n_steps": 20 if quick else 600}  # fewer than half of the cells: batches
    return {"f1": dufs_f1(factors(500, 170, seed), 30, seed, options=options)}


def shared(n_noise: int) -> Callable[[int, bool], Scores]:
    def run(seed: int, quick: bool) -> Scores:
        x, y = clusters(seed, n_noise)
        mdata = mosaic(x=x, y=y)
        options = {"n_steps": 10} if quick else None
        found = select.mmdufs(mdata, random_state=seed, options=options)
        return {
            "f1_x": f1(mdata["x"].var["selected"].to_numpy(), np.arange(30)),
            "f1_y": f1(mdata["y"].var["selected"].to_numpy(), np.arange(20)),
            "lam": found.lam,
            "lam_null": found.lam_null,
        }

    return run


def differential(seed: int, quick: bool) -> Scores:
    x, y = clusters(seed)
    mdata = mosaic(x=x, y=y)
    select.mmdufs(mdata, kind="differential", random_state=seed, options={"n_steps": 10} if quick else None)
    return {"f1_x": f1(mdata["x"].var["selected"].to_numpy(), np.arange(60, 100))}


def large(seed: int, quick: bool) -> Scores:
    """The clusters at 10,000 cells in batches, against all cells of a 1,000 (the exact operator)."""
    n = 520 if quick else 10_000
    x, y = scaled_clusters(seed, n)
    mdata = mosaic(x=x, y=y)
    options = {"n_steps": 10 if quick else 300}
    start = time.perf_counter()
    select.mmdufs(mdata, random_state=seed, options=options)
    seconds = time.perf_counter() - start
    scores = {f"f1_{m}": f1(mdata[m].var["selected"].to_numpy(), np.arange(k)) for m, k in (("x", 30), ("y", 20))}
    keep = np.sort(np.random.default_rng(seed).choice(n, min(n, 1000), replace=False))
    exact = mosaic(x=x[keep], y=y[keep])
    select.mmdufs(exact, random_state=seed, options={**options, "batch_size": 1000})
    scores |= {
        f"exact_f1_{m}": f1(exact[m].var["selected"].to_numpy(), np.arange(k)) for m, k in (("x", 30), ("y", 20))
    }
    return {**scores, "seconds": seconds}


def scaled_clusters(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The clusters of ``clusters`` with any number of cells.

    What only one modality knows is drawn apart from what both know: with thousands of cells, a cluster that excludes
    another one is known to the other modality by that.
    """
    rng = np.random.default_rng(seed)
    group = rng.choice(3, n, p=np.array([100, 100, 60]) / 260)
    x, y = rng.standard_normal((n, 130)), rng.standard_normal((n, 90))
    for values, parts, private in ((x, ((0, 20), (20, 30)), slice(60, 100)), (y, ((0, 10), (10, 20)), slice(20, 60))):
        for g, (start, stop) in enumerate(parts):
            values[group == g, start:stop] += rng.uniform(2, 4, stop - start)
        values[rng.random(n) < 30 / 260, private] += rng.uniform(2, 4, 40)
    return x, y


def many_cells(seed: int, quick: bool) -> Scores:
    """CPU seconds and F1 at 20,000 cells: two moons among 50, and 4,000 genes of which 60 follow three factors."""
    n, d = (1000, 200) if quick else (20_000, 4000)
    start = time.process_time()
    scores = {"f1_moons": dufs_f1(moons(n, 50, seed), 2, seed)}
    scores["cpu_moons"] = time.process_time() - start
    rng = np.random.default_rng(seed)
    loading = np.zeros((3, d))
    loading[np.arange(60) % 3, np.arange(60)] = 0.9
    z, base, depth = rng.standard_normal((n, 3)), rng.normal(-1.5, 1, d), rng.lognormal(0, 0.3, (n, 1))
    parts = np.array_split(np.arange(n), max(1, n // 1000))
    x = sp.vstack(
        [sp.csr_matrix(rng.poisson(np.exp(base + z[i] @ loading) * depth[i]), dtype=np.float32) for i in parts]
    )
    mdata = MuData({"a": AnnData(x)})
    start = time.process_time()
    found = select.dufs(mdata, "a", random_state=seed)
    scores["cpu_genes"] = time.process_time() - start
    return {**scores, "f1_genes": f1(found.tables["a"]["selected"].to_numpy(), np.arange(60))}


def local_toy(seed: int, quick: bool) -> Scores:
    """Which two of four features matter depends on the sign of a fifth."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((4000, 30)).astype(np.float32))
    c = x[:, 0] > 0
    y = torch.where(c, x[:, 1] + x[:, 2] * x[:, 1].abs(), x[:, 3] - x[:, 4])
    y = y + 0.1 * torch.from_numpy(rng.standard_normal(4000).astype(np.float32))
    torch.manual_seed(seed)
    gate = LocalGate(30, 30, n_layers=2, smooth=0.0)
    net = torch.nn.Sequential(
        torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam([*gate.parameters(), *net.parameters()], lr=3e-3)
    steps = 50 if quick else 2000
    for step in range(steps):
        at = torch.from_numpy(rng.choice(2000, 256, replace=False))
        lam = 0.05 * min(1.0, max(0.0, (step / steps - 0.1) / 0.4))
        loss = (net(gate(x[at], x[at])).ravel() - y[at]).square().mean() + lam * gate.expected_open(x[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gate.eval()
    test = slice(2000, 4000)
    with torch.no_grad():
        is_open = (gate.gates(x[test]) > 0).float()
        left = (net(gate(x[test], x[test])).ravel() - y[test]).square().mean() / y[test].var()
    on, off = is_open[c[test]].mean(0), is_open[~c[test]].mean(0)
    contrast = torch.cat([(on - off)[1:3], (off - on)[3:5]])
    return {
        "contrast": float(contrast.min()),
        "others": float(torch.cat([on[5:], off[5:]]).max()),
        "unexplained": float(left),
    }


def cca(toeplitz: float, batch: int | None) -> Callable[[int, bool], Scores]:
    def run(seed: int, quick: bool) -> Scores:
        x, y, a, b = sparse_pair(toeplitz=toeplitz, seed=seed)
        mdata = mosaic(x=x, y=y)
        steps = 20 if quick else 1500
        select.sparse_cca(mdata, batch_size=batch, n_steps=steps, random_state=seed)
        scores = {}
        for m, truth in (("x", a), ("y", b)):
            scores[f"f1_{m}"] = f1(mdata[m].var["selected"].to_numpy(), np.flatnonzero(truth))
            w = mdata[m].var["weight"].to_numpy() / mdata[m].X.std(axis=0)
            scores[f"error_{m}"] = 2 * (1 - abs(w @ truth) / max(np.linalg.norm(w) * np.linalg.norm(truth), 1e-12))
        cold = select.sparse_cca(mdata, lam=0.01, n_steps=steps, use_warm_start=False, random_state=seed, write=False)
        scores["f1_x_no_start"] = f1(cold.tables["x"]["selected"].to_numpy(), np.flatnonzero(a))
        return scores

    return run


def dcca(seed: int, quick: bool) -> Scores:
    x, y, a, _ = sparse_pair(seed=seed)
    scores = {}
    for name, batch in (("full", None), ("64", 64)):
        mdata = mosaic(x=x, y=y)
        select.sparse_dcca(mdata, lam=0.01, batch_size=batch, n_steps=20 if quick else 1500, random_state=seed)
        selected = mdata["x"].var["selected"].to_numpy()
        scores[f"f1_{name}"] = f1(selected, np.flatnonzero(a))
        scores[f"correlation_{name}"] = mdata["x"].uns["gates"].get("correlation", float("nan"))
    return scores


ROWS = {
    "moons": Row(moons_row(300, 50, 150), "F1 1 in all; published form 0 to 0.8", 0.5),
    "moons_200": Row(moons_row(300, 200, 150), "F1 1 in all", 1.0),
    "moons_batch": Row(moons_row(1000, 50, 256), "F1 1 in all", 0.7),
    "noise": Row(pure_noise, "none selected in 95 % of 20 seeds (--seeds 0 .. 19)", 0.3),
    "factors": Row(factors_row, "F1 >= 0.98", 0.3),
    "shared": Row(shared(30), "F1 >= 0.95 both", 0.5),
    "shared_noise": Row(shared(80), "F1 >= 0.9", 0.7),
    "differential": Row(differential, "F1 >= 0.95", 0.3),
    "large": Row(large, "within 5 % of the exact operator, <= 60 s", 4.0),
    "many": Row(many_cells, "<= 30 CPU seconds for 20,000 cells and 4,000 genes; F1 1 and >= 0.9", 1.0),
    "local": Row(local_toy, "contrast >= 0.9, others <= 0.05, unexplained <= 0.05", 0.3),
    "cca": Row(cca(0.0, None), "F1 1, error <= 0.01; without the start F1 0", 2.0),
    "cca_toeplitz": Row(cca(0.3, None), "F1 1, error <= 0.01", 2.0),
    "cca_64": Row(cca(0.0, 64), "error ratio to full batch <= 2", 1.0),
    "dcca": Row(dcca, "batch 64 against full: ratio <= 2", 2.0),
    "planted_groups": Row(planted_groups, "F1 >= 0.95", 4.0),
    "clue_global": Row(clue_global, "FOSCTTM within 0.003 of ungated, better than most variable; <= 1.1 x", 8.0),
    "clue_regions": Row(clue_regions, "groups = regions of a gene; reported", 3.0),
    "pbmc_closed": Row(pbmc_closed, ">= 50 % closed: FOSCTTM and ARI within 2 %", 4.0),
    "pbmc_nuisance": Row(pbmc_nuisance, "<= 5 % of 500 permuted genes, >= 80 % overlap", 4.0),
    "pbmc_support": Row(pbmc_support, "<= 5 % permuted genes among the supported ones", 3.0),
    "cll": Row(cll, "IGHV and trisomy 12 lead one of the first three canonical pairs", 0.5),
    "speed": Row(speed, "< 5 % per step at D = 20,000, B = 128", 0.5, most_seeds=1),
}
