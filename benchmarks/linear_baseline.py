"""Score the linear baseline by the mosaic protocol: mean and standard deviation over five splits.

    python benchmarks/linear_baseline.py
    python benchmarks/linear_baseline.py --data snare_mop --components 30

Nothing is tuned on test cells: the number of components is chosen on pairs held out among the paired training cells.
Candidates of all batches are pooled; `embedding.py` scores within batches. Needs the real data sets
(``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

from _run import measured, run

import smalti as sm
from smalti.benchmark import DATASETS, load_data, mosaic_split, pooled_scores

SHOWN = ("foscttm_cos", "ms_k1", "ms_k10", "lt_1to2", "lt_2to1", "components", "wall_s")


def score(name: str, seed: int, n_components: int | None) -> dict:
    """Fit on the training mosaic of one split and score its test cells."""
    data = load_data(name)
    roles = mosaic_split(data, seed)
    mdata = data.training_mudata(roles)
    with measured() as used:
        result = sm.tl.linear_cca(mdata, batch_key="batch", n_components=n_components)
    z = {m: data.scatter(mdata, mdata.obsm[f"X_cca_{m}"])[m] for m in data.modalities}
    return {**pooled_scores(data, roles, z), "components": result.n_components, **used}


def rows(args):
    for name in args.data:
        for seed in args.seeds:
            yield {"data": name, "method": "linear CCA", "seed": seed, **score(name, seed, args.components)}


def options(parser) -> None:
    parser.add_argument("--components", type=int, help="fixed number of components instead of the chosen one")


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "method"), data=tuple(DATASETS), options=options, shown=SHOWN)
