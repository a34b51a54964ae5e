"""Bad calls over the public API: valid calls, each with one argument spoilt at a time."""

from __future__ import annotations

import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from _factories import make_mosaic

import smalti as sm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT = (0, -1, 1.5, "ten", float("nan"))
POSITIVE = (-1.0, float("nan"), float("inf"), "much")
SHARE = (-0.5, 7.0, float("nan"), "half")
CHOICE = ("nonsense", 3)
KEY = ("nonsense", 3)
MODALITY = ("nonsense", 3)
CELLS = ([9999], [-1], [0.5], [], "all")


def no_mosaics() -> tuple[Any, ...]:
    return (None, "mosaic.h5mu", 3, pd.DataFrame({"a": [1]}), ad.AnnData(np.ones((3, 2), np.float32)))


@dataclass(frozen=True)
class Call:
    """A valid call and what to put in place of its arguments."""

    name: str
    function: Callable[..., Any]
    valid: dict[str, Any]
    bad: dict[str, tuple[Any, ...]] = field(default_factory=dict)


def calls(folder: Path) -> list[Call]:
    """Return the calls, on one small mosaic and one model."""
    mdata = make_mosaic(n_obs=90, pattern="paired", n_features={"a": 20, "b": 12})
    CLUE = sm.model.CLUE
    CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    model = CLUE(mdata, n_latent=3, n_hidden=8, options={"n_align": 4, "align_hidden": 8, "n_aligners": 1})
    model.train(2, batch_size=32, progress=False, accelerator="cpu")
    mdata.obsm["X_clue"] = model.get_latent_representation()
    setup = {"mdata": mdata, "modalities": None, "batch_key": "batch", "labels_key": "label"}
    bad_setup = {
        "mdata": no_mosaics(),
        "modalities": (
            ["nonsense", "a"], {"a": "nonsense", "b": "nb"}, {"a": {"likelihod": "nb"}, "b": None}, {"a": 3, "b": None},
            ["a"], [], {"a": {"layer": "nonsense"}, "b": None}, {"a": {"encoder_input": "nonsense"}, "b": None},
            {"a": {"gate": "nonsense"}, "b": None}, {"a": {"gate": "global", "gate_keep": -1}, "b": None},
        ),
        "batch_key": KEY,
        "labels_key": KEY,
    }  # fmt: skip
    out = [
        Call(
            f"{cls.__name__}.setup_mudata",
            cls.setup_mudata,
            setup,
            bad_setup
            if cls is CLUE
            else {
                "mdata": no_mosaics(),
                "modalities": bad_setup["modalities"][:3],
                "batch_key": KEY,
            },
        )
        for cls in (CLUE, sm.model.MCA, sm.model.MODIS, sm.model.UnpairedCCA, sm.model.FusionClustering)
    ]
    out += [
        Call(
            "CLUE",
            lambda **k: CLUE(mdata, **k),
            {},
            {
                "n_latent": COUNT,
                "n_hidden": COUNT[:4],
                "n_layers": COUNT[:4],
                "dropout_rate": SHARE,
                "preset": CHOICE,
                "fusion": CHOICE,
                "n_components": COUNT[:4],
                "options": ({"nonsense": 1}, 3, {"n_align": 0}),
                "weights": ({"nonsense": 1}, 3, {"data": -1}),
            },
        ),
        Call(
            "train",
            lambda **k: model.train(**{"max_epochs": 1, "progress": False, "accelerator": "cpu"} | k),
            {},
            {
                "max_epochs": COUNT,
                "batch_size": COUNT,
                "train_size": (*SHARE, 0.0),
                "paired_share": SHARE,
                "validation_indices": ([9999], [-1], [0.5], "all"),
                "plan_kwargs": ({"nonsense": 1}, {"lr": "fast"}, {"lr": -1.0}, {"optimizer": "nonsense"}),
                "checkpoint": (folder,),
            },
        ),
        Call(
            "get_latent_representation",
            model.get_latent_representation,
            {},
            {
                "mdata": no_mosaics()[1:],
                "modality": MODALITY,
                "block": CHOICE,
                "indices": CELLS,
                "batch_correction": CHOICE,
                "batch_size": COUNT,
            },
        ),
        Call(
            "translate",
            lambda **k: model.translate(**{"source": "a", "target": "b"} | k),
            {},
            {
                "source": MODALITY,
                "target": (*MODALITY, None),
                "indices": CELLS,
                "library_size": ("nonsense", -1.0, [1.0], float("nan")),
                "batch": CHOICE,
                "features": (["nonsense"],),
                "scale": CHOICE,
                "by": CHOICE,
                "batch_size": COUNT[:4],
            },
        ),
        Call(
            "impute",
            lambda **k: model.impute(**{"target": "b"} | k),
            {},
            {"target": MODALITY, "coverage": SHARE},
        ),
        Call("load", CLUE.load, {"dir_path": folder / "nothing"}, {"dir_path": (folder / "nothing", folder)}),
        Call("save", model.save, {}, {"dir_path": (_file(folder),)}),
        Call(
            "describe_mosaic",
            sm.tl.describe_mosaic,
            {"mdata": mdata},
            {"mdata": no_mosaics(), "batch_key": KEY, "labels_key": KEY},
        ),
        Call(
            "linear_cca",
            sm.tl.linear_cca,
            {"mdata": mdata},
            {
                "mdata": no_mosaics(),
                "modalities": (["nonsense", "a"], ["a"]),
                "n_components": COUNT[:4],
                "batch_key": KEY,
            },
        ),
        Call(
            "linear_joint",
            sm.tl.linear_joint,
            {"mdata": mdata},
            {"mdata": no_mosaics(), "modalities": (["nonsense", "a"],), "n_components": COUNT[:4], "batch_key": KEY},
        ),
        Call("cell_values", sm.tl.cell_values, {"mdata": mdata, "name": "label"}, {"mdata": no_mosaics(), "name": KEY}),
        Call(
            "rank_features",
            sm.tl.rank_features,
            {"mdata": mdata, "groupby": "label"},
            {"mdata": no_mosaics(), "groupby": KEY},
        ),
        Call("pl.mosaic", sm.pl.mosaic, {"mdata": mdata}, {"mdata": no_mosaics(), "batch_key": KEY}),
        Call(
            "pl.latent",
            sm.pl.latent,
            {"mdata": mdata, "key": "X_clue", "color": "label"},
            {"mdata": no_mosaics(), "key": KEY, "color": KEY},
        ),
        Call(
            "pl.gates",
            sm.pl.gates,
            {"mdata": mdata, "modality": "a"},
            {"mdata": no_mosaics(), "modality": (*MODALITY, "a")},
        ),
        Call("pl.history", sm.pl.history, {"model": model}, {"model": ({},), "terms": (["nonsense"],)}),
        Call(
            "pl.umap_coordinates",
            sm.pl.umap_coordinates,
            {"z": mdata.obsm["X_clue"]},
            {"z": (np.ones((2, 2)),), "n_neighbors": COUNT[:4]},
        ),
        *(
            Call(
                f"pp.{function.__name__}",
                function,
                {"mdata": mdata, "modality": "a"},
                {
                    "mdata": no_mosaics(),
                    "modality": MODALITY,
                    "n_components": COUNT[:4],
                    "layer": KEY,
                    "batch_key": KEY,
                },
            )
            for function in (sm.pp.lsi, sm.pp.pca, sm.pp.clr)
        ),
        Call(
            "pp.bulk",
            sm.pp.bulk,
            {"mdata": mdata, "modality": "a", "kind": "counts"},
            {"mdata": no_mosaics(), "modality": MODALITY, "kind": CHOICE},
        ),
        Call(
            "select.dufs",
            sm.select.dufs,
            {"mdata": mdata, "modality": "a"},
            {"mdata": no_mosaics(), "modality": MODALITY, "batch_key": KEY},
        ),
        Call(
            "data.coalesce_obs",
            sm.data.coalesce_obs,
            {"mdata": mdata, "key": "batch"},
            {"mdata": no_mosaics(), "key": KEY},
        ),
        Call(
            "data.read",
            sm.data.read,
            {"path": folder / "no.h5mu"},
            {"path": (folder / "no.h5mu", folder / "no.txt", folder)},
        ),
        Call(
            "data.Modality",
            sm.data.Modality,
            {},
            {"likelihood": CHOICE, "gate": CHOICE, "gate_keep": (3,), "gate_groups": ("x",)},
        ),
        Call(
            "simulate.factor_views",
            lambda **k: sm.simulate.factor_views(**{"n_obs": 20, "n_features": {"a": 5, "b": 4}} | k),
            {},
            {
                "n_obs": COUNT[:4],
                "n_features": ({}, {"a": 0, "b": 3}),
                "likelihood": CHOICE[:1],
                "n_batches": COUNT[:3],
            },
        ),
        Call(
            "metrics.foscttm",
            lambda **k: sm.metrics.foscttm(*(k[n] for n in ("x", "y"))),
            {"x": np.eye(5), "y": np.eye(5)},
            {"y": (np.ones((4, 5)), np.full((5, 5), np.nan), "y")},
        ),
        Call(
            "metrics.ari",
            lambda **k: sm.metrics.ari(k["x"], k["y"]),
            {"x": [1, 2, 1], "y": [1, 2, 2]},
            {"y": ([1, 2], [])},
        ),
        Call(
            "metrics.recall_at_k",
            lambda **k: sm.metrics.recall_at_k(np.eye(5), np.eye(5), **k),
            {"k": 2},
            {"k": (0, -1, 99, "ten")},
        ),
    ]
    return out


def _file(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("x", encoding="utf-8")
    return path


def spoilt(folder: Path) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Yield name, function and arguments of every bad call."""
    from _bad_calls_more import more_calls  # which builds on this module

    known = calls(folder)
    mdata, model = (next(call.valid[key] for call in known if key in call.valid) for key in ("mdata", "model"))
    (folder / "more").mkdir()
    for call in (*known, *more_calls(mdata, model, folder / "more")):
        for name, values in call.bad.items():
            for value in values:
                yield f"{call.name}({name}={_short(value)})", call.function, call.valid | {name: value}


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) < 50 else type(value).__name__


def verdict(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Return an empty text if a call is refused in a clear sentence, or what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**arguments)
    except Exception as error:  # noqa: BLE001, any error is looked at
        text = str(error.args[0]) if error.args else ""
        last = traceback.extract_tb(error.__traceback__)[-1]
        depth = last.filename
        if "/smalti/" not in depth:
            return f"raised in {Path(depth).parent.name}/{Path(depth).name}: {type(error).__name__}: {text[:90]}"
        if "raise" not in (last.line or ""):
            return f"not raised on purpose: {type(error).__name__}: {text[:90]}"
        if isinstance(error, AssertionError | AttributeError | IndexError):
            return f"{type(error).__name__}: {text[:90]}"
        if len(text.split()) < 5 or "\n" in text.strip():
            return f"no sentence: {text[:90]}"
        return ""
    return "accepted"
