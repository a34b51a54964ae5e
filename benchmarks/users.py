"""What users do after training: new donors, unknown types, prediction sets, filled-in proteins, confidence of matches.

    python benchmarks/users.py --out users.csv                       # every part, seeds 0-2, defaults of CLUE
    python benchmarks/users.py --parts query --donors p1_0 --seeds 0

``query``: a donor of ``pbmc_mosaic`` is left out of training and mapped by ``load_query``, one modality at a time;
accuracy of ``tl.transfer_labels`` beside that of a model which was trained on the donor too (without its labels).
``unseen``: a type of ``pbmc10k_cite`` is left out of the reference; AUROC of the novelty of its cells among a query.
``impute``: proteins of a fifth of the pairs are hidden; share of the true values in the 90 % intervals, and the error
of ``log1p`` beside ridge regression and nearest cells fitted to the same training pairs.
``match``: a fifth of the pairs is hidden; accuracy among the tenth of highest confidence over that of all, and
the mean distance of confidence and accuracy in bins of ``PER_BIN`` cells.
"""

from __future__ import annotations

import numpy as np
from _run import measured, run
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsRegressor

import smalti as sm
from smalti._mudata import build_mudata
from smalti.benchmark import data_folder, load_data
from smalti.benchmark._split import PAIRED, TEST
from smalti.data import presence, row_maps
from smalti.model import CLUE

PARTS = ("query", "unseen", "impute", "match")
DONORS = ("p1_0", "p2_0", "p3_0", "p4_0")
PAIRED_DATA = ("pbmc_mosaic", "pbmc10k5k")
QUERY_SHARE, MIN_CELLS, PER_BIN = 0.3, 30, 20
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def train(mdata, seed: int, batch_key: str | None = "batch") -> CLUE:
    CLUE.setup_mudata(mdata, batch_key=batch_key)
    model = CLUE(mdata, random_state=seed)
    model.train(progress=False, accelerator="cpu")
    return model


def cells_of(mdata, chosen: np.ndarray, modalities=None):
    """Return the chosen cells, with the modalities that any of them has."""
    names = mdata.obs_names[chosen]
    parts = {m: mdata[m][mdata[m].obs_names.isin(names)].copy() for m in modalities or mdata.mod}
    parts = {m: part for m, part in parts.items() if part.n_obs}
    return build_mudata(parts, obs=mdata.obs)


def accuracy(found, truth) -> float:
    return float((found.probabilities.idxmax(axis=1).to_numpy() == truth.astype(str).to_numpy()).mean())


def covered(found, truth) -> float:
    """Return the share of cells of known types whose set holds their label."""
    at = found.sets.columns.get_indexer(truth.astype(str))
    known = np.flatnonzero(at >= 0)
    return float(found.sets.to_numpy()[known, at[known]].mean())


def query_rows(args, seed: int):
    mdata = sm.datasets.pbmc_mosaic()
    batch = mdata.obs["batch"].astype(str).to_numpy()
    whole = train(mdata, seed)
    for donor in args.donors:
        reference = cells_of(mdata, batch != donor)
        model = train(reference, seed)
        for modality in mdata.mod:
            query = cells_of(mdata, batch == donor, [modality])
            if not query.n_obs or not query.mod:
                continue
            options = {"batch_key": "batch"}
            seen = sm.tl.transfer_labels(cells_of(mdata, batch != donor), query, "celltype", model=whole, **options)
            with measured() as used:
                mapped = CLUE.load_query(query, model)
            found = sm.tl.transfer_labels(reference, mapped.adata, "celltype", model=mapped, **options)
            truth = mapped.adata.obs["celltype"]
            row = {"accuracy": accuracy(found, truth), "trained_on": accuracy(seen, query.obs["celltype"])}
            row |= {"sets": covered(found, truth), "unknown": float(found.unknown.mean()), **used}
            yield {"task": f"query {donor}", "method": modality, **row}


def unseen_rows(args, seed: int):
    mdata = sm.data.read(data_folder() / "pbmc10k_cite.h5mu")
    types = mdata.obs["cell_type"].astype(str).to_numpy()
    held = np.random.default_rng(seed).random(mdata.n_obs) < QUERY_SHARE
    query = cells_of(mdata, held)
    for left in [t for t in np.unique(types) if (types == t).sum() >= MIN_CELLS]:
        reference = cells_of(mdata, ~held & (types != left))
        model = train(reference, seed, None)
        mapped = CLUE.load_query(query, model)
        found = sm.tl.transfer_labels(reference, mapped.adata, "cell_type", model=mapped)
        truth = mapped.adata.obs["cell_type"].astype(str)
        row = {"auroc": roc_auc_score(truth == left, found.novelty), "n": int((truth == left).sum())}
        yield {"task": "unseen", "method": left, **row, "sets": covered(found, truth)}


def hidden(name: str, seed: int):
    """Return a training mosaic with a fifth of the pairs hidden, and the two observations of each."""
    data = load_data(name)
    roles = np.array(["" if c else next(m for m in data.modalities if data.measured[m][i])
                      for i, c in enumerate(data.complete)], dtype=object)  # fmt: skip
    order = np.random.default_rng(seed).permutation(np.flatnonzero(data.complete))
    roles[order] = PAIRED
    roles[order[: len(order) // 5]] = TEST
    mdata = data.training_mudata(roles.astype(str))
    found = []
    for modality in data.modalities:
        at = np.flatnonzero((mdata.obs["role"] == TEST) & (mdata.obs["profile"] == modality))
        found.append(at[np.argsort(mdata.obs["row"].to_numpy()[at])])
    return mdata, found


def impute_rows(args, seed: int):
    for name in PAIRED_DATA:
        mdata, (at, other) = hidden(name, seed)
        model = train(mdata, seed)
        with measured() as used:
            filled = model.impute(target="adt")
        maps, names = row_maps(mdata, list(mdata.mod)), mdata.obs_names
        rows = filled.mean.index.get_indexer(names[at])
        good = filled.skill["predictable"].to_numpy()
        low, high, mean = (x.to_numpy()[rows][:, good] for x in (filled.lower, filled.upper, filled.mean))
        truth = mdata["adt"].X[maps["adt"][other]].toarray().astype(float)[:, good]
        inside = (truth >= low) & (truth <= high)
        rival = rivals(model, mdata, at, good)
        errors = {m: float(np.sqrt(((x - np.log1p(truth)) ** 2).mean())) for m, x in rival.items()}
        rmse = float(np.sqrt(((np.log1p(mean) - np.log1p(truth)) ** 2).mean()))
        row = {"covered": float(inside.mean()), "rmse": rmse, **errors, "gain": 1 - rmse / min(errors.values())}
        yield {"task": f"impute {name}", "method": "all", **row, **used}
        batch = mdata.obs["batch"].astype(str).to_numpy()[at]
        for one in np.unique(batch):
            yield {"task": f"impute {name}", "method": one, "covered": float(inside[batch == one].mean())}


def rivals(model: CLUE, mdata, at: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``log1p`` of the proteins by ridge and nearest cells, from RNA components, its library and the batch."""
    cells, maps = model.cell_components(), row_maps(mdata, list(mdata.mod))
    paired = np.flatnonzero(presence(mdata).all(axis=1))
    batch = mdata.obs["batch"].astype(str).to_numpy()
    total = np.log(np.maximum(np.asarray(mdata["rna"].X.sum(axis=1)).ravel(), 1))

    def seen(rows: np.ndarray) -> np.ndarray:
        one_hot = batch[rows][:, None] == np.unique(batch)[None, 1:]
        return np.column_stack([cells.values["rna"][cells.maps["rna"][rows]], total[maps["rna"][rows]], one_hot])

    y = np.log1p(mdata["adt"].X[maps["adt"][paired]].toarray().astype(float)[:, good])
    ridge = RidgeCV(ALPHAS).fit(seen(paired), y).predict(seen(at))
    near = KNeighborsRegressor(15).fit(cells.values["rna"][cells.maps["rna"][paired]], y)
    return {"ridge": ridge, "knn": near.predict(cells.values["rna"][cells.maps["rna"][at]])}


def match_rows(args, seed: int):
    for name in PAIRED_DATA:
        mdata, (at, other) = hidden(name, seed)
        model = train(mdata, seed)
        names = mdata.obs_names
        for source, target, a, b in (("rna", "adt", at, other), ("adt", "rna", other, at)):
            with measured() as used:
                found = sm.tl.match(model, source, target, within="batch").to_frame().loc[names[a]]
            right = found["match"].to_numpy() == names[b].to_numpy()
            sure = found["confidence"].to_numpy()
            order = np.argsort(-sure)
            bins = np.array_split(order, max(len(order) // PER_BIN, 2))
            error = sum(len(i) * abs(sure[i].mean() - right[i].mean()) for i in bins) / len(order)
            top = right[order[: len(order) // 10]].mean()
            row = {
                "right": right.mean(),
                "top_tenth": top,
                "ratio": top / max(right.mean(), 1e-9),
                "reliability": error,
            }
            yield {"task": f"match {name}", "method": f"{source} to {target}", **row, **used}


def rows(args):
    parts = {"query": query_rows, "unseen": unseen_rows, "impute": impute_rows, "match": match_rows}
    for part in args.parts:
        for seed in args.seeds:
            for row in parts[part](args, seed):
                yield {"seed": seed, **row}


def options(parser) -> None:
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--donors", nargs="+", default=list(DONORS), choices=DONORS)


if __name__ == "__main__":
    run(__doc__, rows, by=("task", "method"), seeds=(0, 1, 2), options=options)
