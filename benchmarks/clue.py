"""CLUE on the mosaic protocol: defaults only, fitted anew on every split, scored on pairs it never saw.

    python benchmarks/clue.py                          # three data sets, split seeds 0-4
    python benchmarks/clue.py --data snare_mop --seeds 0 1 2 --variant no_generative
    python benchmarks/clue.py --dev                    # pairs held out of the training pairs, for choosing defaults

Candidates of all batches are pooled; `embedding.py` scores within batches. Needs the real data sets
(``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

from _run import measured, run

from smalti import metrics
from smalti.benchmark import DATASETS, load_data, mosaic_split, pooled_scores
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
SHOWN = ("foscttm_cos", "ms_k1", "ms_k10", "lt_1to2", "lt_2to1", "cpu_s", "wall_s", "peak_mb")


def options(parser) -> None:
    parser.add_argument("--variant", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--dev", action="store_true", help="score pairs held out of the training pairs instead")
    parser.add_argument("--paired-only", action="store_true", help="drop unpaired cells from training")
    parser.add_argument("--epochs", type=int)


def score(name: str, seed: int, variant: str, args) -> dict:
    """Fit once and score."""
    data = load_data(name)
    roles = mosaic_split(data, seed)
    everything = data.training_mudata(roles)
    if args.dev:
        everything = hide_pairs(everything, 0.2, random_state=seed)
    mdata = everything
    if args.paired_only:
        mdata = everything[everything.obs["role"].isin(["paired", "test"]).to_numpy()].copy()
    CLUE.setup_mudata(mdata, batch_key="batch")
    with measured() as used:
        model = CLUE(mdata, random_state=seed, **VARIANTS[variant])
        model.train(max_epochs=args.epochs, progress=False)
    z = model.get_latent_representation(everything if args.paired_only else None, block="aligned")
    if args.dev:
        x, y = (z[rows] for rows in hidden_pairs(everything, *data.modalities))
        scores = {"foscttm_cos": metrics.foscttm(x, y, metric="cosine"), "n_test": len(x)}
        scores |= {f"ms_k{k}": metrics.matching_score(x, y, k=k) for k in (1, 10)}
    else:
        found = data.scatter(everything, z)
        scores = pooled_scores(data, roles, found, joint=found["both"])
    width = model.module.inputs.width(data.modalities[0])
    return {**scores, "epochs": len(model.history["train_loss"]), "components": width, **used}


def rows(args):
    for name in args.data:
        for variant in args.variant:
            for seed in args.seeds:
                what = {"data": name, "variant": variant, "seed": seed, "paired_only": args.paired_only}
                yield {**what, **score(name, seed, variant, args)}


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "variant"), data=tuple(DATASETS), options=options, shown=SHOWN)
