"""CLUE on planted factors: matching against the share of paired cells, a negative control, and ablations.

    python benchmarks/simulator.py --seeds 0 1 2

Cells are Gaussian views of shared and private factors. A fifth of the cells is set aside as pairs that no model sees
as pairs; FOSCTTM (cosine) is that of these cells. Ablations switch off one term of the objective and score both the
aligned block and, without the contrastive term, the full latent, where the terms of the paper do the work.
"""

from __future__ import annotations

import numpy as np
from _run import run

from smalti import simulate
from smalti.data import presence
from smalti.metrics import foscttm, recall_at_k
from smalti.model import CLUE
from smalti.tl import linear_cca

ABLATIONS: dict[str, dict[str, float]] = {
    "full": {},
    "no cross and joint": {"cross": 0.0, "joint": 0.0},
    "no agreement": {"agreement": 0.0},
    "no adversary": {"adversarial": 0.0},
    "no cross, joint, agreement": {"cross": 0.0, "joint": 0.0, "agreement": 0.0},
}
NO_GENERATIVE = dict.fromkeys(("data", "kl", "joint", "cross", "agreement"), 0.0)
PAPER_TERMS = {"contrastive": 0.0, "adversarial": 0.02, "joint": 0.5, "cross": 0.5, "agreement": 0.5}


def make(seed: int, paired: float, *, views: int, shuffle: bool = False):
    """A mosaic with the given share of pairs, and the rows of the halves of each hidden pair."""
    truth = simulate.factor_views(3000, n_features=(200,) * views, noise=2.0, n_clusters=6, random_state=seed)
    mdata = simulate.mosaic(simulate.hide_pairs(truth, 0.2, random_state=seed), paired=paired, random_state=seed)
    first, second = list(mdata.mod)[:2]
    if shuffle:  # training pairs only: the hidden ones keep their true partners
        cells = mdata.obs_names[presence(mdata).all(axis=1)]
        rows = mdata.mod[second].obs_names.get_indexer(cells)
        mdata.mod[second].X[rows] = mdata.mod[second].X[np.random.default_rng(seed).permutation(rows)]
    return mdata, simulate.hidden_pairs(mdata, first, second)


def score(z, rows) -> dict[str, float]:
    """FOSCTTM and recall of the hidden pairs."""
    x, y = z[rows[0]], z[rows[1]]
    return {"foscttm": foscttm(x, y, metric="cosine"), "recall@10": recall_at_k(x, y, k=(10,), metric="cosine")[10]}


def fit(mdata, seed: int, weights: dict[str, float], block: str | None = None):
    """Train with the given weights and return the latent."""
    CLUE.setup_mudata(mdata)
    model = CLUE(mdata, weights=weights, random_state=seed)
    model.train(progress=False)
    return model.get_latent_representation(block=block)


def options(parser) -> None:
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))


def fraction(seed: int, views: int):
    """The share of paired cells falls to nothing."""
    for paired in (1.0, 0.5, 0.2, 0.05, 0.0):
        mdata, pairs = make(seed, paired, views=views)
        weights = {} if paired else {"contrastive": 0.0, "adversarial": 0.02}
        yield "CLUE", f"paired {paired:g}", score(fit(mdata, seed, weights), pairs)
        if paired:
            linear_cca(mdata)
            yield "linear CCA", f"paired {paired:g}", score(mdata.obsm["X_cca"], pairs)


def control(seed: int, views: int):
    """Training pairs are shuffled."""
    mdata, pairs = make(seed, 1.0, views=views, shuffle=True)
    yield "CLUE", "shuffled pairs", score(fit(mdata, seed, {}), pairs)


def ablation(seed: int, views: int):
    """Terms are switched off, one at a time."""
    mdata, pairs = make(seed, 0.5, views=views)
    for name, off in ABLATIONS.items():
        z = fit(mdata, seed, {**PAPER_TERMS, **off}, "full")
        yield "full latent, no contrastive term", name, score(z, pairs)
    for name, off in {"full": {}, "no generative terms": NO_GENERATIVE}.items():
        yield "aligned block", name, score(fit(mdata, seed, off), pairs)


PARTS = {part.__name__: part for part in (fraction, control, ablation)}


def rows(args):
    for seed in args.seeds:
        for part in args.parts:
            for what, setting, scores in PARTS[part](seed, args.views):
                yield {"what": what, "setting": setting, "seed": seed, **scores}


if __name__ == "__main__":
    run(__doc__, rows, by=("what", "setting"), seeds=(0, 1, 2), options=options)
