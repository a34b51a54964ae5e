"""Sections on what can be tested on held-out pairs: matching, label transfer, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from smalti import metrics, tl
from smalti._mudata import no_pull
from smalti.model.parts import nearer_candidates

from ._section import MODEL_COLORS, Facts, Section, axis, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_PAIRS = 30
MIN_BATCH = 10
MIN_RIGHT = 20
VOTES = 15
K = 10
CALIBRATED = 0.05
"""Mean distance of confidence and accuracy up to which a confidence can be taken at its word."""
LINEAR, JOINT = "linear CCA", "linear CCA + Harmony"


@dataclass(frozen=True)
class HeldOut:
    """Validation cells that have two modalities, and their latents from each alone by method."""

    names: tuple[str, str]
    cells: NDArray[np.int64]
    latents: dict[str, tuple[NDArray[Any], NDArray[Any]]]


def held_out(facts: Facts) -> HeldOut | None:
    """Return the pair of modalities with most held-out pairs; the rivals are fitted without these cells."""
    found: tuple[int, str, str] = (0, "", "")
    for a, b in combinations(facts.names, 2):
        both = facts.presence[facts.validation][:, [facts.names.index(a), facts.names.index(b)]].all(axis=1)
        found = max(found, (int(both.sum()), a, b))
    n, a, b = found
    block = facts.model._matching_block()
    if n < MIN_PAIRS or block is None:
        return None
    cells = facts.validation
    cells = cells[facts.presence[cells][:, [facts.names.index(a), facts.names.index(b)]].all(axis=1)]
    own = tuple(facts.model.get_latent_representation(modality=m, indices=cells, block=block) for m in (a, b))
    latents: dict[str, tuple[Any, Any]] = {type(facts.model).__name__: (own[0], own[1])}
    train = facts.subset(np.setdiff1d(np.arange(facts.mdata.n_obs), facts.validation), facts.names)
    options: dict[str, Any] = {"batch_key": facts.batch_key, "random_state": facts.random_state, "layers": facts.layers}
    alone = [_in_order(facts, cells, m) for m in (a, b)]
    try:
        joint = tl.linear_joint(train, modalities=facts.names, **options)
        latents[JOINT] = (joint.transform(alone[0]), joint.transform(alone[1]))
        cca = tl.linear_cca(train, modalities=facts.names, **options)
        latents[LINEAR] = (cca.transform(alone[0]), cca.transform(alone[1]))
    except ValueError:  # no pairs for training: then there is no linear rival
        pass
    return HeldOut((a, b), cells, latents)


def _in_order(facts: Facts, cells: NDArray[np.int64], name: str) -> Any:
    part = facts.subset(cells, [name])
    with no_pull():
        return part[facts.mdata.obs_names[cells]].copy()


def matching(facts: Facts, held: HeldOut | None) -> Section:
    """Return the section on partners and labels carried over."""
    out = Section(
        key="matching",
        title="Matching and label transfer",
        text="Cells that were held out from training and have two modalities: is the true partner found among the "
        "cells "
        "of the batch, and does the type carry over. Both rivals were fitted without these cells, too.",
    )
    if held is None:
        out.verdict = (
            f"Nothing can be said of matching: fewer than {MIN_PAIRS} cells with two modalities were held out from "
            "training."
        )
        return out
    (a, b), cells = held.names, held.cells
    groups = None if facts.batch is None else facts.batch[cells]
    labels = None if facts.labels is None else facts.labels[cells]
    rows: dict[str, dict[str, float]] = {}
    for name, (x, y) in held.latents.items():
        found = metrics.matching_scores(x, y, groups=groups, k=K, least_group=MIN_BATCH, seed=facts.random_state)
        rows[name] = {
            "candidates nearer than the partner (FOSCTTM, lower is better)": found.foscttm,
            f"partner among the {K} nearest": found.recall,
        }
        chance = {
            "candidates nearer than the partner (FOSCTTM, lower is better)": 0.5,
            f"partner among the {K} nearest": found.chance_recall,
        }
        if labels is not None and pd.notna(labels).sum() > VOTES:
            for one, z, other, w in ((a, x, b, y), (b, y, a, x)):
                title = f"type carried from {one} to {other}"
                rows[name][title] = metrics.label_transfer(z, labels, w, labels, k=VOTES)
                chance[title] = float(pd.Series(labels).value_counts(normalize=True).iloc[0])
    table = pd.DataFrame(rows)
    table["chance"] = pd.Series(chance)
    out.tables.append(table.round(3).rename_axis("score"))
    first = table.iloc[0]
    rival = first.get(LINEAR, np.nan)
    error = _standard_error(facts, held)
    out.scores = {"foscttm": float(first.iloc[0]), "foscttm_linear": float(rival)}
    worse = bool(first.iloc[0] > rival + 2 * error)
    out.level = "attention" if worse or first.iloc[0] > 0.4 else "good"
    said = "" if np.isnan(error) else f" (threshold for a difference {2 * error:.1%}, two standard errors)"
    out.verdict = (
        f"Of {len(cells):,} held-out pairs of {a} and {b}, {percent(float(first.iloc[0]))} of candidates on average "
        f"are nearer than the partner; linear CCA (baseline) {percent(float(rival))}{said}; chance (null) 50%."
        f"{' Match by `tl.linear_cca` instead.' if worse else ''}"
    )
    return out


def _standard_error(facts: Facts, held: HeldOut) -> float:
    """Return the standard error of the difference between the model and linear CCA, NaN without the latter."""
    if LINEAR not in held.latents:
        return float("nan")
    codes = (
        np.zeros(len(held.cells), dtype=np.int64) if facts.batch is None else pd.factorize(facts.batch[held.cells])[0]
    )
    ours, theirs = (nearer_candidates(*held.latents[name], codes) for name in (type(facts.model).__name__, LINEAR))
    return float((ours - theirs).std() / np.sqrt(max(len(ours), 1)))


def calibration(facts: Facts, held: HeldOut | None) -> Section:
    """Return the section on whether confidences mean what they say."""
    out = Section(
        key="calibration",
        title="Calibration",
        text="A confidence of 0.8 should be right in 8 of 10 cases: points on the diagonal. Matches by "
        "cross-validation "
        "on held-out pairs; labels of held-out cells, carried over from training cells.",
    )
    figure: dict[str, Any] = {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": [0, 1],
                "y": [0, 1],
                "name": "calibrated",
                "line": {"color": "#bbb"},
            }
        ],
        "layout": {
            "xaxis": axis("confidence", range=[0, 1]),
            "yaxis": axis("share right", range=[0, 1]),
            "height": 380,
        },
    }
    said, worst = [], 0.0
    if held is not None:
        found = tl.match(facts.model, *held.names, within=facts.batch_key, cells="all")
        if found.reliability is not None and not found.note:
            error, null = metrics.error_of_curve(found.reliability), metrics.chance_error_of_curve(found.reliability)
            figure["data"].append(_curve(found.reliability, f"matches {held.names[0]} to {held.names[1]}", 0))
            out.scores["reliability_error_matching"] = error
            worst = max(worst, error - null)
            said.append(
                f"The confidence of matches is off by {error:.3f} on average (null, a perfect confidence with so few "
                f"cells: {null:.3f}; baseline, the same confidence for all, tells nothing apart); {_sharpness(found)}"
            )
    labels = _label_calibration(facts)
    if labels is not None:
        curve, coverage, n, common = labels
        error, null = metrics.error_of_curve(curve), metrics.chance_error_of_curve(curve)
        figure["data"].append(_curve(curve, f"labels ({facts.labels_key})", 1))
        out.scores |= {"reliability_error_labels": error, "coverage_labels": coverage}
        worst = max(worst, error - null)
        said.append(
            f"that of labels by {error:.3f} (null {null:.3f}; baseline {common:.2f}, the share of the commonest "
            f"label), "
            f"and sets that should hold 90% of true labels hold {percent(coverage)} of {n:,}"
        )
    if not said:
        out.verdict = "Nothing can be said of confidences: there are neither enough held-out pairs nor labels."
        return out
    out.figures.append(figure)
    out.level = "good" if worst <= CALIBRATED else "attention"
    out.verdict = f"{'; '.join(said)}; the threshold is {CALIBRATED} above the null."
    out.verdict = out.verdict[0].upper() + out.verdict[1:]
    return out


def _sharpness(found: Any) -> str:
    """Say whether surer matches are right more often."""
    curve = found.reliability
    right = float((curve["accuracy"] * curve["n"]).sum())
    if right < MIN_RIGHT:
        return f"{right:.0f} matches were right, too few to say whether the surer ones are right more often"
    times = curve["accuracy"].iloc[-1] / (right / curve["n"].sum())
    return f"the surest {percent(1 / len(curve))} are right {times:.1f} times as often as the average"


def _label_calibration(facts: Facts) -> tuple[pd.DataFrame, float, int, float] | None:
    if facts.labels is None or not len(facts.validation):
        return None
    known = pd.notna(facts.labels) & np.isfinite(facts.latent).all(axis=1)
    test = facts.validation[known[facts.validation]]
    train = np.setdiff1d(np.flatnonzero(known), facts.validation)
    if len(test) < MIN_PAIRS or pd.Series(facts.labels[train]).nunique() < 2:
        return None
    parts = []
    for cells in (train, test):
        part = AnnData(obs=pd.DataFrame({"label": facts.labels[cells].astype(str)}, index=facts.mdata.obs_names[cells]))
        part.obsm["X_latent"] = facts.latent[cells]
        parts.append(part)
    found = tl.transfer_labels(parts[0], parts[1], "label", use_rep="X_latent")
    truth = parts[1].obs["label"]
    inside = [bool(found.sets.loc[cell, label]) if label in found.sets else False for cell, label in truth.items()]
    right = found.probabilities.idxmax(axis=1).to_numpy() == truth.to_numpy()
    common = float(truth.value_counts(normalize=True).iloc[0])
    return tl.reliability_curve(found.confidence.to_numpy(), right), float(np.mean(inside)), len(test), common


def _curve(curve: pd.DataFrame, name: str, which: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": curve["confidence"].round(4).tolist(),
        "y": curve["accuracy"].round(4).tolist(),
        "text": [f"{n} cells" for n in curve["n"]],
        "line": {"color": MODEL_COLORS[which]},
    }
