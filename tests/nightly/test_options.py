"""Every two option values of every model, from set-up to a stored model of a tiny mosaic, or one clear sentence."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from _covering import covering_rows
from _factories import make_mosaic

from smalti import losses, nn
from smalti import model as models
from smalti.data import Modality
from smalti.model.mca import _options as mca_options
from smalti.train import PlanOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

pytestmark = pytest.mark.nightly

SMALL = {
    "CLUE": {"n_latent": 5, "n_hidden": 16, "n_align": 8, "align_hidden": 16},
    "MCA": {"n_latent": 16, "n_layers": 2, "n_heads": 2, "n_fusion": 2, "n_tokens": 4, "n_hidden": 16},
    "MODIS": {"n_latent": 5, "widths": (16,), "discriminator_widths": (16, 8)},
    "UnpairedCCA": {"n_latent": 4, "n_hidden": 16, "n_permutations": 0},
    "FusionClustering": {"n_latent": 5, "n_hidden": 16},
    "OverlapManifold": {"n_hidden": 16, "n_burst": 8},
}


@dataclass(frozen=True)
class Case:
    """A model with the values that its options take beside those that are read off their types."""

    cls: type
    options: type
    weights: type | None = None
    arguments: dict[str, list[Any]] = field(default_factory=dict)
    """Of the constructor."""
    values: dict[str, list[Any]] = field(default_factory=dict)
    """Of options that are numbers or tuples."""
    gates: bool = True
    fixed_inputs: bool = False
    """Whether encoders must see fixed components."""


CASES = [
    Case(
        models.CLUE,
        models.CLUEOptions,
        models.CLUEWeights,
        {"preset": ["default", "paper"]},
        {
            "n_layers": [1, 2],
            "activation": ["gelu", "leaky_relu"],
            "n_features_per_step": [16, None],
            "n_aligners": [1, 3],
            "label_smoothing": [0.0, 0.1],
            "dropout_rate": [0.0, 0.3],
            "n_components": [None, 4],
        },
    ),
    Case(
        models.MCA,
        models.MCAOptions,
        models.MCAWeights,
        {"variant": list(get_args(mca_options.Variant))},
        {
            "tokens": list(get_args(mca_options.TokenKind)),
            "cardinalities": [None, "all", (2,)],
            "modality_dropout": [0.0, 0.3],
            "n_features_per_step": [16, None],
            "n_components": [None, 4],
            "negatives": ["paired", "all"],
            "wiring": ["pre_norm", "reference"],
        },
    ),
    Case(
        models.MODIS,
        models.MODISOptions,
        models.MODISWeights,
        {"preset": ["default", "paper-intersim"]},
        {
            "n_private": [0, 4],
            "ratios": [None, (1.0, 0.5, 0.3)],
            "adversary": ["none", "ovr", "pairwise", "ce", "uniform"],
            "gamma": [0.0, 1.0],
            "n_features_per_step": [16, None],
            "n_components": [None, 4],
            "n_classes": [None, 3],
            "labelled_share": [0.0, 0.25],
            "augment_below": [0, 20],
            "norm": ["layer", "batch", "none"],
            "activation": ["gelu", "leaky_relu"],
        },
    ),
    Case(
        models.UnpairedCCA,
        models.UnpairedOptions,
        None,
        {
            "encoder": ["linear", "deep"],
            "solver": ["sinkhorn", "gumbel"],
            "align": ["none", "mmd", "energy", "max_sliced", "ssim", "adversarial"],
            "links": [False, True],
        },
        {
            "n_rounds": [None, 1, 3],
            "relax": [None, 1.0],
            "structure": [0.0, 0.3],
            "label_weight": [0.0, 1.0],
            "n_landmarks": [2000, 30],
            "max_cells": [5000, 40],
            "n_components": [None, 4],
            "structure_weight": [0.0, 0.5],
            "accept": ["held_out", "always", "never"],
        },
        gates=False,
        fixed_inputs=True,
    ),
    Case(
        models.FusionClustering,
        models.FusionOptions,
        models.FusionWeights,
        {"n_clusters": [None, 3]},
        {
            "n_correlated": [None, 2],
            "momentum": [0.0, 0.5],
            "guard": [0, 1],
            "stages": [(0.0, 0.0), (0.34, 0.67)],
            "n_components": [None, 4],
        },
        gates=False,
        fixed_inputs=True,
    ),
    Case(
        models.OverlapManifold,
        models.ManifoldOptions,
        models.ManifoldWeights,
        {
            "bursts": ["neighbours", "metacell"],
            "registration": ["auto", "rigid", "similarity", "affine"],
        },
        {"burst_scale": [None, 0.5], "joint_from": [0.0, 0.4, 1.0], "n_components": [None, 4]},
        gates=False,
        fixed_inputs=True,
    ),
]

DATA = {
    "pattern": ["paired", "every", "indirect"],
    "likelihood": ["nb", "zinb", "poisson", "bernoulli", "gaussian", "nb_mixture"],
    "encoder_input": [None, "lsi", "pca", "clr", "scaled", "counts", "given"],
    "mask": [False, True],
    "gaps": [False, True],
    "batches": [1, 2],
    "labels": [False, True],
}
GATES = {"gate": [None, "global", "group", "sparse_group", "local", "global+local"], "gate_keep": [None, 4, 0.5]}
TRAIN = {
    "optimizer": ["AdamW", "RMSprop"],
    "lr_schedule": ["cosine", "constant"],
    "decay": ["all", "matrices"],
    "train_size": [0.8, 1.0],
    "paired_share": [0.0, 0.5],
    "batch_size": [16, 200],
}


def own_values(case: Case) -> dict[str, list[Any]]:
    """Return values of the options of a model: all of literals and booleans, and those named by the case."""
    hints, found = get_type_hints(case.options, localns={**vars(losses), **vars(nn)}), {}
    for each in fields(case.options):
        kind = hints[each.name]
        if each.name in case.values:
            found[each.name] = case.values[each.name]
        elif kind is bool:
            found[each.name] = [True, False]
        elif get_origin(kind) is Literal:
            found[each.name] = list(get_args(kind))
    if case.weights is not None:
        for each in fields(case.weights):
            if isinstance(each.default, int | float):
                found[f"weights.{each.name}"] = [0.0, 0.5]
    return found


def sensible(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what is known to be refused; refusals have tests of their own."""
    if row.get("mean_link") == "softmax":
        row["n_features_per_step"] = None
    if row.get("gate") and row["encoder_input"] == "given":
        row["encoder_input"] = "pca"
    if row.get("weights.unimodal_fusion") == row.get("weights.channel_root") == row.get("weights.reconstruction") == 0:
        row["weights.channel_root"] = 0.5
    if row["likelihood"] == "gaussian" and row["encoder_input"] in ("lsi", "clr"):
        row["encoder_input"] = "scaled"
    return row


def rows_of(case: Case) -> list[dict[str, Any]]:
    data = dict(DATA)
    if case.fixed_inputs:
        data["encoder_input"] = [each for each in data["encoder_input"] if each != "counts"]
    factors = data | (GATES if case.gates else {}) | TRAIN | case.arguments | own_values(case)
    return [sensible(row) for row in covering_rows(factors, tries=4)]


def tiny(row: dict[str, Any], gates: bool) -> tuple[MuData, dict[str, Any]]:
    """Return a mosaic and what set-up is told of it."""
    simulated = row["likelihood"] if row["likelihood"] in ("nb", "poisson", "bernoulli", "gaussian") else "nb"
    mdata = make_mosaic(
        n_obs=90,
        pattern=row["pattern"],
        n_features={"a": 24, "b": 16, "c": 12},
        likelihood={"a": simulated, "b": "poisson", "c": "gaussian"},
        n_batches=row["batches"],
        labels=row["labels"],
    )
    a, spec = mdata["a"], {"likelihood": row["likelihood"], "encoder_input": row["encoder_input"]}
    rng = np.random.default_rng(0)
    if row["mask"] and row["batches"] > 1:
        panel = pd.DataFrame({f"batch_{i}": np.ones(24, dtype=bool) for i in range(2)}, index=a.var_names)
        panel.iloc[:4, 1] = False
        a.varm["panel"] = panel
        spec["feature_mask"] = "panel"
    if row["gaps"]:
        x = a.X.toarray() if hasattr(a.X, "toarray") else np.array(a.X)
        x = x.astype(np.float32)
        x[rng.random(x.shape) < 0.1] = np.nan
        a.X = x
    if row["encoder_input"] == "given":
        a.obsm["z"] = rng.normal(size=(a.n_obs, 5)).astype(np.float32)
        spec["encoder_input"] = "z"
    if gates and row["gate"] is not None:
        spec |= {"gate": row["gate"], "gate_keep": row["gate_keep"]}
        if "group" in row["gate"]:
            a.var["set"] = [f"s{i % 6}" for i in range(24)]
            spec["gate_groups"] = "set"
    return mdata, {"a": Modality(**spec), "b": "poisson", "c": "gaussian"}


def parameters() -> Iterator[Any]:
    for case in CASES:
        for i, row in enumerate(rows_of(case)):
            yield pytest.param(case, row, id=f"{case.cls.__name__}-{i}")


@pytest.mark.parametrize(("case", "row"), list(parameters()))
@pytest.mark.filterwarnings("ignore")
def test_a_row_of_options_works_or_is_refused_before_training(case, row, tmp_path):
    cls, own = case.cls, own_values(case)
    mdata, modalities = tiny(row, case.gates)
    plan = {name: row[name] for name in ("optimizer", "lr_schedule", "decay")}
    PlanOptions(**plan)
    arguments = {name: row[name] for name in case.arguments}
    if "links" in arguments:
        table = pd.DataFrame({"a": mdata["a"].var_names[:10], "b": mdata["b"].var_names[:10]})
        arguments["links"] = table if arguments["links"] else None
    options = SMALL[cls.__name__] | {k: row[k] for k in own if not k.startswith("weights.")}
    weights = {k.removeprefix("weights."): row[k] for k in own if k.startswith("weights.")}
    if case.weights is not None:
        arguments["weights"] = weights
    started = []
    try:
        keys = {"batch_key": "batch" if row["batches"] > 1 else None, "labels_key": "label" if row["labels"] else None}
        cls.setup_mudata(mdata, modalities, **keys)
        model = cls(mdata, options=options, **arguments)
        before = model.module.loss
        model.module.loss = lambda *a, **k: (started.append(1), before(*a, **k))[1]
        model.train(
            2,
            batch_size=row["batch_size"],
            train_size=row["train_size"],
            paired_share=row["paired_share"],
            plan_kwargs=plan,
            progress=False,
            accelerator="cpu",
        )
    except (ValueError, KeyError, TypeError) as error:
        text = str(error.args[0])
        assert not started, f"refused only in training: {text}"
        assert len(text.split()) > 5, text
        assert text.rstrip("'\"").endswith((".", "?", ")")), text
        pytest.skip(f"refused: {text[:150]}")
    del model.module.loss
    z = model.get_latent_representation()
    assert len(z) == mdata.n_obs
    assert np.isfinite(z).all()
    if hasattr(model, "translate") and model.module.decoding is not None:
        found = model.translate("b", "a").values
        assert np.isfinite(found).all()
    if model.gate_names():
        model.get_gates("a")
    model.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = cls.load(tmp_path / "model", mdata)
    np.testing.assert_allclose(again.get_latent_representation(), z, atol=1e-5)
