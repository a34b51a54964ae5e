"""Eight links: how often is a true alignment missed, and a permuted one let in, on data that tuned nothing?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from _unpaired_data import gene_links, read, transfer, unpair
from anndata import AnnData

from smalti._mudata import build_mudata
from smalti.model import UnpairedCCA

FEW = 8
N = 500
DATA = ("sln_diagonal", "sln_paired", "clusters")


def planted(seed: int):
    """Counts of six types along four factors; 40 features of each modality are linked, 60 are its own."""
    rng = np.random.default_rng(4000 + seed)
    kind = rng.integers(6, size=(2, N))
    centre, shared = 1.2 * rng.normal(size=(6, 4)), rng.normal(size=(4, 40))
    parts = {}
    for i, name in enumerate("ab"):
        z = centre[kind[i]] + 0.8 * rng.normal(size=(N, 4))
        rate = np.exp(np.clip(0.4 * np.hstack([z @ shared, z @ rng.normal(size=(4, 60))]), -3, 4))
        part = AnnData(rng.poisson(rate).astype(np.float32), obs=pd.DataFrame(index=[f"{name}{j}" for j in range(N)]))
        part.var_names = [f"{name}_{g}" for g in range(100)]
        part.obs["kind"] = kind[i].astype(str)
        parts[name] = part
    links = pd.DataFrame({name: [f"{name}_{g}" for g in range(40)] for name in "ab"})
    return build_mudata(parts), links, {name: part.obs["kind"].to_numpy(str) for name, part in parts.items()}


def halves(name: str, seed: int):
    """Some cells of a data set, pairs hidden, its links and labels by modality."""
    if name == "clusters":
        return planted(seed)
    mdata = read(name)
    first, second = list(mdata.mod)[:2]
    if name == "sln_diagonal":
        rng, parts = np.random.default_rng(4000 + seed), {}
        for m in (first, second):
            part = mdata[m]
            parts[m] = part[np.sort(rng.choice(part.n_obs, min(N, part.n_obs), replace=False))].copy()
        small = build_mudata(parts)
        kinds = {m: mdata.obs["kind"].loc[parts[m].obs_names].to_numpy(str) for m in parts}
        return small, gene_links(mdata), kinds
    small, names = unpair(mdata, N, 40 + seed)
    kind = mdata.obs["kind"].loc[names].to_numpy(str)
    return small, gene_links(mdata), {first: kind, second: kind}


def few_links(name: str, seed: int, *, permuted: bool, n_links: int = FEW) -> dict:
    """One run: the verdict, and label transfer by the alignment and by smoothed evidence."""
    mdata, links, kinds = halves(name, seed)
    rng = np.random.default_rng(5000 + seed)
    table = links.iloc[np.sort(rng.permutation(len(links))[:n_links])].reset_index(drop=True)
    first, second = links.columns
    if permuted:
        table[second] = np.roll(table[second].to_numpy(), 1 + seed % (n_links - 1))
    UnpairedCCA.setup_mudata(mdata)
    model = UnpairedCCA(mdata, links=table, random_state=seed, options={"n_permutations": 20})
    model.train(progress=False, accelerator="cpu")
    v = model.verdict
    spaces = {"alignment": model.matching_space(first, second), "evidence": model._evidence_space(first, second)}
    out = {"identified": float(v.identified), "undecided": float(v.undecided)}
    out |= {"z": v.z, "gain": v.score - float(np.mean(v.null)), "n_needed": float(v.n_needed or np.nan)}
    for key, (x, y) in spaces.items():
        a, b = kinds[first], kinds[second]
        out[f"transfer_{key}"] = (transfer(x, a, y, b, balanced=True) + transfer(y, b, x, a, balanced=True)) / 2
    return out
