"""MODIS on InterSIM: every setting of the paper's table, with the default adversary and with none, as published.

    python benchmarks/modis.py                                     # all settings, seeds 0-2
    python benchmarks/modis.py --settings all rare_1 --seeds 0 --adversary ovr paper

Needs the parameters of the simulator (``SMALTI_DATA_DIR/intersim.npz``).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _intersim_settings import LABELS_KEY, SETTINGS, UNLABELED, class_mean_floor, make_data
from _protocol import data_dir

from smalti import metrics
from smalti.data import Modality
from smalti.model import MODIS

ARMS = {
    "ovr": {},
    "pairwise": {"adversary": "pairwise"},
    "none": {"adversary": "none", "weights": {"alignment": 0.0}},
    "paper": {"preset": "paper-intersim"},
}
"""The default; another game; no alignment, as the published loss amounts to, in our networks; the same in the published
ones, with the published training (300 epochs of about 95 steps unless ``--epochs`` says otherwise)."""


def score(model: MODIS, train, test) -> dict[str, float]:
    """Score on test samples, each of which was measured in one modality."""
    truth = test.obs[LABELS_KEY].astype(str)
    out: dict[str, float] = {}
    views = {name: test.obs_names.isin(test.mod[name].obs_names) for name in model.modalities}
    for rule in ("off", "auto"):
        predicted = model.predict(test, absent_class=rule)
        recalls = [metrics.class_recall(truth[here], predicted[here]) for here in views.values()]
        out[f"bacc_{rule}"] = float(np.mean([recall.mean() for recall in recalls]))
        for name, recall in zip(views, recalls, strict=True):
            out[f"bacc_{rule}_{name}"] = float(recall.mean())
    probabilities = model.predict_proba(test)
    out["ece"] = metrics.expected_calibration_error(probabilities, truth)
    z = model.get_latent_representation(test)
    modality = np.select(list(views.values()), list(views), default="")
    out["knn_modality"] = metrics.modality_decodability(z, modality)
    out["knn_modality_pc"] = metrics.modality_decodability(z, modality, n_components=5)
    floors = class_mean_floor(train, test)
    for target, floor in floors.items():
        spread = np.asarray(train.mod[target].X).std(axis=0)
        real = np.asarray(test.mod[target].X)
        rec = model.translate(target, target, mdata=test).values
        out[f"rec_{target}"] = float(np.mean(((real - rec) / spread) ** 2))
        kinds = truth[test.mod[target].obs_names].to_numpy()
        for source in model.modalities:
            if source != target:
                moved = model.translate(source, target, mdata=test)
                labels = truth[moved.obs_names].to_numpy()
                error = [_expected_error(moved.values[labels == k], real[kinds == k], spread) for k in np.unique(kinds)]
                out[f"trans_{source}_{target}"] = float(np.mean(error)) / floor
    out["trans_max"] = max(v for k, v in out.items() if k.startswith("trans_"))
    return out


def _expected_error(predicted: np.ndarray, real: np.ndarray, spread: np.ndarray) -> float:
    """Mean squared error over all pairs of a predicted and a real sample of one class, standardised."""
    bias = (predicted.mean(axis=0) - real.mean(axis=0)) ** 2
    return float(np.mean((bias + predicted.var(axis=0) + real.var(axis=0)) / spread**2))


def run(setting: str, seed: int, adversary: str, args: argparse.Namespace) -> dict:
    """Fit once and score."""
    everything, test = make_data(data_dir() / "intersim.npz", seed)
    train = SETTINGS[setting](everything, seed)
    MODIS.setup_mudata(
        train,
        {name: Modality(likelihood="gaussian", encoder_input="scaled") for name in train.mod},
        labels_key=LABELS_KEY,
        unlabeled_category=UNLABELED,
    )
    start = time.perf_counter(), time.process_time()
    model = MODIS(train, random_state=seed, **ARMS[adversary])
    model.train(max_epochs=args.epochs, progress=False)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    return {
        "setting": setting, "adversary": adversary, "seed": seed, **score(model, everything, test), "wall_s": wall,
        "cpu_s": cpu, "epochs": len(model.history["train_loss"]),
    }  # fmt: skip


def main() -> None:
    """Run what the command line asks for; append rows to a CSV and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--adversary", nargs="+", default=["ovr", "none"], choices=list(ARMS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV to append to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = []
    for setting in args.settings:
        for adversary in args.adversary:
            for seed in args.seeds:
                row = run(setting, seed, adversary, args)
                rows.append(row)
                print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
                if args.out:
                    pd.DataFrame([row]).to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
    shown = ["bacc_off", "bacc_auto", "knn_modality", "trans_max", "ece", "cpu_s"]
    shown += [c for c in rows[0] if c.startswith("rec_")]
    table = pd.DataFrame(rows).groupby(["setting", "adversary"], sort=False)[shown].agg(["mean", "std"])
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
