"""The formula on simulated pilots, and beside the law of gemmr."""

from __future__ import annotations

import numpy as np
import pandas as pd

import smalti as sm
from smalti.planning._pilot import components, formula, pilot_values

POINTS = ((100, 4, 0.7), (100, 8, 0.9))
GEMMR = {  # gemmr 0.4.0, `cca_sample_size(p, p, 0, 0, rs=(0.5, 0.7, 0.9))`: power 0.9, error 0.1
    10: (171, 82, 47),
    50: (1140, 547, 315),
    100: (2579, 1236, 714),
    300: (9397, 4506, 2602),
}


def calibrate(out, args) -> None:
    """Pilots of half to twice ``n50``: is the simulated ``n90`` in the interval of the formula?"""
    rows = []
    real = pd.read_csv(out / "phase_100_300_transitions.csv").set_index(["n_features", "n_active", "correlation"])
    for p, k, rho in POINTS:
        n50, n90 = real.loc[(p, k, rho), ["n50", "n90"]]
        for factor in (0.5, 1.0, 1.5, 2.0):
            for run in range(args.replicates):
                n = round(factor * n50)
                seed = int(np.random.SeedSequence([5, p, k, n, run]).generate_state(1)[0])
                options = {"n_features": (p, p), "n_active": k, "correlations": rho, "random_state": seed}
                mdata = sm.simulate.sparse_cca(n, **options)
                pilot = pilot_values(mdata, list(mdata.mod), np.arange(n), batch_key=None, seed=run)
                found = components(pilot, n_max=1, seed=run)
                row = {"p": p, "k": k, "rho": rho, "factor": factor, "n": n, "n90": n90, "answered": bool(len(found))}
                if len(found):
                    answer = formula(found).iloc[0]
                    row |= {"predicted": answer["n"], "low": answer["low"], "high": answer["high"]}
                    row |= {"inside": answer["low"] <= n90 <= answer["high"], "rho_hat": found["correlation"].iloc[0]}
                    row |= {"k_hat": found["k"].iloc[0]}
                rows.append(row)
        table = pd.DataFrame(rows)
        table.to_csv(out / "calibrate.csv", index=False)
    grouped = table.groupby(["p", "k", "rho", "factor"])
    columns = {"answered": "mean", "n90": "first", "predicted": "median", "rho_hat": "mean", "k_hat": "median"}
    summary = grouped.agg(columns)
    summary["inside"] = (
        table.dropna(subset=["low"]).astype({"inside": float}).groupby(["p", "k", "rho", "factor"])["inside"].mean()
    )
    print(summary.round(3).to_string(), flush=True)


def gemmr(out, args) -> None:
    """Failures of ridge-free CCA and of the truncated estimator at the number of cells that gemmr asks for."""
    rows = []
    for p in (10, 50, 100):
        for rho, n in zip((0.5, 0.7, 0.9), GEMMR[p], strict=True):
            diagram = sm.planning.phase_diagram(
                methods=("cca", "truncated"),
                n_features=(p,),
                n_active=(4,),
                correlations=(rho,),
                n_obs=(n,),
                n_replicates=min(args.replicates, 10),
                random_state=3,
                path=out / "gemmr_runs.csv",
            )
            means = diagram.runs().groupby("method")[["error_x", "failed", "held_out"]].mean()
            row = {"p": p, "rho": rho, "gemmr": n, "ours_n90": 7.5 * 4 * np.log(p) / rho**2}
            for method, values in means.iterrows():
                row |= {f"{method}_{key}": value for key, value in values.items()}
            rows.append(row)
    table = pd.DataFrame(rows)
    table.to_csv(out / "gemmr.csv", index=False)
    print(table.round(3).to_string(index=False), flush=True)
