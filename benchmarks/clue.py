"""CLUE on the mosaic protocol: defaults only, fitted anew on every split, scored on pairs it never saw.

    python benchmarks/clue.py                          # three data sets, split seeds 0-4
    python benchmarks/clue.py --data snare_mop --seeds 0 1 2 --variant no_generative
    python benchmarks/clue.py --dev                    # pairs held out of the training pairs, for choosing defaults

Needs the real data sets (``SMALTI_DATA_DIR``) and the scoring protocol beside them.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _protocol import LABELS, load, protocol

from smalti.model import CLUE
from smalti.simulate import hidden_pairs, hide_pairs

NO_GENERATIVE = {"data": 0.0, "kl": 0.0, "joint": 0.0, "cross": 0.0, "agreement": 0.0}
VARIANTS: dict[str, dict] = {
    "default": {},
    "paper": {"preset": "paper"},
    "no_contrastive": {"weights": {"contrastive": 0.0}},
    "no_generative": {"weights": NO_GENERATIVE},
    "no_cross": {"weights": {"cross": 0.0, "joint": 0.0}},
    "no_agreement": {"weights": {"agreement": 0.0}},
    "adversarial": {"weights": {"adversarial": 0.02}},
}
MODALITY_COLUMNS = ("rna:", "atac:", "adt:")


def training_data(name: str, seed: int, *, dev: bool, paired_only: bool):
    """The mosaic a model trains on, and the rows of the two halves of every pair it is scored on."""
    data = load(name)
    mdata = data.training_mudata(seed)
    for column in [c for c in mdata.obs if c.startswith(MODALITY_COLUMNS)]:
        del mdata.obs[column]
    if dev:
        mdata = hide_pairs(mdata, 0.2, random_state=seed)
    everything = mdata
    if paired_only:
        keep = (mdata.obs["role"] == "paired") | (mdata.obs["role"] == "test")
        mdata = mdata[keep.to_numpy()].copy()
    return data, mdata, everything


def run(name: str, seed: int, variant: str, *, dev: bool, paired_only: bool, epochs: int | None) -> dict:
    """Fit once and score."""
    data, mdata, everything = training_data(name, seed, dev=dev, paired_only=paired_only)
    CLUE.setup_mudata(mdata, batch_key="batch")
    wall, cpu = time.perf_counter(), time.process_time()
    model = CLUE(mdata, random_state=seed, **VARIANTS[variant])
    model.train(max_epochs=epochs, progress=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    z = model.get_latent_representation(everything if paired_only else None)
    rules = protocol()
    if dev:
        x, y = (z[rows] for rows in hidden_pairs(everything, "rna", data.kind))
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        scores = {"foscttm_cos": rules.foscttm(*unit), "n_test": len(x)}
        scores |= {f"ms_k{k}": rules.matching_score(x, y, k) for k in (1, 10)}
    else:
        scores = rules.score(data, *data.scatter(everything, z), leiden=True, seed=seed)
    return {
        "data": name, "variant": variant, "seed": seed, "paired_only": paired_only, **scores,
        "epochs": len(model.history["train_loss"]), "components": model.module.inputs.width("rna"),
        "wall_s": wall, "cpu_s": cpu, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    """Run what the command line asks for; append rows to a CSV and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(LABELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--variant", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--dev", action="store_true", help="score pairs held out of the training pairs instead")
    parser.add_argument("--paired-only", action="store_true", help="drop unpaired cells from training")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV to append to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = []
    for name in args.data:
        for variant in args.variant:
            for seed in args.seeds:
                row = run(name, seed, variant, dev=args.dev, paired_only=args.paired_only, epochs=args.epochs)
                rows.append(row)
                print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
                if args.out:
                    pd.DataFrame([row]).to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
    table = pd.DataFrame(rows).drop(columns=["seed"]).groupby(["data", "variant", "paired_only"]).agg(["mean", "std"])
    shown = ["foscttm_cos", "ms_k1", "ms_k10", "lt_rna2other", "lt_other2rna", "cpu_s", "wall_s", "peak_mb"]
    print(table[[c for c in shown if c in table.columns.get_level_values(0)]].round(4).to_string())


if __name__ == "__main__":
    main()
