"""One latent for everything: matching within batches, cell types kept, batches and presence mixed; a method per line.

    python benchmarks/embedding.py --out embedding.csv            # seven tasks, seeds 0-2, every method
    python benchmarks/embedding.py --data pbmc_donor --methods linear_cca --seeds 0

Defaults only, fitted anew on every split; labels and hidden pairs are for the table alone. What the scores mean:
`docs/user_guide/scores.md`. Needs the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from _run import measured, run

from smalti import tl
from smalti.benchmark import TASKS, UNLABELED, Task, load_task
from smalti.model import CLUE, MCA, MODIS

if TYPE_CHECKING:
    from collections.abc import Callable

Latents = dict[str, "np.ndarray"]
"""By name of what is scored: a method may have several latents, such as the blocks of CLUE."""
SHOWN = ("total", "bio", "batch", "presence", "foscttm", "foscttm_depth", "ms10", "transfer", "cpu_s", "peak_mb")


def linear_cca(task: Task, seed: int) -> Latents:
    tl.linear_cca(task.mdata, batch_key=task.batch_key, random_state=seed)
    return {"linear CCA": task.mdata.obsm["X_cca"]}


def linear_joint(task: Task, seed: int) -> Latents:
    tl.linear_joint(task.mdata, batch_key=task.batch_key, random_state=seed)
    return {"linear joint": task.mdata.obsm["X_joint"]}


def clue(task: Task, seed: int) -> Latents:
    CLUE.setup_mudata(task.mdata, task.modalities, batch_key=task.batch_key)
    model = CLUE(task.mdata, random_state=seed)
    model.train(progress=False)
    return blocks_of(model)


def mca(task: Task, seed: int) -> Latents:
    MCA.setup_mudata(task.mdata, task.modalities, batch_key=task.batch_key)
    model = MCA(task.mdata, random_state=seed)
    model.train(progress=False)
    return blocks_of(model)


def modis(task: Task, seed: int) -> Latents:
    """Labels of a tenth of the cells, which is what the model is for."""
    known = np.random.default_rng(seed).random(task.mdata.n_obs) < 0.1
    task.mdata.obs["known"] = np.where(known & ~np.isin(task.labels, UNLABELED), task.labels, "unknown")
    MODIS.setup_mudata(task.mdata, task.modalities, batch_key=task.batch_key, labels_key="known")
    model = MODIS(task.mdata, random_state=seed)
    model.train(progress=False)
    return blocks_of(model)


def blocks_of(model) -> Latents:
    name = type(model).__name__
    return {f"{name}, {block}": model.get_latent_representation(block=block) for block in BLOCKS}


BLOCKS = ("joint", "aligned")
METHODS: dict[str, Callable[[Task, int], Latents]] = {
    "linear_cca": linear_cca,
    "linear_joint": linear_joint,
    "clue": clue,
    "mca": mca,
    "modis": modis,
}
"""From a task and a seed to latents, ``(task.mdata.n_obs, d)``; a further method is a function and a line here."""


def options(parser) -> None:
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))


def rows(args):
    for name in args.data:
        for method in args.methods:
            for seed in args.seeds:
                task = load_task(name, seed)
                with measured() as used:
                    latents = METHODS[method](task, seed)
                for latent, z in latents.items():
                    yield {"data": name, "method": latent, "seed": seed, **task.score(z), **used}


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "method"), seeds=(0, 1, 2), data=tuple(TASKS), options=options, shown=SHOWN)
