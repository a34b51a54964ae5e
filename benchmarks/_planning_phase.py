"""Phase transitions of sparse CCA on simulated data: constants, exponents, gates beside the truncated estimator."""

from __future__ import annotations

import pandas as pd

import smalti as sm

GATE_POINTS = ((100, 2, 0.9), (100, 4, 0.7), (100, 8, 0.9), (300, 2, 0.7), (300, 4, 0.9), (300, 8, 0.9))
"""``p, k, rho`` at which gates are compared; they take a hundred times as long."""
GATE_RATIOS = (3.0, 4.0, 5.0, 6.5, 9.0)


def phase(out, args) -> None:
    """The truncated estimator that knows k, over the whole grid; ``--replicates`` data sets per point."""
    grid = {"n_active": (2, 4, 8, 16), "correlations": tuple(args.correlations), "path": out / "phase.csv"}
    sizes = tuple(args.features or (100, 300))
    diagram = sm.planning.phase_diagram(n_features=sizes, n_replicates=args.replicates, n_jobs=args.jobs, **grid)
    report(diagram, out, "phase_" + "_".join(map(str, sizes)))


def gates(out, args) -> None:
    """Gates that do not know k, and the truncated estimator on the same data, at six points."""
    tables = []
    for p, k, rho in GATE_POINTS[:3] if args.quick else GATE_POINTS:
        diagram = sm.planning.phase_diagram(
            methods=("truncated", "truncated_unknown", "gated"),
            n_features=(p,),
            n_active=(k,),
            correlations=(rho,),
            ratios=GATE_RATIOS[1::2] if args.quick else GATE_RATIOS,
            n_replicates=args.replicates,
            path=out / "gates.csv",
            n_jobs=args.jobs,
            random_state=1,
        )
        tables.append(diagram.transitions())
        print(tables[-1].to_string(index=False), flush=True)
    pd.concat(tables).to_csv(out / "gates_transitions.csv", index=False)


def methods(out, args) -> None:
    """Ridge, soft-threshold, truncated and deep CCA at two points of the grid."""
    for k in (2, 8):
        diagram = sm.planning.phase_diagram(
            methods=("cca", "soft", "truncated", "truncated_unknown", "deep"),
            n_features=(100,),
            n_active=(k,),
            correlations=(0.9,),
            ratios=(3, 5, 8, 16, 32),
            n_replicates=args.replicates,
            path=out / "methods.csv",
            n_jobs=args.jobs,
            random_state=2,
        )
        table = diagram.failure()
        print(table.pivot_table(index=["n_active", "n_obs"], columns="method", values="failure").round(2).to_string())
        table.to_csv(out / f"methods_{k}.csv", index=False)


def report(diagram, out, name: str) -> None:
    for what, table in {
        "transitions": diagram.transitions(),
        "collapse": diagram.collapse(),
        "exponents": diagram.exponents(),
    }.items():
        table.to_csv(out / f"{name}_{what}.csv", index=False)
        print(table.round(3).to_string(index=False), flush=True)
