"""Bad calls of what maps, matches, imputes, sweeps, reports and reads from disk; see :mod:`_bad_calls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from _bad_calls import CHOICE, COUNT, KEY, MODALITY, SHARE, Call, no_mosaics

import smalti as sm

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SEED = ("x", -1, 1.5, None, 2**40)
NO_PATH = (None, 3, "")


def more_calls(mdata: MuData, model: Any, folder: Path) -> list[Call]:
    """Return the calls, on a mosaic with a latent, a trained model and an empty folder."""
    a, b = mdata["a"], mdata["b"]
    sm.model.UnpairedCCA.setup_mudata(mdata)
    untrained = sm.model.CLUE(mdata, n_latent=3, n_hidden=8)
    levels = a.copy()
    levels.obs.index = pd.MultiIndex.from_arrays([["d"] * a.n_obs, a.obs_names])
    (folder / "foreign.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (folder / "empty.csv").write_text("", encoding="utf-8")
    (folder / "picture.csv").write_bytes(b"\x89PNG\xff\x00" * 20)
    mdata.obsm["X_text"] = pd.DataFrame({"u": ["x"] * mdata.n_obs}, index=mdata.obs_names)
    mdata.obsm["X_gone"] = np.full((mdata.n_obs, 3), np.nan)
    mdata.obsm["X_w"], mdata.obsm["X_w_a"], mdata.obsm["X_w_b"] = (np.ones((mdata.n_obs, k)) for k in (3, 3, 4))
    cls, kwargs = sm.model.CLUE, {"train_kwargs": {"max_epochs": 1, "accelerator": "cpu"}}
    return [
        Call(
            "from_anndata",
            sm.from_anndata,
            {"data": {"a": a, "b": b}},
            {
                "data": (
                    [a, b], {}, {"a": a.to_df(), "b": b}, {"a": a, "b": None}, {"": a, "b": b}, mdata, None,
                    {"a": levels, "b": b},
                ),
                "layers": (3, "nonsense", {"z": "counts"}, ["counts"]),
                "obsm": ("private", {"z": "private"}),
                "batch": KEY,
            },
        ),
        Call("from_anndata of one", sm.from_anndata, {"data": a}, {"obsm": ("private", 3, {"z": "nonsense"})}),
        Call("read", sm.read, {"path": "x"}, {"path": (*NO_PATH, folder / "foreign.csv")}),
        Call("open_mosaic", sm.data.open_mosaic, {"path": "x"}, {"path": (*NO_PATH, folder, folder / "foreign.csv")}),
        Call(
            "write_mosaic",
            sm.data.write_mosaic,
            {"paths": {"s": folder / "foreign.csv"}, "out": folder / "o.zarr"},
            {
                "paths": (None, 3, [a, b], {"s": {"a": a}}, [None], mdata, {"s": {}}),
                "out": (*NO_PATH, "/proc/none/o.zarr", folder / "o.txt", folder / "foreign.csv" / "o.zarr"),
                "source_key": (None, "", 3),
                "mask_key": (None, ""),
                "random_state": SEED[:4],
            },
        ),
        Call(
            "write_translation",
            lambda **k: model.write_translation(**{"source": "a", "target": "b"} | k),
            {"path": folder / "t.h5ad"},
            {
                "path": (*NO_PATH, "/proc/none/t.h5ad", folder / "t.csv", folder),
                "target": (*MODALITY, None),
                "library_size": (["x"] * mdata.n_obs, None, [1.0], np.inf, "nonsense"),
                "indices": ([], [[0, 1]], ["cell"], [0.5], np.ones(3, dtype=bool)),
                "features": ("b_00", [], [0]),
            },
        ),
        Call("save", model.save, {}, {"dir_path": NO_PATH}),
        Call("load", cls.load, {}, {"dir_path": NO_PATH}),
        Call(
            "load_query",
            cls.load_query,
            {"query": mdata, "reference": model},
            {
                "query": (None, "q.h5mu", {"a": a}, 3, mdata[:0].copy()),
                "reference": (None, mdata, untrained, folder / "none", 3),
                "update": CHOICE,
            },
        ),
        Call("load_query of one", cls.load_query, {"query": a, "reference": model}, {"modality": MODALITY}),
        Call("CLUE", lambda **k: cls(mdata, **k), {}, {"random_state": SEED}),
        Call(
            "train",
            lambda **k: model.train(**{"max_epochs": 1, "progress": False, "accelerator": "cpu"} | k),
            {},
            {
                "plan_kwargs": (3, "lr"),
                "trainer_kwargs": (3, "logger"),
                "num_workers": (-1, "x", 1.5),
                "devices": ("x", "1,x"),
                "checkpoint": (3, ""),
            },
        ),
        Call(
            "match",
            sm.tl.match,
            {"data": model, "source": "a", "target": "b"},
            {
                "data": no_mosaics(),
                "source": (*MODALITY, "b", None),
                "within": (*KEY, ["batch"]),
                "known_pairs": (*KEY, "label"),
                "cells": CHOICE,
                "n_partners": COUNT[:4],
            },
        ),
        Call(
            "match of latents",
            sm.tl.match,
            {"data": mdata, "source": "a", "target": "b"},
            {"key": ("X_text", "X_gone", "X_w", "nonsense")},
        ),
        Call(
            "transfer_labels",
            sm.tl.transfer_labels,
            {"ref": mdata, "query": mdata, "key": "label"},
            {
                "ref": (None, "x", 3),
                "query": (None, "x", 3),
                "key": (*KEY, None),
                "use_rep": ("nonsense", "X_gone", None),
                "model": ("CLUE", 3),
                "batch_key": KEY,
                "coverage": SHARE,
                "random_state": SEED[:3],
            },
        ),
        Call("impute", lambda **k: model.impute(**{"target": "b"} | k), {}, {"min_calibration": COUNT[:4]}),
        Call(
            "sweep",
            sm.tl.sweep,
            {"model_cls": cls, "mdata": mdata, "space": {"n_latent": [2]}, **kwargs},
            {
                "model_cls": ("CLUE", model, None),
                "mdata": no_mosaics(),
                "space": ({}, ["n_latent"], {"n_latent": 3}, {"n_latent": []}, {"n_latent": "35"}, {"n_latent": [-3]}),
                "n_seeds": COUNT[:4],
                "n_jobs": (0, 1.5, "x"),
                "backend": CHOICE,
                "score": CHOICE,
                "labels_key": KEY,
                "random_state": SEED[:4],
                "path": (
                    folder, "/proc/none/s.csv", folder / "foreign.csv", folder / "empty.csv", folder / "picture.csv", 3,
                ),
            },
        ),
        Call(
            "stability",
            sm.tl.stability,
            {"model_cls": cls, "mdata": mdata, **kwargs},
            {"model_cls": ("CLUE",), "mdata": no_mosaics(), "n_seeds": (0, 1, "x"), "batch_key": KEY},
        ),
        Call(
            "linear_joint",
            sm.tl.linear_joint,
            {"mdata": mdata},
            {
                "modalities": ("a", ["a", "a"], []),
                "layers": ({"a": "nonsense"}, "counts", {"z": "x"}),
                "transforms": ({"a": "pca"}, {"z": None}, "pca"),
                "ridge": (-1.0, "x"),
                "shrinkage": SHARE,
                "random_state": SEED[:4],
                "key_added": (None, 3, ""),
            },
        ),
        Call("pl.fusion", sm.pl.fusion, {"mdata": mdata}, {"mdata": (*no_mosaics(), model, mdata)}),
        Call("pl.history", sm.pl.history, {"model": model}, {"model": (3, None)}),
        Call("pl.stability", sm.pl.stability, {"found": None}, {"found": (None, "x", model)}),
        Call("evaluate", sm.tl.evaluate, {"mdata": mdata, "embeddings": "X_w"}, {"embeddings": (None, 3, "X_text")}),
        Call(
            "UnpairedCCA",
            lambda **k: sm.model.UnpairedCCA(mdata, **k),
            {},
            {"links": ("x", pd.DataFrame({"a": [], "b": []}), pd.DataFrame({"a": ["z"], "b": ["z"]}))},
        ),
        Call(
            "integrate",
            lambda **k: sm.tl.integrate(**{"mdata": mdata, "max_epochs": 1, "progress": False} | k),
            {},
            {
                "mdata": (*no_mosaics(), mdata[:4].copy()),
                "model_name": CHOICE,
                "max_epochs": COUNT[:4],
                "resolution": (0, -1.0, "x"),
                "random_state": SEED[:4],
                "batch_key": KEY,
                "labels_key": KEY,
            },
        ),
        Call(
            "report.write",
            lambda **k: sm.report.write(**{"model": model, "mdata": mdata, "path": folder / "r.html"} | k),
            {},
            {
                "model": (None, mdata, untrained, "CLUE"),
                "mdata": no_mosaics(),
                "path": (*NO_PATH, "/proc/none/r.html", folder / "r.pdf", folder),
                "batch_key": KEY,
                "labels_key": KEY,
                "color": (["nonsense"], "label"),
                "stability": ("x", 3),
                "max_cells": COUNT[:4],
                "random_state": SEED[:3],
            },
        ),
    ]  # fmt: skip
