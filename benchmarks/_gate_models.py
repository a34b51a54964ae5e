"""Rows of the benchmark of gates that train models or need real data."""

from __future__ import annotations

import time

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _gate_data import f1
from anndata import AnnData
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from smalti import metrics, select, simulate
from smalti._mudata import no_pull
from smalti.benchmark import data_folder
from smalti.model import CLUE
from smalti.nn import CountsInput, FeatureGate, SparseRows

Scores = dict[str, float]
RNA, ATAC = {"likelihood": "nb"}, {"likelihood": "bernoulli"}


def read(name: str, quick: bool, seed: int):
    mdata = mudata.read(data_folder() / f"{name}.h5mu")
    if quick:
        keep = np.sort(np.random.default_rng(seed).choice(mdata.n_obs, min(600, mdata.n_obs), replace=False))
        mdata = mdata[keep].copy()
    return mdata


def take(mdata, modality: str, columns: np.ndarray):
    """The same cells with some variables of a modality."""
    with no_pull():
        mods = {m: a[:, columns].copy() if m == modality else a for m, a in mdata.mod.items()}
        out = mudata.MuData(mods)[mdata.obs_names].copy()
    out.obs = mdata.obs.copy()
    return out


def fit(mdata, spec, seed: int, quick: bool) -> tuple[CLUE, np.ndarray, float]:
    CLUE.setup_mudata(mdata, spec, batch_key="batch" if "batch" in mdata.obs else None)
    model = CLUE(mdata, random_state=seed)
    start = time.process_time()
    model.train(max_epochs=2 if quick else None, early_stopping=False, progress=False)
    seconds = time.process_time() - start
    return model, model.get_latent_representation(block="aligned"), seconds / len(model.history["train_loss"])


def clue_global(seed: int, quick: bool) -> Scores:
    """A fifth of the regions: gated, the most variable, random ones, and none closed."""
    mdata = simulate.hide_pairs(read("snare_mop", quick, seed), 0.2, random_state=seed)
    rows = simulate.hidden_pairs(mdata, "rna", "atac")
    mean = np.asarray(mdata["atac"].X.mean(axis=0)).ravel()
    k = round(0.2 * len(mean))
    most = np.sort(np.argsort(-mean * (1 - np.minimum(mean, 1)))[:k])
    some = np.sort(np.random.default_rng(seed).choice(len(mean), k, replace=False))

    def score(z: np.ndarray) -> float:
        return metrics.foscttm(z[rows[0]], z[rows[1]], metric="cosine")

    _, z, plain_s = fit(mdata, {"rna": RNA, "atac": ATAC}, seed, quick)
    scores = {"ungated": score(z)}
    gated = {**ATAC, "gate": "global", "gate_keep": 0.2}
    model, z, gated_s = fit(mdata, {"rna": RNA, "atac": gated}, seed, quick)
    chosen = np.flatnonzero(model.get_gates("atac")["selected"])
    scores |= {"gated": score(z), "n_selected": len(chosen), "overlap_variable": len(np.intersect1d(chosen, most)) / k}
    scores["time_ratio"] = gated_s / plain_s
    for name, columns in (("selected", chosen), ("variable", most), ("random", some)):
        _, z, seconds = fit(take(mdata, "atac", columns), {"rna": RNA, "atac": ATAC}, seed, quick)
        scores[f"{name}_only"] = score(z)
        if name == "selected":
            scores["time_ratio_selected"] = seconds / plain_s
    return scores


def clue_regions(seed: int, quick: bool) -> Scores:
    """Gates of the regions of a gene."""
    mdata = simulate.hide_pairs(read("snare_mop", quick, seed), 0.2, random_state=seed)
    rows = simulate.hidden_pairs(mdata, "rna", "atac")
    gated = {**ATAC, "gate": "group", "gate_groups": "gene", "gate_keep": 0.2}
    model, z, _ = fit(mdata, {"rna": RNA, "atac": gated}, seed, quick)
    table = model.get_gates("atac")
    open_ = table["selected"].to_numpy()
    return {
        "gated": metrics.foscttm(z[rows[0]], z[rows[1]], metric="cosine"),
        "n_regions": int(open_.sum()),
        "n_genes": int(table.loc[open_, "gate_group"].nunique()),
    }


def planted_groups(seed: int, quick: bool) -> Scores:
    """Real regions permuted over cells within each gene's set, but for a tenth of the genes, which follow types."""
    mdata = read("snare_mop", True, seed) if quick else read("snare_mop", False, seed)
    gene = mdata["atac"].var["gene"].astype(str).to_numpy()
    rng = np.random.default_rng(seed)
    counts = pd.Series(gene).value_counts()
    genes = counts.index[(counts >= 3) & (counts <= 30)].to_numpy(object)
    genes = rng.choice(genes, min(300, len(genes)), replace=False)
    true = set(genes[: len(genes) // 10])
    columns = np.flatnonzero(np.isin(gene, genes))
    n = min(2000, mdata.n_obs)
    z = rng.standard_normal((n, 3))
    factor = {g: rng.integers(3) for g in genes}
    x = rng.standard_normal((n, len(columns))).astype(np.float32)
    is_true = np.isin(gene[columns], list(true))
    own = np.array([factor[g] for g in gene[columns]])
    x[:, is_true] = 0.7 * z[:, own[is_true]] + 0.7 * x[:, is_true]
    from _gate_data import mosaic

    planted = mosaic(a=x, b=rng.standard_normal((n, 3)))
    planted["a"].var["gene"] = gene[columns]
    found = select.group_fs(planted, "a", groups="gene", random_state=seed, options={"n_steps": 10 if quick else 300})
    table = found.groups["a"]
    return {
        "f1_features": f1(found.tables["a"]["selected"].to_numpy(), np.flatnonzero(is_true)),
        "f1_groups": f1(table["selected"].to_numpy(), np.flatnonzero(np.isin(table.index, list(true)))),
    }


def ari(z: np.ndarray, labels: pd.Series, seed: int) -> float:
    known = labels.notna().to_numpy() & np.isfinite(z).all(axis=1)
    codes = KMeans(labels.nunique(), n_init=3, random_state=seed).fit_predict(z[known])
    return adjusted_rand_score(labels[known].astype(str), codes)


def pbmc_closed(seed: int, quick: bool) -> Scores:
    """At least half of the genes closed."""
    mdata = simulate.hide_pairs(read("pbmc10k_cite", quick, seed), 0.2, random_state=seed)
    rows = simulate.hidden_pairs(mdata, "rna", "adt")
    scores = {}
    for name, rna in (("ungated", RNA), ("gated", {**RNA, "gate": "global", "gate_keep": 0.4})):
        _, z, seconds = fit(mdata, {"rna": rna, "adt": {"likelihood": "nb"}}, seed, quick)
        scores[f"foscttm_{name}"] = metrics.foscttm(z[rows[0]], z[rows[1]], metric="cosine")
        scores[f"ari_{name}"] = ari(z, mdata.obs["cell_type"], seed)
        scores[f"epoch_s_{name}"] = seconds
    return scores


def with_permuted(mdata, seed: int):
    """The same mosaic and 500 genes whose values are permuted over cells."""
    rng = np.random.default_rng(seed)
    x = sp.csc_matrix(mdata["rna"].X)
    added = x[:, rng.choice(x.shape[1], 500, replace=False)].copy()
    for j in range(500):
        part = slice(added.indptr[j], added.indptr[j + 1])
        added.indices[part] = rng.choice(x.shape[0], part.stop - part.start, replace=False)
    added.has_sorted_indices = False
    rna = AnnData(sp.csr_matrix(sp.hstack([x, added])))
    rna.obs_names = mdata["rna"].obs_names
    rna.var_names = [*mdata["rna"].var_names, *(f"permuted_{j}" for j in range(500))]
    with no_pull():
        more = mudata.MuData({**mdata.mod, "rna": rna})
    more.obs = mdata.obs.loc[more.obs_names].copy()
    return more


def pbmc_nuisance(seed: int, quick: bool) -> Scores:
    """500 permuted genes are added; a tenth and two fifths of the genes stay."""
    mdata = read("pbmc10k_cite", quick, seed)
    more = with_permuted(mdata, seed)
    scores = {}
    for share in (0.1, 0.4):
        keep = round(share * mdata["rna"].n_vars)
        spec = {"rna": {**RNA, "gate": "global", "gate_keep": keep}, "adt": {"likelihood": "nb"}}
        before, after = (fit(data, spec, seed, quick)[0].get_gates("rna")["selected"] for data in (mdata, more))
        n = len(before)
        a, b = set(before.index[before]), set(after.index[:n][after.iloc[:n]])
        scores |= {f"permuted_{share}": float(after.iloc[n:].mean()), f"overlap_{share}": len(a & b) / max(len(a), 1)}
    return scores


def pbmc_support(seed: int, quick: bool) -> Scores:
    """How many genes are supported when 500 permuted ones are added and two fifths are kept?"""
    mdata = with_permuted(read("pbmc_mosaic", quick, seed), seed)
    spec = {name: {} for name in mdata.mod} | {"rna": {**RNA, "gate": "global", "gate_keep": 0.4}}
    model, _, _ = fit(mdata, spec, seed, quick)
    selected = model.get_gates("rna")["selected"].to_numpy()
    start = time.process_time()
    support = model.gate_support("rna")
    seconds = time.process_time() - start
    both = support.supported & selected
    return {
        "n_supported": support.n_supported,
        "false_share": float(support.supported[-500:].sum() / max(support.n_supported, 1)),
        "false_of_selected": float(selected[-500:].sum() / selected.sum()),
        "false_of_both": float(both[-500:].sum() / max(both.sum(), 1)),
        "supported_of_real": float(support.supported[:-500].mean()),
        "n_selected": int(selected.sum()),
        "n_both": int(both.sum()),
        "cpu_support": seconds,
    }


def cll(seed: int, quick: bool) -> Scores:
    """Which mutations do drug responses know? Of two of them, the canonical pair and whether they lead it."""
    mdata = read("cll", False, seed)
    names = [name for name in mdata.mod if "mut" in name.lower()] or [list(mdata.mod)[-1]]
    other = next(name for name in mdata.mod if name != names[0])
    with no_pull():
        parts = {}
        for name in (other, names[0]):
            adata = mdata.mod[name].copy()
            x = np.asarray(adata.X.todense()) if hasattr(adata.X, "todense") else np.asarray(adata.X, dtype=float)
            x = np.where(np.isfinite(x), x, np.nanmean(x, axis=0, keepdims=True))
            adata.X = np.nan_to_num(x).astype(np.float32)
            parts[name] = adata
        data = mudata.MuData(parts)
    select.sparse_cca(data, (other, names[0]), n_components=3, random_state=seed, n_steps=20 if quick else 1500)
    var = data[names[0]].var
    scores = {}
    for key in ("ighv", "trisomy12"):
        row = next(var.loc[name] for name in var.index if key in name.lower())
        in_pair = var["weight"].abs()[(var["component"] == row["component"]).to_numpy()]
        leads = bool(row["selected"]) and abs(row["weight"]) == in_pair.max()
        scores |= {f"pair_{key}": float(row["component"]), f"leads_{key}": float(leads)}
    return {**scores, "selected": float(var["selected"].sum())}


def speed(seed: int, quick: bool) -> Scores:
    """Milliseconds per step of an input layer of 20,000 features, 128 cells and 5 % stored values, and of a network."""
    torch.manual_seed(seed)
    b, d, nnz = 128, 20_000, 1000
    rows = SparseRows(torch.arange(b + 1) * nnz, torch.randint(d, (b * nnz,)), torch.ones(b * nnz))
    layer, gate, batch = CountsInput(d, 128, log=True), FeatureGate(d, penalty=1e-4), torch.zeros(b, dtype=torch.int64)
    head = torch.nn.Sequential(torch.nn.GELU(), torch.nn.Linear(128, 128), torch.nn.GELU(), torch.nn.Linear(128, d))
    parameters = [*layer.parameters(), *head.parameters()]
    out = {}
    for name, used in (("plain", None), ("gated", gate)):
        groups = [{"params": parameters}] + ([] if used is None else [{"params": list(used.parameters()), "lr": 1e-2}])
        optimizer = torch.optim.AdamW(groups, lr=1e-3)
        times = []
        for _ in range(3 if quick else 40):
            start = time.perf_counter()
            loss = head(layer(rows, batch, None if used is None else used())).square().mean()
            if used is not None:
                loss = loss + used.price * used.expected_open()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if used is not None:
                used.project()
            times.append(time.perf_counter() - start)
        out[f"ms_{name}"] = 1e3 * float(np.median(times))
    return {**out, "ratio": out["ms_gated"] / out["ms_plain"]}
