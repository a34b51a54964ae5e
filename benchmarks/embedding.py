"""One latent for everything: matching within batches, cell types kept, batches and presence mixed; a method per line.

    python benchmarks/embedding.py --out embedding.csv            # seven tasks, seeds 0-2, every method
    python benchmarks/embedding.py --data pbmc_donor --methods linear_cca --seeds 0

Defaults only, fitted anew on every split; labels and hidden pairs are for the table alone. What the scores mean:
`docs/user_guide/scores.md`. Needs the real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
from _run import measured, run

from smalti import tl
from smalti.benchmark import TASKS, UNLABELED, Task, data_folder, load_task
from smalti.model import CLUE, MCA, MODIS, UnpairedCCA

if TYPE_CHECKING:
    from collections.abc import Callable

    from smalti.benchmark import PairedData

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


def unpaired(task: Task, seed: int) -> Latents:
    """All pairs hidden: two profiles of every cell, and links of features where the data name genes."""
    first, second = task.data.modalities
    hidden = task.data.training_mudata(np.where(task.roles == "paired", "test", task.roles))
    UnpairedCCA.setup_mudata(hidden, task.modalities, batch_key=task.batch_key)
    model = UnpairedCCA(hidden, links=gene_links(task.data), random_state=seed)
    model.train(progress=False)
    rows = task.mdata.obs["row"].to_numpy(int)
    found = {}
    for block in BLOCKS:
        z = task.data.scatter(hidden, model.get_latent_representation(block=block))
        found[f"UnpairedCCA, {block}"] = np.nanmean([z[first][rows], z[second][rows]], axis=0)
        for name in (first, second):  # what was one profile before stays one
            alone = task.profile == name
            found[f"UnpairedCCA, {block}"][alone] = z[name][rows[alone]]
    return found


def gene_links(data: PairedData) -> pd.DataFrame | None:
    """A row per feature of the second modality whose gene the first has; none where the file names no genes."""
    first, second = data.modalities
    var = read_var(data.name, second)
    if "gene" not in var:
        return None
    gene = var["gene"].reindex(data.features[second]).astype(str).to_numpy()
    known = np.isin(gene, data.features[first])
    return pd.DataFrame({first: gene[known], second: data.features[second][known]})


def read_var(name: str, modality: str) -> pd.DataFrame:
    """Annotation of the features of a modality; data sets made of two files have that of the first."""
    file = {"pbmc10k5k": "pbmc10k_cite", "sln_bridge": "sln_paired"}.get(name, name)
    return mudata.read_h5ad(data_folder() / f"{file}.h5mu", modality).var


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
    "unpaired": unpaired,
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
