"""Pilots of real data: hide the larger part, predict it, and look."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd

import smalti as sm
from smalti.benchmark import data_folder
from smalti.planning._curve import fit_curve
from smalti.planning._learning import beyond_chance, learning_curve, summarise
from smalti.planning._scores import INFO

BATCH = {"snare_mop": "batch"}


def read(name: str):
    return mudata.read(data_folder() / f"{name}.h5mu")


def curve(out, name: str, target: str, n_pilot: int, split: int, *, n_draws: int = 5, seed: int = 0) -> pd.DataFrame:
    """The learning curve of a random pilot; kept in a file, so that fits can be looked at again."""
    path = out / f"curve_{name}_{target}_{n_pilot}_{split}.csv"
    if not path.exists():
        mdata = read(name)
        rows = np.sort(np.random.default_rng([seed, split]).permutation(mdata.n_obs)[:n_pilot])
        options = {"target": target, "batch_key": BATCH.get(name), "n_draws": n_draws, "random_state": split}
        learning_curve(mdata[rows].copy(), **options).to_csv(path, index=False)
    return pd.read_csv(path)


def truth(out, name: str, target: str, n_train: int, *, n_draws: int = 5) -> float:
    """The score of ``n_train`` cells on a fifth of all cells, mean over draws."""
    path = out / f"truth_{name}_{target}_{n_train}.csv"
    if not path.exists():
        mdata = read(name)
        options = {"target": target, "batch_key": BATCH.get(name), "n_draws": n_draws, "random_state": 100}
        learning_curve(mdata, sizes=[n_train], **options).to_csv(path, index=False)
    return float(pd.read_csv(path)["score"].mean())


def predict(table: pd.DataFrame, target: str, n_pilot: int, n: int):
    """Low, median and high of the score at ``n``."""
    info, points = INFO[target], summarise(table, n_pilot)
    used = beyond_chance(points, info.chance, info.lower_is_better)
    if len(used) < 3:
        return None
    fit = fit_curve(
        used["n"], used["score"], error=used["error"].to_numpy(), lower_is_better=info.lower_is_better,
        chance=None if info.lower_is_better else info.chance, level_error=points.attrs["level_error"],
    )  # fmt: skip
    return (*fit.predict(n)[:, 0], fit.p_flat)


def hidden(out, name: str, target: str, n_pilot: int, n: int, splits: int) -> None:
    """Predictions of ``splits`` pilots for ``n`` training cells beside what these reach."""
    real, rows = truth(out, name, target, n), []
    for split in range(splits):
        found = predict(curve(out, name, target, n_pilot, split), target, n_pilot, n)
        if found is None:
            rows.append({"split": split, "truth": real, "low": np.nan, "predicted": np.nan, "high": np.nan})
            continue
        low, middle, high, p_flat = found
        row = {"split": split, "truth": real, "low": low, "predicted": middle, "high": high, "p_flat": p_flat}
        rows.append(row | {"inside": low <= real <= high, "off": middle / real - 1})
    table = pd.DataFrame(rows)
    table.to_csv(out / f"hidden_{name}_{target}_{n_pilot}.csv", index=False)
    print(f"{name} {target}: {n_pilot} -> {n}, truth {real:.4f}")
    print(table.round(4).to_string(index=False), flush=True)


def hide(out, args) -> None:
    """From a fifth of the cells to all of them (four fifths train, as in any split)."""
    for name, n_cells in (("pbmc10k_cite", 6855), ("snare_mop", 10309)):
        hidden(out, name, "foscttm", round(0.2 * n_cells), n_cells - round(0.2 * n_cells), min(args.replicates, 10))


def far(out, args) -> None:
    """PBMC: 500 pairs, total correlation at 4,000. SNARE cortex: 1,000 pairs, FOSCTTM at 8,000."""
    hidden(out, "pbmc10k_cite", "correlation", 500, 4000, min(args.replicates, 10))
    hidden(out, "snare_mop", "foscttm", 1000, 8000, min(args.replicates, 10))


def halve(out, args) -> None:
    """Pilots halved until they are of no use: what the planner says, and the truth."""
    rows = []
    for name, goal in (("pbmc10k_cite", 0.045), ("snare_mop", 0.15)):
        mdata = read(name)
        for split in range(min(args.replicates, 3)):
            order = np.random.default_rng([7, split]).permutation(mdata.n_obs)
            n = mdata.n_obs // 8
            while n >= 30:
                pilot = mdata[np.sort(order[:n])].copy()
                plan = sm.planning.sample_size(pilot, goal=goal, n_draws=5, random_state=split)
                row = {"data": name, "split": split, "n": n, "status": plan.status, "required": plan.n_required}
                rows.append(row | {"low": plan.interval[0], "high": plan.interval[1], "found": len(plan.components)})
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(out / "halve.csv", index=False)
                n //= 2


def shuffled(out, args) -> None:
    """Pairs shuffled: a pilot must not find anything; 300 cells of each data set."""
    rows = []
    for name in ("pbmc10k_cite", "snare_mop"):
        mdata = read(name)
        names = list(mdata.mod)
        for run in range(args.replicates):
            order = np.random.default_rng([11, run]).permutation(mdata.n_obs)[:300]
            pilot = sm.simulate.shuffle_pairs(mdata[np.sort(order)].copy(), names[1], random_state=run)
            plan = sm.planning.sample_size(pilot, n_draws=2, random_state=run)
            rows.append({"data": name, "run": run, "status": plan.status, "found": len(plan.components)})
        table = pd.DataFrame(rows)
        table.to_csv(out / "shuffled.csv", index=False)
        print(name, table.query("data == @name")["status"].value_counts().to_dict(), flush=True)
