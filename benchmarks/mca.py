"""MCA: invariance, planted factors, shuffled pairs, real pairs, missing protein, cost. One command, one table.

    python benchmarks/mca.py                                  # everything, seeds 0-4
    python benchmarks/mca.py --parts simulator --sparsity 0 0.4 --seeds 0
    python benchmarks/mca.py --parts cost --device cuda

What is missing is drawn by a generator of its own, seeded apart from the model. Parts ``cite`` and ``breast`` need the
real data sets (``SMALTI_DATA_DIR``).
"""

from __future__ import annotations

import time
from itertools import combinations, product
from typing import TYPE_CHECKING

import mudata
import numpy as np
import torch
from _full_attention import full_attention, matrix_attention
from _run import run

from smalti import metrics, simulate
from smalti._mudata import no_pull
from smalti.benchmark import data_folder
from smalti.data import presence
from smalti.model import MCA
from smalti.nn import ChannelTransformer
from smalti.pp import LinearCCA
from smalti.tl import linear_probe

if TYPE_CHECKING:
    import argparse

MISSING_SEED = 1000
ROWS = ("unimodal_fusion", "unimodal_unimodal", "channel_root", "unimodal_channel")
SIZE = {"n_latent": 64, "n_layers": 2, "n_tokens": 8}
"""Small enough for a CPU."""
SMALL = {"n_latent": 32, "n_layers": 2, "n_tokens": 4, "n_fusion": 2, "input_dropout": 0.1, "readout_dropout": 0.0}
"""Of the simulator, where there are 90 trainings and enough cells; the same for all variants."""


def kept_rows(*kept: int) -> dict[str, float]:
    """Weights of the rows of loss terms by number, 1 to 4."""
    return {name: float(i + 1 in kept) for i, name in enumerate(ROWS)}


VARIANTS: dict[str, dict] = {
    "mca rows 1-4": {},
    "mca rows 1-3": {"weights": kept_rows(1, 2, 3)},
    "mca rows 1, 2, 4": {"weights": kept_rows(1, 2, 4)},
    "mca rows 1, 3": {"weights": kept_rows(1, 3)},
    "mca rows 1, 2": {"weights": kept_rows(1, 2)},
    "mma rows 1, 2": {"variant": "mma"},
    "eao": {"variant": "eao"},
}
"""The published comparison is of the first with ``mma``; what lies between separates attention from loss terms."""


def holes(mdata, sparsity: float, seed: int):
    """Drop every profile with the given probability; cells left with nothing are gone."""
    if sparsity == 0:
        return mdata
    keep = np.random.default_rng(MISSING_SEED + seed).random((mdata.n_obs, mdata.n_mod)) >= sparsity
    return simulate.drop(mdata, keep)


def subset(mdata, cells):
    """A copy of some cells, by name."""
    with no_pull():
        return mdata[mdata.obs_names.isin(cells)].copy()


def halves(mdata, seed: int, share: float = 0.2):
    """Names of training and test cells."""
    names = np.sort(mdata.obs_names.to_numpy(str))
    names = np.random.default_rng(MISSING_SEED + 100 + seed).permutation(names)
    n = round(share * len(names))
    return names[n:], names[:n]


def fit(mdata, seed: int, size: dict | None = None, train: dict | None = None, **kwargs):
    """Train with defaults and the given changes."""
    MCA.setup_mudata(mdata)
    size = {"n_fusion": 4, **(SIZE if size is None else size)}
    if kwargs.get("variant") == "mma":  # as many fusion tokens as all channels have
        size["n_fusion"] *= 2**mdata.n_mod - mdata.n_mod - 1
    model = MCA(mdata, options=size, random_state=seed, **kwargs)
    model.train(progress=False, accelerator="cpu", **(train or {}))
    return model


def retrieval_scores(model, everything, test) -> dict[str, float]:
    """Scores of test cells: a modality against the fusion of all cells, and modalities against each other."""
    unimodal, root = (
        model.get_unimodal_embeddings(everything),
        model.get_latent_representation(everything, block="root"),
    )
    chosen = everything.obs_names.isin(test)
    matching = {name: model.get_latent_representation(everything, block="aligned", modality=name) for name in unimodal}
    to_root, ranks, close, across, matched = [], [], [], [], []
    options = {"metric": "cosine", "direction": "x_to_y"}
    for z in unimodal.values():
        query = np.isfinite(z).all(1) & chosen
        close.append(metrics.alignment(z, root, x_mask=query))
        ranks.append(metrics.median_rank(z, root, x_mask=query, **options))
        to_root.append(metrics.recall_at_k(z, root, k=(1, 5, 10), x_mask=query, **options))
    for a, b in combinations(unimodal, 2):
        x, y = unimodal[a], unimodal[b]
        has_x, has_y = (np.isfinite(z).all(1) & chosen for z in (x, y))
        if (has_x & has_y).sum() > 10:
            masks = {"x_mask": has_x, "y_mask": has_y, "metric": "cosine"}
            across.append((metrics.recall_at_k(x, y, k=10, **masks)[10], metrics.foscttm(x, y, **masks)))
            x, y = matching[a], matching[b]
            matched.append((metrics.recall_at_k(x, y, k=10, **masks)[10], metrics.foscttm(x, y, **masks)))
    return {
        **{f"recall@{k}": float(np.mean([r[k] for r in to_root])) for k in (1, 5, 10)},
        "median_rank": float(np.mean(ranks)),
        "cross_recall@10": float(np.mean([r for r, _ in across])),
        "cross_foscttm": float(np.mean([f for _, f in across])),
        "aligned_recall@10": float(np.mean([r for r, _ in matched])),
        "aligned_foscttm": float(np.mean([f for _, f in matched])),
        "alignment": float(np.mean(close)),
        "uniformity": metrics.uniformity(root[chosen]),
    }


def probe(model, everything, train, labels_key: str) -> dict[str, float]:
    """Probe of the root channel, fitted on training cells."""
    mask = everything.obs_names.isin(train)
    found = linear_probe(everything, model.get_latent_representation(everything, block="root"), labels_key, train=mask)
    return {"probe_bacc": found.balanced_accuracy, "probe_aupr": found.macro_aupr}


def simulator(seed: int, args: argparse.Namespace, *, shuffle: bool = False):
    """Four views of 6 shared and 2 private factors, 5 classes.

    Variants train equally long and keep the last weights: their losses have different terms, so that choosing epochs by
    them would favour some. The learning rate falls to zero.
    """
    plan = {"max_epochs": args.epochs, "train_size": 1.0}
    full = simulate.factor_views(
        args.cells, n_features=(60,) * 4, n_shared=6, n_private=2, n_clusters=5, random_state=seed
    )
    for sparsity in [0.0] if shuffle else args.sparsity:
        mdata = holes(full, sparsity, seed)
        train, test = halves(mdata, seed)
        seen = subset(mdata, train)
        if shuffle:
            for i, name in enumerate(list(seen.mod)[1:]):
                order = np.random.default_rng(seed + 10 * i).permutation(seen[name].n_obs)
                seen.mod[name].X = seen[name].X[order]
        for name in ["mca rows 1-4"] if shuffle else args.variants:
            start = time.perf_counter()
            model = fit(seen, seed, SMALL, plan, **VARIANTS[name])
            scores = {"seconds": time.perf_counter() - start, **retrieval_scores(model, mdata, test)}
            if not shuffle:
                scores |= probe(model, mdata, train, "label")
            yield {"part": "shuffled" if shuffle else "simulator", "what": name, "sparsity": sparsity, **scores}


def shuffled(seed: int, args: argparse.Namespace):
    """The simulator with training pairs broken; the cross scores must be at chance."""
    yield from simulator(seed, args, shuffle=True)


def invariance(seed: int, args: argparse.Namespace):
    """Largest change of a unimodal embedding when all other modalities of the cell are removed."""
    mdata = simulate.factor_views(400, n_features=(60,) * 4, n_shared=6, n_private=2, random_state=seed)
    model = fit(mdata, seed, SMALL, {"max_epochs": 2})
    before, worst = model.get_unimodal_embeddings(), 0.0
    for i, name in enumerate(mdata.mod):
        keep = np.ones((400, 4), dtype=bool)
        keep[:300, np.arange(4) != i] = False
        reduced = simulate.drop(mdata, keep)
        after = model.get_unimodal_embeddings(reduced)[name]
        worst = max(worst, float(np.abs(after - before[name][mdata.obs_names.get_indexer(reduced.obs_names)]).max()))
    yield {"part": "invariance", "what": "max difference", "sparsity": 0.0, "difference": worst}


def components(model, mdata) -> dict[str, np.ndarray]:
    """Encoder inputs of cells that have everything, by modality."""
    parts = {name: [] for name in model.modalities}
    for tensors in model.iterate(mdata):
        for name, here in model.module.inputs.present(tensors).items():
            parts[name].append(model.module.inputs.encode(tensors, name, here).cpu().numpy())
    return {name: np.concatenate(part) for name, part in parts.items()}


def cite(seed: int, args: argparse.Namespace):
    """Real pairs of RNA and protein; the baseline is linear CCA on the model's own principal components."""
    full = mudata.read_h5mu(data_folder() / "pbmc10k_cite.h5mu")
    train, test = halves(full, seed)
    complete = subset(full, test)
    for sparsity in [s for s in args.sparsity if s <= 0.4]:
        mdata = holes(full, sparsity, seed)
        seen, start = subset(mdata, train), time.perf_counter()
        model = fit(seen, seed)
        scores = retrieval_scores(model, complete, test) | probe(model, mdata, train, "cell_type")
        yield {"part": "cite", "what": "mca", "sparsity": sparsity, "seconds": time.perf_counter() - start, **scores}
        pairs = subset(seen, seen.obs_names[presence(seen).all(1)])
        x, y = components(model, pairs), components(model, complete)
        cca = LinearCCA().fit(x, {name: np.arange(len(z)) for name, z in x.items()})
        a, b = cca.transform(y).values()
        scores = {
            "cross_recall@10": metrics.recall_at_k(a, b, k=10, metric="cosine")[10],
            "cross_foscttm": metrics.foscttm(a, b, metric="cosine"),
        }
        yield {"part": "cite", "what": "PCA + CCA", "sparsity": sparsity, **scores}


def breast(seed: int, args: argparse.Namespace):
    """Subtypes of tumours whose protein was never measured: root, the channel of what all have, the joint latent.

    Training tumours have protein, so that their root embeddings contain it and those of the test part do not.
    """
    mdata = mudata.read_h5mu(data_folder() / "breast_tcga.h5mu")
    train = mdata.obs_names[(mdata.obs["split"] == "train").to_numpy()]
    model, mask = fit(subset(mdata, train), seed), mdata.obs_names.isin(train)
    common = tuple(name for name, adata in mdata.mod.items() if adata.n_obs == mdata.n_obs)
    for channel in ("root", common, "joint"):
        z = model.get_latent_representation(mdata, block=channel)
        found = linear_probe(mdata, z, "subtype", train=mask)
        scores = {"probe_bacc": found.balanced_accuracy, "probe_aupr": found.macro_aupr}
        yield {"part": "breast", "what": f"channel {channel}", "sparsity": 0.0, **scores}


def cost(seed: int, args: argparse.Namespace):
    """Forward and backward pass of the transformer: structured, structured with holes, and one masked matrix."""
    torch.manual_seed(seed)
    n, channels = args.cost_cells, tuple(c for k in (4, 3, 2) for c in combinations(range(4), k))
    model = ChannelTransformer(4, channels, 128, n_layers=3, n_heads=8, n_fusion=8).to(args.device)
    tokens = [torch.randn(n, args.cost_tokens, 128, device=args.device) for _ in range(4)]

    def structured(present):
        streams = [model.encode(m, tokens[m][present[:, m]]) for m in range(4)]
        return model.pooled(streams, present), model.fuse(streams, present)

    def full(present):
        return full_attention(model, tokens, present)

    def materialised(present):
        return full_attention(model, tokens, present, attend=matrix_attention)

    ways = {"structured": structured, "full mask, fused kernel": full, "full mask, matrix": materialised}
    for (what, attend), sparsity in product(ways.items(), (0.0, 0.6)):
        keep = np.random.default_rng(MISSING_SEED).random((n, 4)) >= sparsity
        present = torch.from_numpy(keep).to(args.device)
        best, held = np.inf, {}
        for repeat in range(3):
            model.zero_grad()
            start = time.perf_counter()
            if repeat:
                unimodal, fused = attend(present)
            else:  # tensors kept for the backward pass, each storage once
                with torch.autograd.graph.saved_tensors_hooks(lambda t: _count(held, t), lambda t: t):  # noqa: B023
                    unimodal, fused = attend(present)
            (unimodal.sum() + fused.sum()).backward()
            if args.device != "cpu":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        kept = sum(held.values()) / 1e6
        yield {"part": "cost", "what": what, "sparsity": sparsity, "cells_per_s": n / best, "kept_mb": kept}


def _count(held: dict[int, int], tensor: torch.Tensor) -> torch.Tensor:
    held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return tensor


PARTS = {part.__name__: part for part in (invariance, simulator, shuffled, cite, breast, cost)}


def options(parser) -> None:
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.0, 0.4, 0.6])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--cells", type=int, default=2000, help="cells of the simulator")
    parser.add_argument("--epochs", type=int, default=25, help="epochs of a training on the simulator")
    parser.add_argument("--cost-cells", type=int, default=16)
    parser.add_argument("--cost-tokens", type=int, default=200)
    parser.add_argument("--device", default="cpu", help="of the part `cost`")


def rows(args):
    for part in args.parts:
        for seed in args.seeds[:1] if part == "cost" else args.seeds:
            for row in PARTS[part](seed, args):
                yield {"part": row["part"], "what": row["what"], "seed": seed, **row}


if __name__ == "__main__":
    run(__doc__, rows, by=("part", "what", "sparsity"), options=options)
