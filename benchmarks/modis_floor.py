"""MODIS where classes are not the strongest structure, beside logistic regression per assay with the same labels.

    python benchmarks/modis_floor.py --out modis_floor.csv                 # the planted family, seeds 0-2
    python benchmarks/modis_floor.py --shares 0.03 --labels 10 --classes 2 --seeds 0 1 2 3 4

Three assays of 300 samples each; classes explain a share of the variance beside a factor of 30 % that has nothing to
do with them. ``modis``, ``linear``: balanced accuracy on unlabelled samples, mean over assays; ``worst``: of the least
difference between them over assays; ``network``: of the network alone; ``shares``: of it in the probabilities.
"""

from __future__ import annotations

import anndata as ad
import mudata as mu
import numpy as np
import pandas as pd
from _run import measured, run
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti.model import MODIS

ASSAYS, N, P = ("rna", "methylation", "protein"), 300, 200
UNRELATED, SHOWN = 0.3, ("modis", "network", "linear", "worst", "cpu_s")


def planted(share: float, n_labels: int, n_classes: int, paired: bool, seed: int):
    """Return a mosaic with few labels, and the true classes."""
    rng = np.random.default_rng(seed)
    n = N if paired else N * len(ASSAYS)
    classes = rng.integers(n_classes, size=n)
    factor = np.where(rng.random(n) < 0.5, -1.0, 1.0) + 0.3 * rng.normal(size=n)
    centre = rng.normal(size=(n_classes, 5))
    mod, known = {}, np.zeros(n, dtype=bool)
    for i, name in enumerate(ASSAYS):
        rows = np.arange(n) if paired else np.arange(i * N, (i + 1) * N)
        signal = (centre - centre.mean(axis=0))[classes[rows]] @ rng.normal(size=(5, P))
        other = factor[rows, None] * rng.normal(size=P)
        noise = rng.normal(size=(N, 8)) @ rng.normal(size=(8, P)) * 0.5 + rng.normal(size=(N, P))
        parts = [(signal, share), (other, UNRELATED), (noise, 1 - share - UNRELATED)]
        x = sum(np.sqrt(s / part.var(axis=0).sum()) * (part - part.mean(axis=0)) for part, s in parts) * np.sqrt(P)
        mod[name] = ad.AnnData(x.astype(np.float32), obs=pd.DataFrame(index=[f"s{r}" for r in rows]))
        for c in range(n_classes):
            known[rng.permutation(rows[classes[rows] == c])[:n_labels]] = True
    mdata = mu.MuData(mod)
    at = mdata.obs_names.str[1:].astype(int)
    mdata.obs["label"] = np.where(known, [f"c{c}" for c in classes], "unknown")[at]
    return mdata, np.array([f"c{c}" for c in classes])[at]


def linear(x: np.ndarray, labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    scores = PCA(30, random_state=0).fit_transform(StandardScaler().fit_transform(x))
    model = make_pipeline(
        StandardScaler(), LogisticRegressionCV(Cs=[0.001, 0.01, 0.1, 1], cv=3, class_weight="balanced", max_iter=500)
    )
    return model.fit(scores[known], labels[known]).predict(scores)


def rows(args):
    for share in args.shares:
        for n_labels in args.labels:
            for n_classes in args.classes:
                for paired in (False, True):
                    for seed in args.seeds:
                        yield row(share, n_labels, n_classes, paired, seed)


def row(share: float, n_labels: int, n_classes: int, paired: bool, seed: int) -> dict:
    mdata, truth = planted(share, n_labels, n_classes, paired, seed)
    with measured() as used:
        MODIS.setup_mudata(mdata, labels_key="label", unlabeled_category="unknown")
        model = MODIS(mdata, random_state=seed)
        model.train(progress=False)
    known = (mdata.obs["label"] != "unknown").to_numpy()
    scores = {"modis": [], "network": [], "linear": []}
    shares = dict(model.module.floor.shares)
    for name in ASSAYS:
        here = mdata.obsm[name].ravel().astype(bool)
        cells = np.flatnonzero(here)
        open_cells = cells[~known[cells]]
        guess = linear(mdata[name].X, truth[cells], known[cells])[~known[cells]]
        scores["linear"].append(balanced_accuracy_score(truth[open_cells], guess))
        for what in ("modis", "network"):
            model.module.floor.shares = dict.fromkeys(shares, 1.0) if what == "network" else shares
            found = model.predict(modality=name, indices=open_cells)
            scores[what].append(balanced_accuracy_score(truth[open_cells], found.astype(str)))
    model.module.floor.shares = shares
    return {
        "data": f"{share:g} of variance, {n_labels} labels, {n_classes} classes, {'paired' if paired else 'unpaired'}",
        "method": "MODIS",
        "seed": seed,
        **{what: float(np.mean(values)) for what, values in scores.items()},
        "worst": float(np.min(np.subtract(scores["modis"], scores["linear"]))),
        "clusters": model.module.cluster_share,
        "shares": " ".join(f"{w:g}" for w in shares.values()),
        **used,
    }


def options(parser) -> None:
    parser.add_argument("--shares", type=float, nargs="+", default=(0.01, 0.03, 0.1, 0.3))
    parser.add_argument("--labels", type=int, nargs="+", default=(5, 10, 50))
    parser.add_argument("--classes", type=int, nargs="+", default=(2, 6))


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "method"), seeds=(0, 1, 2), data=("planted",), options=options, shown=SHOWN)
