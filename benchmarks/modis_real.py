"""MODIS on real data with five labels per class and modality.

    python benchmarks/modis_real.py                      # sln_diagonal and breast_tcga, three and five seeds
    python benchmarks/modis_real.py --data breast_tcga --adversary ovr none

``sln_diagonal``: RNA of one day and protein of another, 35 cell types; scored on all cells without a label. With
``--one-modality`` every second type keeps its labels in one modality only, and recall of these types in the other is
reported. ``breast_tcga``: its own training and test part. ``linear_``: logistic regression of the modality with
the same labels; ``network_``: MODIS without its linear floor. Needs the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import scipy.sparse as sp
from _run import measured, run
from sklearn.linear_model import LogisticRegressionCV
from sklearn.preprocessing import StandardScaler

from smalti import metrics, simulate
from smalti.benchmark import data_folder
from smalti.data import Modality, coalesce_obs, presence
from smalti.model import MODIS

if TYPE_CHECKING:
    import argparse

PUBLISHED = {"adversary": "none", "weights": {"alignment": 0.0}}
N_LABELS = 5


def sln(seed: int, adversary: str, args: argparse.Namespace) -> dict:
    """Unlabelled cells of a diagonal mosaic."""
    mdata = mudata.read(data_folder() / "sln_diagonal.h5mu")
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
    mdata = mudata.read(data_folder() / "breast_tcga.h5mu")
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
    chosen = PUBLISHED if adversary == "none" else {"adversary": adversary}
    with measured() as used:
        model = MODIS(train, random_state=seed, **chosen)
        model.train(max_epochs=args.epochs, progress=False)
    out = {"seed": seed, "adversary": adversary, **used}
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
        out[f"linear_{name}"] = metrics.class_recall(truth[here], rival(train, data, name)[here]).mean()
        shares = dict(model.module.floor.shares)
        model.module.floor.shares = dict.fromkeys(shares, 1.0)
        alone_ = model.predict(data, modality=name, indices=np.flatnonzero(here), absent_class="off")
        out[f"network_{name}"] = metrics.class_recall(truth[here], alone_).mean()
        model.module.floor.shares = shares
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


def rival(train, data, name: str) -> np.ndarray:
    """Logistic regression of one modality with the same labels, ``(data.n_obs,)``; counts are log-normalised."""
    x, y = (features(m, name) for m in (train, data))
    labels = train.obs["label"].loc[train[name].obs_names].astype(str).to_numpy()
    known = labels != "unknown"
    scaler = StandardScaler().fit(x)
    model = LogisticRegressionCV(Cs=[1e-3, 1e-2, 0.1, 1], cv=3, class_weight="balanced", max_iter=500)
    model.fit(np.clip(scaler.transform(x[known]), -10, 10), labels[known])
    out = np.full(data.n_obs, "", dtype=object)
    at = data.obs_names.get_indexer(data[name].obs_names)
    out[at] = model.predict(np.clip(scaler.transform(y), -10, 10))
    return out


def features(mdata, name: str) -> np.ndarray:
    """Values of one modality, counts as log of counts per ten thousand."""
    x = mdata[name].X
    x = np.asarray(x.todense() if sp.issparse(x) else x, dtype=np.float32)
    if x.min() < 0 or (x != np.round(x)).any():
        return x
    return np.log1p(1e4 * x / np.maximum(x.sum(1, keepdims=True), 1))


PARTS = {"sln_diagonal": (sln, 3), "breast_tcga": (breast, 5)}
"""Data set: what is run, and how many seeds."""


def options(parser) -> None:
    parser.add_argument("--adversary", nargs="+", default=["ovr", "none"])
    parser.add_argument("--one-modality", action="store_true", help="label every second type in one modality only")
    parser.add_argument("--epochs", type=int)


def rows(args):
    for name in args.data:
        part, n_seeds = PARTS[name]
        for adversary in args.adversary:
            for seed in args.seeds or range(n_seeds):
                yield {"data": name, **part(seed, adversary, args)}


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "adversary"), seeds=None, data=tuple(PARTS), options=options)
