"""UniVI: learns from the paired cells alone and encodes all others; settings of its quickstart, no batches."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.remove(str(Path(__file__).resolve().parent))  # this file has the name of the package
import torch
from univi import ModalityConfig, TrainingConfig, UniVIConfig, UniVIMultiModalVAE, UniVITrainer
from univi.evaluation import encode_adata
from univi.preprocessing import ADTPreprocessor, ATACPreprocessor, RNAPreprocessor
from univi.workflows import make_loader

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _adapter import main, present

PREPROCESSORS = {
    "rna": lambda: RNAPreprocessor(n_hvg=None, layer=None, scale=True),
    "adt": lambda: ADTPreprocessor(layer=None, scale=True),
    "atac": lambda: ATACPreprocessor(n_components=101, layer=None, drop_first=True),
}
WIDTHS = {"rna": [512, 256, 128]}


def fit(mdata, seed):
    torch.manual_seed(seed)
    names = list(mdata.mod)
    has = {name: present(mdata, name) for name in names}
    paired = np.flatnonzero(np.all([has[name] for name in names], axis=0))
    order = np.random.default_rng(seed).permutation(paired)
    split = {"val": mdata.obs_names[order[: len(order) // 10]], "train": mdata.obs_names[order[len(order) // 10 :]]}
    ready = {}
    for name in names:
        prepare = PREPROCESSORS[name]().fit(mdata.mod[name][split["train"]].copy())
        ready[name] = prepare.transform(mdata.mod[name].copy())
    widths = {name: WIDTHS.get(name, [128, 64]) for name in names}
    config = UniVIConfig(
        latent_dim=30, beta=1.25, gamma=4.35, encoder_dropout=0.1, decoder_dropout=0.05,
        kl_anneal_start=50, kl_anneal_end=85, align_anneal_start=75, align_anneal_end=110,
        modalities=[
            ModalityConfig(name, ready[name].n_vars, widths[name], widths[name][::-1], likelihood="gaussian")
            for name in names
        ],
    )  # fmt: skip
    model = UniVIMultiModalVAE(config)
    loaders = {key: {name: ready[name][cells].copy() for name in names} for key, cells in split.items()}
    training = TrainingConfig(
        n_epochs=400, lr=1e-3, weight_decay=1e-4, device="cpu", early_stopping=True, patience=50, best_epoch_warmup=110
    )
    UniVITrainer(
        model,
        train_loader=make_loader(loaders["train"], batch_size=256, shuffle=True, drop_last=True, seed=seed),
        val_loader=make_loader(loaders["val"], batch_size=1024),
        train_cfg=training,
    ).fit()
    total, number = 0.0, np.sum([has[name] for name in names], axis=0)[:, None]
    for name in names:
        z = encode_adata(model, ready[name], modality=name, latent="modality_mean")
        rows = mdata.mod[name].obs_names.get_indexer(mdata.obs_names)
        total = total + np.where(rows[:, None] >= 0, z[rows], 0)
    return total / number


main(fit)
