"""Coordinates from devices that see parts of a square, and pairs of cells found again by charts of real modalities.

    python benchmarks/manifold.py --out manifold.csv                   # the toys, seeds 0-4
    python benchmarks/manifold.py --tasks pbmc --pairs 10 30 100 300   # needs the real data sets (SMALTI_DATA_DIR)

``stress``: squared error of distances over squared distances, whatever the rotation; ``new``: of states the model never
saw; ``m2`` ... ``m20``: median over 30 draws of as many co-observed states, charts as trained, rigid registration.
Baselines lay diffusion maps, UMAP and plain auto-encoders (no white term) over each other by similarity; their unit is
arbitrary, so that theirs is scaled to the truth. ``pbmc`` and ``snare``: one modality is kept of all cells but m pairs;
FOSCTTM of the hidden pairs in the coordinates, beside linear CCA fitted to the same m pairs.
"""

from __future__ import annotations

import numpy as np
from _run import measured, run
from sklearn.manifold import SpectralEmbedding

from smalti import simulate
from smalti.benchmark import load_data
from smalti.metrics import foscttm, stress
from smalti.model import ManifoldWeights, OverlapManifold
from smalti.model.manifold import register_charts
from smalti.pp import LinearCCA

TASKS = ("square", "chain", "few_points", "mismatch", "baselines")
REAL = {"pbmc": ("pbmc_mosaic", 8), "snare": ("snare_mop", 10)}
SHOWN = ("stress", "new", "m2", "m3", "m8", "m20", "scale", "foscttm", "cca", "wall_s")


def fit(mdata, seed: int, *, steps: int | None = None, **arguments):
    OverlapManifold.setup_mudata(mdata)
    given = {"bursts": "given", "burst_key": "burst", "options": {"burst_scale": mdata.uns.get("burst_scale")}}
    model = OverlapManifold(mdata, random_state=seed, **(given | arguments))
    if steps is not None:
        model.default_steps = steps
    model.train(progress=False, accelerator="cpu")
    return model


def by_number(model, truth: np.ndarray, seed: int, n_draws: int = 30) -> dict:
    """Return the median stress with fewer co-observed states, per pair of devices that share some."""
    charts, out = model.centre_charts(), {}
    seen = {name: np.isfinite(z[:, 0]) for name, z in charts.items()}
    names = list(charts)
    for m in (2, 3, 8, 20):
        rng, found = np.random.default_rng(seed), []
        for _ in range(n_draws):
            some = {name: z.copy() for name, z in charts.items()}
            for a, b in zip(names, names[1:], strict=False):
                lost = rng.permutation(np.flatnonzero(seen[a] & seen[b]))[m:]
                some[a][lost[::2]], some[b][lost[1::2]] = np.nan, np.nan
            placed = register_charts(some, registration="rigid", scale_known=True)
            moved = [z @ placed[n].matrix + placed[n].shift for n, z in some.items()]
            found.append(stress(np.nanmean(moved, axis=0), truth))
        out[f"m{m}"] = float(np.median(found))
    return out


def toy_row(task: str, seed: int, steps: int | None) -> dict:
    changes: dict = {"chain": {"n_obs": 1200, "n_devices": 3}, "few_points": {"n_burst": 10}}.get(task, {})
    if task == "mismatch":
        changes = {"mismatch": 1.5, "n_shared": 8}
    mdata = simulate.overlap_charts(**({"n_obs": 1000} | changes), random_state=seed)
    with measured() as used:
        model = fit(mdata, seed, steps=steps)
    new = simulate.overlap_charts(**({"n_obs": 1000} | changes), random_state=seed + 100)
    truth = mdata.obsm["truth"]
    row = {
        "stress": stress(model.get_latent_representation(), truth),
        "new": stress(model.get_latent_representation(new), new.obsm["truth"]),
        "scale": float(model.registration_table()["scale"].iloc[-1]),
        **used,
    }
    return row | (by_number(model, truth, seed) if task != "mismatch" else {})


def scaled(z: np.ndarray, truth: np.ndarray) -> float:
    """Return the stress at the scale that suits the truth best."""
    z = z * np.sqrt(truth.var(axis=0).sum() / z.var(axis=0).sum())
    return stress(z, truth)


def baseline_rows(seed: int, steps: int | None):
    mdata = simulate.overlap_charts(1000, random_state=seed)
    truth = mdata.obsm["truth"]
    import umap

    def placed(reduce) -> np.ndarray:
        charts = {}
        for name, adata in mdata.mod.items():
            z = np.full((mdata.n_obs, 2), np.nan)
            z[mdata.obs_names.get_indexer(adata.obs_names)] = reduce(np.asarray(adata.X))
            charts[name] = z
        found = register_charts(charts, registration="similarity")
        return np.nanmean([z @ found[n].matrix + found[n].shift for n, z in charts.items()], axis=0)

    diffusion = SpectralEmbedding(2, affinity="nearest_neighbors", n_neighbors=15, random_state=seed)
    yield "diffusion maps", scaled(placed(diffusion.fit_transform), truth)
    yield "umap", scaled(placed(umap.UMAP(random_state=seed).fit_transform), truth)
    plain = fit(mdata, seed, steps=steps, weights=ManifoldWeights(white=0), registration="similarity")
    yield "auto-encoder", scaled(plain.get_latent_representation(), truth)


def real_row(task: str, seed: int, m: int, steps: int | None) -> dict:
    name, d = REAL[task]
    data = load_data(name)
    data = data.subset(data.complete)
    rng = np.random.default_rng(seed)
    roles = np.full(data.n_cells, "test", dtype=object)
    roles[rng.permutation(data.n_cells)[:m]] = "paired"
    mdata = data.training_mudata(roles.astype(str))
    with measured() as used:
        model = fit(
            mdata,
            seed,
            steps=steps,
            n_latent=d,
            bursts="neighbours",
            burst_key=None,
            registration="similarity",
            options={},
        )
        z = data.scatter(mdata, model.get_latent_representation())
    values, maps = model.cell_components()
    linear = data.scatter(mdata, LinearCCA(random_state=seed).fit(values, maps).joint(values, maps))
    a, b = data.modalities
    hidden = roles == "test"
    scores = [foscttm(x[a][hidden], x[b][hidden]) for x in (z, linear)]
    return {"foscttm": float(np.mean(scores[0])), "cca": float(np.mean(scores[1])), **used}


def options(parser) -> None:
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=[*TASKS, *REAL])
    parser.add_argument("--pairs", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--steps", type=int, help="steps of training; by default those of the model")


def rows(args):
    for task in args.tasks:
        for seed in args.seeds:
            if task == "baselines":
                for method, value in baseline_rows(seed, args.steps):
                    yield {"task": task, "setting": method, "seed": seed, "stress": value}
            elif task in REAL:
                for m in args.pairs:
                    yield {"task": task, "setting": f"{m} pairs", "seed": seed, **real_row(task, seed, m, args.steps)}
            else:
                yield {"task": task, "setting": "", "seed": seed, **toy_row(task, seed, args.steps)}


if __name__ == "__main__":
    run(__doc__, rows, by=("task", "setting"), options=options, shown=SHOWN)
