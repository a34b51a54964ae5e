"""Batches of correlation losses: bias, noise of gradients, and what is left on new cells."""

from __future__ import annotations

from itertools import product

import mudata
import numpy as np
import pandas as pd

import smalti as sm
from smalti.benchmark import data_folder
from smalti.planning._correlation import total_correlation, train_correlation

RHO = (0.9, 0.8, 0.7, 0.6, 0.5)
N_TEST = 4000
D = len(RHO)
REAL = {"pbmc10k_cite": None, "snare_mop": "batch", "sln_paired": None}


def bias(out, args) -> None:
    """Mean canonical correlation of independent Gaussian views in a batch, beside c sqrt(d / B)."""
    rows = []
    for d, size in product((5, 10, 32), (32, 64, 128, 256, 512, 1024)):
        if size < 2 * d:
            continue
        for draw in range(20):
            rng = np.random.default_rng([d, size, draw])
            q = [np.linalg.qr(z - z.mean(0))[0] for z in rng.standard_normal((2, size, d))]
            value = np.linalg.svd(q[0].T @ q[1], compute_uv=False).mean()
            rows.append({"d": d, "B": size, "value": value, "c": value / np.sqrt(d / size)})
    table = pd.DataFrame(rows)
    table.to_csv(out / "bias.csv", index=False)
    print(table.pivot_table(index="d", columns="B", values="value").round(3).to_string())
    print("c:", table.groupby("d")["c"].mean().round(3).to_dict(), "over all", round(table["c"].mean(), 3), flush=True)


def simulated(n: int, seed: int):
    mdata = sm.simulate.sparse_cca(n + N_TEST, n_features=(100, 100), n_active=5, correlations=RHO, random_state=seed)
    x, y = (np.asarray(mdata[name].X, dtype=np.float64) for name in mdata.mod)
    return (x[:n], y[:n]), (x[n:], y[n:])


def batches(out, args) -> None:
    """Linear encoders on the simulator: batch or running covariances, equal steps or equal epochs."""
    rows = []
    seeds = range(min(args.replicates, 5))
    sizes, budgets = ((1000,), ("steps",)) if args.quick else ((300, 1000, 5000), ("steps", "epochs"))
    grid = product(sizes, (2, 5, 10, 20, None), (None, 0.9), budgets, seeds)
    for n, factor, decay, budget, seed in grid:
        size = n if factor is None else factor * D
        if factor is None and (decay is not None or budget == "epochs"):
            continue
        if budget == "epochs" and n == 5000 and factor == 2:
            continue  # 10,000 steps
        steps = args.steps if budget == "steps" else max(1, round(20 * n / size))
        train, test = simulated(n, seed)
        options = {"batch_size": size, "decay": decay, "n_steps": steps, "seed": seed}
        trained = train_correlation(*train, n_outputs=D, **options)
        row = {"n": n, "B_over_d": factor or 0, "B": size, "decay": decay or 0, "budget": budget, "seed": seed}
        row |= {"test": total_correlation(trained.encode(*train), trained.encode(*test)), "seconds": trained.seconds}
        rows.append(row | {"steps": steps, "noise": trained.losses[steps // 2 :].std()})
        table = pd.DataFrame(rows)
        table.to_csv(out / "batches.csv", index=False)
    mean = table.groupby(["n", "budget", "decay", "B_over_d"])[["test", "seconds", "noise"]].mean()
    print(mean.round(3).to_string(), flush=True)


def gradients(out, args) -> None:
    """Cosine of the gradient of a batch with that of all cells, at the start and after 100 steps."""
    import torch

    from smalti.planning._correlation import CorrelationLoss

    rows = []
    for seed in range(min(args.replicates, 3)):
        train, _ = simulated(5000, seed)
        inputs = [torch.from_numpy(z.astype(np.float32)) for z in train]
        for steps in (1, 100):
            encoders = train_correlation(*train, n_outputs=D, n_steps=steps, seed=seed).encoders
            weights = [f[0].weight for f in encoders]

            def gradient(cells, encoders=encoders, weights=weights, inputs=inputs):
                loss = CorrelationLoss()(*(f(z[cells]) for f, z in zip(encoders, inputs, strict=True)))
                return torch.cat([g.ravel() for g in torch.autograd.grad(loss, weights)])

            whole = gradient(slice(None))
            for factor in (2, 5, 10, 20, 50):
                rng = np.random.default_rng([seed, factor])
                cos = [
                    float(torch.cosine_similarity(gradient(rng.choice(5000, factor * D, replace=False)), whole, dim=0))
                    for _ in range(50)
                ]
                rows.append({"seed": seed, "steps": steps, "B_over_d": factor, "cosine": np.mean(cos)})
    table = pd.DataFrame(rows)
    table.to_csv(out / "gradients.csv", index=False)
    print(table.pivot_table(index="steps", columns="B_over_d", values="cosine").round(3).to_string(), flush=True)


def components(name: str, n_components: int = 30):
    """Components of both modalities of the paired cells, standardised within batches."""
    if name == "pbmc_mosaic":
        mdata, key = sm.datasets.pbmc_mosaic(), "batch"
        mdata = mdata[np.flatnonzero(sm.data.presence(mdata).all(axis=1))].copy()
    else:
        mdata, key = mudata.read(data_folder() / f"{name}.h5mu"), REAL[name]
    out = []
    for m in mdata.mod:
        transform = sm.pp.default_transform(mdata[m].X, n_components=min(n_components, mdata[m].n_vars - 1))
        batch = None if key is None else pd.factorize(mdata.obs[key])[0]
        z = transform.fit_transform(mdata[m].X, batch=batch)
        out.append((z - z.mean(0)) / z.std(0))
    return out


def auto(out, args) -> None:
    """Four data sets: total correlation on a fifth held out, batches of ten per output against all cells."""
    rows, d = [], 10
    for name in ("pbmc10k_cite", "snare_mop", "pbmc_mosaic", "sln_paired"):
        x, y = components(name)
        for seed in range(min(args.replicates, 5)):
            order = np.random.default_rng([3, seed]).permutation(len(x))
            out_cells, cells = np.split(order, [len(x) // 5])
            train, test = (x[cells], y[cells]), (x[out_cells], y[out_cells])
            rule = sm.planning.recommended_batch_size(d, len(cells), allow_full=False)
            for label, size, decay in (("full", len(cells), None), ("rule", rule, None), ("running", rule // 2, 0.9)):
                options = {"batch_size": size, "decay": decay, "n_steps": args.steps, "seed": seed}
                trained = train_correlation(*train, n_outputs=d, **options)
                score = total_correlation(trained.encode(*train), trained.encode(*test))
                rows.append({"data": name, "seed": seed, "batch": label, "B": size, "test": score})
                rows[-1]["seconds"] = trained.seconds
        table = pd.DataFrame(rows)
        table.to_csv(out / "auto.csv", index=False)
        wide = table[table["data"] == name].pivot_table(index="seed", columns="batch", values=["test", "seconds"])
        ratio = wide["test"]["rule"] / wide["test"]["full"], wide["test"]["running"] / wide["test"]["full"]
        print(
            name,
            wide.mean().round(3).to_dict(),
            "share kept",
            [f"{r.mean():.3f} ({r.min():.3f})" for r in ratio],
            flush=True,
        )
