"""Score the linear baseline by the mosaic protocol: mean and standard deviation over five splits.

Run from the root of the repository as ``python -m benchmarks.linear_baseline``; ``--help`` lists the options. Nothing
is tuned on test cells: the number of components is chosen on pairs held out among the paired training cells.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

import smalti as sm

from ._protocol import load, protocol

DATA = ("snare_mop", "pbmc_mosaic", "pbmc10k_cite")
SCORES = ("foscttm_cos", "ms_k1", "ms_k10", "lt_rna2other", "lt_other2rna", "components", "seconds")


def score_split(data, seed: int, n_components: int | None) -> dict[str, float]:
    """Fit on the training mosaic of one split and score its test cells."""
    rules = protocol()
    mdata = data.training_mudata(seed)
    start = time.perf_counter()
    result = sm.tl.linear_cca(mdata, batch_key="batch", n_components=n_components)
    seconds = time.perf_counter() - start
    rows, z = mdata.obs["row"].to_numpy(int), {}
    for name in ("rna", data.kind):
        embedding = mdata.obsm[f"X_cca_{name}"]
        here = np.isfinite(embedding).all(axis=1)
        z[name] = rules.scatter(data.n_cells, rows[here], embedding[here])
    test = data.roles(seed) == "test"
    x, y, labels = z["rna"][test], z[data.kind][test], data.labels[test]
    known = ~np.isin(labels, rules.UNLABELLED)
    x_known, y_known, labels = x[known], y[known], labels[known]
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
    return {
        "foscttm_cos": rules.foscttm(*unit),
        "ms_k1": rules.matching_score(x, y, 1),
        "ms_k10": rules.matching_score(x, y, 10),
        "lt_rna2other": rules.label_transfer(x_known, labels, y_known, labels),
        "lt_other2rna": rules.label_transfer(y_known, labels, x_known, labels),
        "components": result.n_components,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", default=DATA, help="names of data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5), help="seeds of the split")
    parser.add_argument("--components", type=int, help="fixed number of components instead of the chosen one")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    print("| data | " + " | ".join(SCORES) + " |\n" + "| --- " * (len(SCORES) + 1) + "|")
    for name in options.data:
        data = load(name)
        scores = [score_split(data, seed, options.components) for seed in options.seeds]
        cells = []
        for key in SCORES:
            values = np.array([score[key] for score in scores], dtype=float)
            digits = 1 if key in ("components", "seconds") else 4
            spread = f" +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
