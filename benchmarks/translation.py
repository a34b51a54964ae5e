"""Translation of test pairs: feature means, ridge, nearest neighbours, the decoders of CLUE, and its `translate`.

    python benchmarks/translation.py --out translation.csv      # two data sets, seeds 0-2, both directions
    python benchmarks/translation.py --data pbmc_mosaic --seeds 0

Everything is fitted on the training pairs of the mosaic split and scored on pairs that no method saw as pairs. Values
are compared as `log1p` of counts ("raw") and of counts at the mean library of the training pairs ("normalized").
Needs the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from _run import measured, run
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from smalti import metrics
from smalti.benchmark import PairedData, load_data, mosaic_split
from smalti.data import row_maps
from smalti.model import CLUE

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = ("correlation", "rmse", "total_ratio")
SCALES = {"raw": "log1p", "normalized": "normalized"}
"""From the name of a scale here to that of `translate`."""
PENALTIES, NEIGHBOURS = (1.0, 10.0, 30.0, 100.0, 300.0), 15


class Pairs(NamedTuple):
    """Pairs of one direction."""

    x: np.ndarray
    """Encoder inputs of the source, its log library and its batch."""
    components: np.ndarray
    """Encoder inputs alone."""
    counts: np.ndarray
    """Of the target."""


def pairs_of(model: CLUE, source: str, target: str, sources: np.ndarray, targets: np.ndarray) -> Pairs:
    """Return pairs of observations, at positions of their source and their target."""
    mdata, cells = model.adata, model.cell_components()
    maps, batch = row_maps(mdata, [source, target]), mdata.obs["batch"].to_numpy()
    components = cells.values[source][cells.maps[source][sources]]
    total = np.asarray(mdata[source].X[maps[source][sources]].sum(axis=1)).ravel()
    one_hot = batch[sources][:, None] == np.unique(batch)[None, 1:]
    counts = mdata[target].X[maps[target][targets]].toarray()
    return Pairs(np.column_stack([components, np.log(np.maximum(total, 1)), one_hot]), components, counts)


def as_scale(counts: np.ndarray, scale: str, mean_library: float) -> np.ndarray:
    """Return counts as they are compared."""
    if scale == "normalized":
        counts = counts * mean_library / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts)


def test_pairs(data: PairedData, model: CLUE, source: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the two observations of every test cell."""
    obs = model.adata.obs
    found = []
    for name in (source, target):
        at = np.flatnonzero((obs["role"] == "test") & (obs["profile"] == name))
        found.append(at[np.argsort(obs["row"].to_numpy()[at])])
    return found[0], found[1]


def score(data: PairedData, model: CLUE) -> Iterator[dict]:
    """Return a row for every direction, scale and method."""
    paired = np.flatnonzero(model.adata.obs["role"] == "paired")
    for source, target in (data.modalities, data.modalities[::-1]):
        fit = pairs_of(model, source, target, paired, paired)
        at, other = test_pairs(data, model, source, target)
        test = pairs_of(model, source, target, at, other)
        library = model.module.inputs.mean_log_library[model.module.inputs.position(target)]
        mean_library = float(library.exp())
        near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(fit.components)
        near = near.kneighbors(test.components, return_distance=False)
        expected = model.translate(source, target, indices=at).values
        decoded = model.translate(source, target, indices=at, by="network").values
        total = test.counts.sum()
        ratios = {
            "mean": fit.counts.mean(axis=0).sum() * len(at) / total,
            "kNN": fit.counts[near].mean(axis=1).sum() / total,
            "CLUE decoder": decoded.sum() / total,
            "CLUE translate": expected.sum() / total,
        }
        for scale, ours in SCALES.items():
            y = as_scale(fit.counts, scale, mean_library)
            truth = as_scale(test.counts, scale, mean_library)
            own = model.translate(source, target, indices=at, scale=ours)
            network = model.translate(source, target, indices=at, scale=ours, by="network").values
            centre = fit.x.mean(axis=0)
            predicted = {
                "mean": np.broadcast_to(y.mean(axis=0), truth.shape),
                "ridge": RidgeCV(PENALTIES).fit(fit.x - centre, y).predict(test.x - centre),
                "kNN": y[near].mean(axis=1),
                "CLUE decoder": network,
                "CLUE translate": own.values,
            }
            for method, values in predicted.items():
                yield {
                    "task": f"{data.name}, {source} to {target}, {scale}",
                    "method": method,
                    "correlation": np.nanmean(metrics.translation_error(truth, values, metric="pearson")),
                    "rmse": np.nanmean(metrics.translation_error(truth, values, metric="rmse")),
                    "total_ratio": ratios.get(method, np.nan),
                    "by": own.by if method == "CLUE translate" else "",
                }


def rows(args):
    for name in args.data:
        for seed in args.seeds:
            data = load_data(name)
            mdata = data.training_mudata(mosaic_split(data, seed))
            CLUE.setup_mudata(mdata, batch_key="batch")
            with measured() as used:
                model = CLUE(mdata, random_state=seed)
                model.train(progress=False)
            for row in score(data, model):
                yield {"seed": seed, **row, **used}


if __name__ == "__main__":
    run(__doc__, rows, by=("task", "method"), seeds=(0, 1, 2), data=("pbmc_mosaic", "pbmc10k_cite"), shown=SHOWN)
