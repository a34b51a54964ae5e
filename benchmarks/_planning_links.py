"""Links thinned, and published learning curves: what the planner predicts of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from _unpaired_data import gene_links, read

import smalti as sm
from smalti.planning._links import _align, _score

SIZES = (6, 12, 24, 48, 70, 97)
PUBLISHED = {
    "MultiVI, RNA + ATAC": (0.039, 0.029, 0.019, 0.015),
    "Seurat v5, RNA + ATAC": (0.050, 0.039, 0.028, 0.028),
    "Cobolt, RNA + ATAC": (0.038, 0.032, 0.026, 0.026),
    "MIDAS, RNA + protein": (0.018, 0.016, 0.014, 0.013),
    "Seurat v5, RNA + protein": (0.030, 0.029, 0.031, 0.034),
}
PAIRS = (3000, 5000, 10_000, 20_000)


def links(out, args) -> None:
    """``sln_diagonal`` with its links thinned; from half of them, the score of all is predicted."""
    mdata = read("sln_diagonal")
    mdata.obs["kind"] = mdata.obs["kind"].where(~mdata.obs["kind"].isin(["nan", "unknown", ""]))
    table = gene_links(mdata).drop_duplicates(ignore_index=True)
    table = table[~table[next(iter(mdata.mod))].duplicated()].reset_index(drop=True)
    names, path = list(mdata.mod), out / "links.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for draw in range(min(args.replicates, 5)):
        order = np.random.default_rng([0, draw]).permutation(len(table))
        for n in SIZES:
            if any(row["n"] == n and row["draw"] == draw for row in rows):
                continue
            latents = _align(mdata, names, table.iloc[np.sort(order[:n])], draw, None)
            score = _score(mdata, names, latents, "labels", "kind")
            rows.append({"n": n, "draw": draw, "score": score.value, "cell_variance": score.variance})
            pd.DataFrame(rows).assign(n_test=mdata.n_obs).to_csv(path, index=False)
    curve = pd.read_csv(path)
    print(curve.groupby("n")["score"].agg(["mean", "std"]).round(4).to_string())
    options = {"target": "labels", "goal": None, "unit": "links", "chance": 1 / mdata.obs["kind"].nunique()}
    whole = sm.planning._sample_size.plan_from_curve(curve, n_now=len(table), **options)
    print(whole)
    half = sm.planning._sample_size.plan_from_curve(curve[curve["n"] <= 48], n_now=97, **options)
    if half.fit is not None:
        print("from 48 links, at 97:", half.predict(97), "measured", curve.query("n == 97")["score"].mean(), flush=True)


def published(out, args) -> None:
    """Curves of other tools, fitted on 3,000 to 10,000 pairs and carried to 20,000."""
    rows = []
    for name, scores in PUBLISHED.items():
        fit = sm.planning.fit_curve(PAIRS[:3], scores[:3])
        low, middle, high = fit.predict(PAIRS[3])[:, 0]
        row = {"curve": name, "low": low, "predicted": middle, "high": high, "published": scores[3]}
        rows.append(row | {"inside": low <= scores[3] <= high, "improves": fit.improves})
    table = pd.DataFrame(rows)
    table.to_csv(out / "published.csv", index=False)
    print(table.round(4).to_string(index=False))
