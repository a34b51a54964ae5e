"""Clusters from paired cells: FusionClustering and its stages beside what is done without it, a method per line.

    python benchmarks/fusion.py --out fusion.csv                         # three data sets, seeds 0-2, every method
    python benchmarks/fusion.py --data pbmc_mosaic --methods fusion stage1
    python benchmarks/fusion.py --half                                   # half of the cells keep one modality

Cells measured in both modalities; the number of clusters is that of the types with at least 30 cells, which alone are
scored (``fusion_k`` chooses its own). Components are those that the models see, centred per batch; nothing looks at
labels but the scores. ``batch_entropy``: of batches in clusters, relative to that of all cells, mean over cells.
``auroc_entropy``, ``auroc_agreement``: how well cells outside their type's cluster are told by the entropy of their
probabilities, and by how far modalities agree. Needs the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import igraph
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _run import measured, run
from _wnn import weighted_neighbors
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, roc_auc_score
from sklearn.neighbors import kneighbors_graph

from smalti import simulate
from smalti.benchmark import UNLABELED, load_data
from smalti.model import CLUE, FusionClustering
from smalti.model.fusion import joint_clusters, joint_latent
from smalti.model.parts import CellComponents
from smalti.pp import LinearCCA

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

DATA = ("pbmc_mosaic", "pbmc10k_cite", "snare_mop")
MIN_CELLS = 30
SHOWN = ("ari", "nmi", "acc", "single_acc", "k", "batch_entropy", "auroc_entropy", "auroc_agreement", "wall_s")
BEFORE = {"options": {"start": "graph"}, "weights": {"pseudo": 1.0, "start": 0.0}}
VARIANTS: dict[str, dict] = {
    "fusion": {},
    "fusion_k": {"n_clusters": None},
    "stage1": {"options": {"stages": (1.0, 1.0)}},
    "consistency": {"weights": {"start": 0.0, "consistency": 1.0}},
    "pseudo": {"weights": {"pseudo": 1.0}},
    "pseudo_alone": {"weights": {"pseudo": 1.0, "start": 0.0}},
    "permuted": {"weights": {"pseudo": 1.0, "permuted": 1.0}},
    "before": BEFORE,
    "paper": {
        "options": {"balance": "equal", "start": "kmeans"},
        "weights": {"agreement": 0.0, "pseudo": 1.0, "permuted": 1.0},
    },
}
"""Arguments of FusionClustering beyond the number of clusters."""


class Case:
    """Data of one run, with what several methods need."""

    def __init__(self, name: str, seed: int, half: bool) -> None:
        data = load_data(name)
        data = data.subset(data.complete)
        labels = data.labels.astype(str)
        count = pd.Series(labels).value_counts()
        frequent = [c for c in count.index if count[c] >= MIN_CELLS and c not in UNLABELED]
        self.scored = np.isin(labels, frequent)
        self.labels, self.batch, self.k, self.seed = labels, data.batch.astype(str), len(frequent), seed
        mdata = data.training_mudata(np.full(data.n_cells, "paired"))
        order = mdata.obs["row"].to_numpy(int)
        self.scored, self.labels, self.batch = self.scored[order], self.labels[order], self.batch[order]
        if half:
            rng = np.random.default_rng(seed)
            keep = np.ones((mdata.n_obs, 2), dtype=bool)
            one = rng.random(mdata.n_obs) < 0.5
            keep[np.flatnonzero(one), rng.integers(0, 2, one.sum())] = False
            names = mdata.obs_names
            mdata = simulate.drop(mdata, keep)
            at = names.get_indexer(mdata.obs_names)
            self.scored, self.labels, self.batch = self.scored[at], self.labels[at], self.batch[at]
        self.mdata: MuData = mdata
        self.likelihoods = data.likelihoods
        self.keys = {"batch_key": "batch"} if len(set(self.batch)) > 1 else {}
        self.half = half

    def model(self, cls, **arguments):
        cls.setup_mudata(self.mdata, self.likelihoods, **self.keys)
        return cls(self.mdata, random_state=self.seed, **arguments)

    def inputs(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the components that encoders see."""
        return self.model(FusionClustering, n_clusters=self.k).cell_components()

    def views(self) -> list[np.ndarray]:
        """Return components in the order of cells; zero, the mean, where a modality is absent."""
        values, maps = self.inputs()
        return [np.where((maps[m] >= 0)[:, None], x[maps[m]], 0.0) for m, x in values.items()]

    def concatenated(self) -> np.ndarray:
        """Return components side by side, each modality of total variance 1."""
        return np.hstack([x / np.sqrt(x.var(axis=0).sum()) for x in self.views()])

    def harmony(self) -> np.ndarray:
        """Return the same after Harmony."""
        z = self.concatenated()
        if not self.keys:
            return z
        import harmonypy

        found = harmonypy.run_harmony(z, pd.DataFrame({"b": self.batch}), "b", random_state=self.seed, verbose=False)
        fixed = np.asarray(found.Z_corr)
        return fixed.T if fixed.shape[0] != len(z) else fixed


def kmeans(z: np.ndarray, case: Case) -> np.ndarray:
    return KMeans(case.k, n_init=10, random_state=case.seed).fit_predict(z)


def leiden(graph: sp.csr_matrix, case: Case) -> np.ndarray:
    """Return Leiden clusters at the resolution that gives the number of clusters nearest to the wanted one."""
    upper = sp.triu(graph.maximum(graph.T)).tocoo()
    g = igraph.Graph(n=graph.shape[0], edges=np.column_stack([upper.row, upper.col]).tolist())
    low, high, best = 0.01, 4.0, None
    for _ in range(14):
        middle = (low * high) ** 0.5
        igraph.set_random_number_generator(random.Random(case.seed))
        found = np.asarray(g.community_leiden("modularity", resolution=middle, n_iterations=4).membership)
        n = int((np.bincount(found) >= 5).sum())  # stray cells are no cluster
        if best is None or abs(n - case.k) < best[0]:
            best = (abs(n - case.k), found)
        if n == case.k:
            break
        low, high = (middle, high) if n < case.k else (low, middle)
    return best[1]


def knn(z: np.ndarray) -> sp.csr_matrix:
    return kneighbors_graph(z, 15)


def clue(case: Case) -> np.ndarray:
    model = case.model(CLUE)
    model.train(progress=False, accelerator="cpu")
    return model.get_latent_representation()


def cca(case: Case) -> np.ndarray:
    values, maps = case.inputs()
    return LinearCCA(random_state=case.seed).fit(values, maps).joint(values, maps)


def joint_communities(case: Case) -> np.ndarray:
    """Return what FusionClustering starts from, without a network."""
    space = joint_latent(CellComponents(*case.inputs()), case.batch, case.seed)
    return joint_clusters(space, case.k, case.seed)


BASELINES: dict[str, Callable[[Case], np.ndarray]] = {
    "kmeans": lambda case: kmeans(case.concatenated(), case),
    "leiden": lambda case: leiden(knn(case.concatenated()), case),
    "harmony_kmeans": lambda case: kmeans(case.harmony(), case),
    "harmony_leiden": lambda case: leiden(knn(case.harmony()), case),
    "wnn_leiden": lambda case: leiden(weighted_neighbors(case.views()), case),
    "cca_kmeans": lambda case: kmeans(cca(case), case),
    "cca_leiden": lambda case: leiden(knn(cca(case)), case),
    "joint_communities": joint_communities,
    "clue_leiden": lambda case: leiden(knn(clue(case)), case),
}


def scores(case: Case, clusters: np.ndarray) -> tuple[dict, np.ndarray]:
    """Return scores on cells of frequent types, and which of them are outside of their type's cluster."""
    rows = case.scored
    truth, found = case.labels[rows], pd.factorize(np.asarray(clusters)[rows])[0]
    table = pd.crosstab(truth, found)
    first, second = linear_sum_assignment(-table.to_numpy())
    name = dict(zip(second, table.index[first], strict=True))
    wrong = np.array([name.get(c) != t for c, t in zip(found, truth, strict=True)])
    batch = pd.crosstab(np.asarray(clusters), case.batch).to_numpy(float)
    share = batch / batch.sum(axis=1, keepdims=True)
    overall = batch.sum(axis=0) / batch.sum()
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(axis=1) @ (batch.sum(axis=1) / batch.sum())
    whole = -(overall * np.log(overall)).sum()
    return {
        "ari": adjusted_rand_score(truth, found),
        "nmi": normalized_mutual_info_score(truth, found),
        "acc": 1 - wrong.mean(),
        "k": len(np.unique(clusters)),
        "batch_entropy": entropy / whole if whole > 0 else np.nan,
    }, wrong


def fusion_rows(case: Case, variant: str) -> dict:
    arguments = {"n_clusters": case.k, **VARIANTS[variant]}
    with measured() as used:
        model = case.model(FusionClustering, **arguments)
        model.train(progress=False, accelerator="cpu")
        p = model.predict_proba().to_numpy()
    found, wrong = scores(case, p.argmax(axis=1))
    single = []
    for column in model.predict_by_modality().to_numpy().T:
        known = pd.notna(column)
        part = Case.__new__(Case)
        part.scored, part.labels, part.batch = case.scored[known], case.labels[known], case.batch[known]
        single.append(scores(part, column[known].astype(str))[0]["acc"])
    agreement, rows = model.agreement().to_numpy()[case.scored], case.scored
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)[rows]
    known = np.isfinite(agreement)
    if 0 < wrong.sum() < len(wrong):
        found["auroc_entropy"] = roc_auc_score(wrong, entropy)
        found["auroc_agreement"] = roc_auc_score(wrong[known], -agreement[known])
    return {**found, "single_acc": float(np.mean(single)), **used}


def options(parser) -> None:
    every = [*BASELINES, *VARIANTS]
    parser.add_argument("--methods", nargs="+", default=every, choices=every)
    parser.add_argument("--half", action="store_true", help="take one modality from half of the cells")


def rows(args):
    for name in args.data:
        for seed in args.seeds:
            case = Case(name, seed, args.half)
            for method in args.methods:
                if method in VARIANTS:
                    found = fusion_rows(case, method)
                else:
                    with measured() as used:
                        clusters = BASELINES[method](case)
                    found = {**scores(case, clusters)[0], **used}
                yield {"data": name + (" half" if args.half else ""), "method": method, "seed": seed, **found}


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "method"), seeds=(0, 1, 2), data=DATA, options=options, shown=SHOWN)
