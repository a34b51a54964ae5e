"""MODIS on real data with five labels per class and modality.

    python benchmarks/modis_real.py                      # sln_diagonal and breast_tcga, three and five seeds
    python benchmarks/modis_real.py --data breast_tcga --adversary ovr none

``sln_diagonal``: RNA of one day and protein of another, 35 cell types; scored on all cells without a label. With
``--one-modality`` every second type keeps its labels in one modality only, and recall of these types in the other is
reported. ``breast_tcga``: its own training and test part. Needs the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import torch
from _protocol import data_dir

from smalti import metrics, simulate
from smalti.data import Modality, coalesce_obs, presence
from smalti.model import MODIS

PUBLISHED = {"adversary": "none", "weights": {"alignment": 0.0}}
N_LABELS = 5


def sln(seed: int, adversary: str, args: argparse.Namespace) -> dict:
    """Unlabelled cells of a diagonal mosaic."""
    mdata = mudata.read(data_dir() / "sln_diagonal.h5mu")
    mdata.obs["label"] = coalesce_obs(mdata, "cell_type").astype("category")
    kinds = sorted(mdata.obs["label"].cat.categories)
    labels: dict | int = N_LABELS
    if args.one_modality:  # every fourth type is labelled in one modality, every other fourth in the other one
        alone = {kind: list(mdata.mod)[(i // 2) % 2] for i, kind in enumerate(kinds) if i % 2}
        count = {name: mod.obs["cell_type"].value_counts() for name, mod in mdata.mod.items()}
        labels = {
            (kind, name): min(N_LABELS, int(count[name].get(kind, 0))) if alone.get(kind, name) == name else 0
            for kind in kinds
            for name in mdata.mod
        }
    train = simulate.degrade(mdata, labels=labels, labels_key="label", random_state=seed)
    MODIS.setup_mudata(train, labels_key="label")
    return fit(train, seed, adversary, args, alone if args.one_modality else {})


def breast(seed: int, adversary: str, args: argparse.Namespace) -> dict:
    """The test part of a paired mosaic."""
    mdata = mudata.read(data_dir() / "breast_tcga.h5mu")
    test = (mdata.obs["split"] == "test").to_numpy()
    train = simulate.drop(mdata, np.repeat(~test[:, None], mdata.n_mod, axis=1))
    train.obs["label"] = train.obs["subtype"].astype("category")
    train = simulate.degrade(train, labels=N_LABELS, labels_key="label", random_state=seed)
    held_out = mudata.MuData(
        {
            name: mod[mod.obs_names.isin(mdata.obs_names[test])].copy()
            for name, mod in mdata.mod.items()
            if mod.obs_names.isin(mdata.obs_names[test]).any()
        }
    )
    held_out.obs["label"] = mdata.obs["subtype"].loc[held_out.obs_names]
    specs = {name: Modality(likelihood="gaussian", encoder_input="scaled") for name in train.mod}
    MODIS.setup_mudata(train, specs, labels_key="label")
    return fit(train, seed, adversary, args, {}, held_out)


def fit(train, seed: int, adversary: str, args: argparse.Namespace, alone: dict[str, str], test=None) -> dict:
    """Train, and score every modality on its own."""
    start = time.process_time()
    chosen = PUBLISHED if adversary == "none" else {"adversary": adversary}
    model = MODIS(train, random_state=seed, **chosen)
    model.train(max_epochs=args.epochs, progress=False)
    out = {"seed": seed, "adversary": adversary, "cpu_s": time.process_time() - start}
    data = train if test is None else test
    truth = data.obs["true_label" if test is None else "label"].astype(str)
    hidden = (train.obs["label"] == "unknown").to_numpy() if test is None else np.ones(data.n_obs, dtype=bool)
    for name in model.modalities:
        here = presence(data, [name])[:, 0] & hidden if name in data.mod else np.zeros(data.n_obs, dtype=bool)
        if not here.any():
            continue
        predicted = model.predict(data, modality=name, indices=np.flatnonzero(here), absent_class="off")
        recall = metrics.class_recall(truth[here], predicted)
        out[f"bacc_{name}"] = recall.mean()
        probabilities = model.predict_proba(data, modality=name, indices=np.flatnonzero(here))
        out[f"ece_{name}"] = metrics.expected_calibration_error(probabilities, truth[here])
        unseen = [kind for kind, where in alone.items() if where != name and kind in recall.index]
        if unseen:
            predicted = model.predict(data, modality=name, indices=np.flatnonzero(here))
            with_rule = metrics.class_recall(truth[here], predicted)
            for rule, found in (("off", recall), ("auto", with_rule)):
                out[f"unseen_{name}_{rule}"] = found[unseen].mean()
                out[f"seen_{name}_{rule}"] = found.drop(unseen).mean()
    return out


def main() -> None:
    """Run what the command line asks for; append rows to a CSV and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["sln_diagonal", "breast_tcga"])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--adversary", nargs="+", default=["ovr", "none"])
    parser.add_argument("--one-modality", action="store_true", help="label every second type in one modality only")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV to append to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in args.data:
        rows = []
        for adversary in args.adversary:
            for seed in args.seeds or range(3 if name == "sln_diagonal" else 5):
                rows.append({"data": name, **(sln if name == "sln_diagonal" else breast)(seed, adversary, args)})
                print(
                    json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}), flush=True
                )
                if args.out:
                    pd.DataFrame(rows[-1:]).to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
        table = pd.DataFrame(rows).drop(columns=["seed", "data"]).groupby("adversary", sort=False).agg(["mean", "std"])
        print(name, table.round(3).T.to_string(), sep="\n")


if __name__ == "__main__":
    main()
