"""Sections about the model: curves, gates, stability, and how to repeat it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti import tl
from smalti._errors import NotFittedError

from ._section import MODEL_COLORS, Facts, Section, axis, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smalti.tl import DeletionTest, Stability

MONITOR = "monitor"
GAP = 0.05
"""Rise of the validation loss over its best, relative to its fall, that counts as over-fitting."""
OPEN_HALF = 0.5
MOST_SHOWN, N_DRAWS = 12, 5
STABLE = 0.5
"""Share of nearest cells that two seeds should share: then most of what a graph of neighbours says is the data's."""
PACKAGES = ("smalti", "torch", "scvi-tools", "lightning", "scanpy", "anndata", "mudata", "numpy", "scipy", "plotly")


def curves(facts: Facts) -> Section:
    """Return the section on training."""
    out = Section(
        key="training",
        title="Training",
        text="The weighted sum of all loss terms but adversarial ones, on cells for training and on cells held out. "
        "The weights of the best epoch were kept.",
    )
    history = facts.model.history or {}
    series = {end: _series(history.get(f"{MONITOR}_{end}")) for end in ("train", "validation")}
    for (end, values), color in zip(series.items(), MODEL_COLORS, strict=False):
        if len(values):
            trace = {
                "type": "scatter",
                "mode": "lines",
                "name": end if end == "validation" else "training",
                "x": values.index.tolist(),
                "y": [float(f"{v:.6g}") for v in values],
                "line": {"color": color},
            }
            if not out.figures:
                out.figures.append(
                    {"data": [], "layout": {"xaxis": axis("epoch"), "yaxis": axis("loss"), "height": 320}}
                )
            out.figures[0]["data"].append(trace)
    held = series["validation"]
    if not len(held):
        out.verdict = "Nothing was held out, so that nothing is known of over-fitting: train with `train_size` below 1."
        return out
    best, first, last = float(held.min()), float(held.iloc[0]), float(held.iloc[-1])
    fall = max(first - best, 1e-12)
    rise = (last - best) / fall
    planned = len(_series(history.get("train_loss"))) or int(held.index[-1]) + 1
    out.scores = {"best_epoch": float(held.idxmin()), "epochs": float(planned)}
    late = bool(held.idxmin() == held.index[-1]) and len(held) > 2
    out.level = "attention" if late or fall <= 1e-12 else "good"
    out.verdict = (
        f"The validation loss was lowest in epoch {held.idxmin():g} of {planned:,} ({best:.4g}; baseline, the first "
        f"that "
        f"was looked at: {first:.4g}); at the end it stood {percent(max(rise, 0))} of that fall above its best "
        f"(threshold "
        f"{percent(GAP)}; the null, a network that learns nothing, does not fall at all)"
        f"{'; it was still falling, so train longer' if late else ''}"
        f"{'; later epochs over-fit and were not kept' if rise > GAP and not late else ''}."
    )
    return out


def gates(facts: Facts) -> Section | None:
    """Return the section on selected features; ``None`` for a model without gates."""
    names = facts.model.gate_names()
    if not names:
        return None
    out = Section(
        key="gates",
        title="Selected features",
        text="Gates open for features that the model needs. The probability is that of the gate being open.",
    )
    parts = []
    for name in names:
        table = facts.model.get_gates(name)
        top = table.sort_values("gate_prob", ascending=False).head(MOST_SHOWN)
        out.tables.append(top[[c for c in ("gate", "gate_prob", "selected") if c in top]].round(3).rename_axis(name))
        p = np.sort(table["gate_prob"].to_numpy())[::-1]
        at = np.unique(np.linspace(0, len(p) - 1, min(len(p), 400)).astype(int))
        trace = {"type": "scatter", "mode": "lines", "name": name, "x": (at + 1).tolist(), "y": p[at].round(4).tolist()}
        if not out.figures:
            layout = {
                "xaxis": axis("features, most open first", type="log"),
                "yaxis": axis("probability"),
                "height": 300,
            }
            out.figures.append({"data": [], "layout": layout})
        out.figures[0]["data"].append(trace)
        undecided = float(((p > 0.1) & (p < 0.9)).mean())
        out.scores[f"selected_{name}"] = float(table["selected"].sum())
        parts.append((name, int(table["selected"].sum()), len(table), undecided))
    worst = max(undecided for *_, undecided in parts)
    tests = list(_deletions(facts, names))
    idle = any(not found.matters for found in tests)
    out.notes += [repr(found) for found in tests]
    empty = any(n in (0, total) for _, n, total, _ in parts)
    out.level = "attention" if worst > OPEN_HALF or empty or idle else "good" if tests else "unknown"
    said = ", ".join(f"{n:,} of {total:,} of {name}" for name, n, total, _ in parts)
    if not tests:
        out.verdict = f"Selected: {said}; too few pairs were held out to test whether they matter."
        return out
    said_tests = "; ".join(
        f"without those of {t.modality} {percent(t.deleted)} of candidates are nearer than the partner (threshold "
        f"{percent(float(t.random.max()))}, the most of {len(t.random)} deletions of as many others; baseline "
        f"{percent(t.intact)}, all features; null 50%)"
        for t in tests
    )
    open_half = f"{percent(worst)} of gates are undecided (threshold {percent(OPEN_HALF)})"
    out.verdict = f"Selected: {said}; {open_half}; {said_tests}."
    return out


def _deletions(facts: Facts, names: list[str]) -> Iterator[DeletionTest]:
    """Yield what deleting the selected features of each modality costs, where that can be tested."""
    for name in names:
        if not facts.own:
            return
        try:
            yield tl.deletion_test(facts.model, name, n_draws=N_DRAWS, random_state=facts.random_state)
        except (ValueError, NotFittedError):  # too few pairs, or nothing or everything is selected
            continue


def stability(found: Stability | None, facts: Facts) -> Section:
    """Return the section on seeds."""
    out = Section(
        key="stability",
        title="Stability",
        text="The model trained again with other seeds: the share of nearest cells that two seeds agree on, and the "
        "spread of scores.",
    )
    if found is None:
        name = type(facts.model).__name__
        out.verdict = "Nothing is known of the spread over seeds: the model was trained once."
        batch = f", batch_key={facts.batch_key!r}" if facts.batch_key else ""
        out.code = (
            f"found = sm.tl.stability(sm.model.{name}, mdata, 3{batch})\n"
            'sm.report.write(model, mdata, "report.html", stability=found)'
        )
        return out
    for (name, values), color in zip(found.neighbourhood.items(), MODEL_COLORS, strict=False):
        known = values.dropna().to_numpy()
        counts, edges = np.histogram(known, bins=np.linspace(0, 1, found.n_neighbors + 1))
        trace = {
            "type": "bar",
            "name": str(name),
            "x": ((edges[:-1] + edges[1:]) / 2).round(4).tolist(),
            "y": (counts / max(len(known), 1)).round(4).tolist(),
            "marker": {"color": color},
        }
        if not out.figures:
            title = f"share of the {found.n_neighbors} nearest cells that two seeds share"
            layout = {"xaxis": axis(title, range=[0, 1]), "yaxis": axis("share of cells"), "height": 300}
            out.figures.append({"data": [], "layout": layout})
        out.figures[0]["data"].append(trace)
    table = found.spread.round(4)
    table.index = pd.Index([tl.score_title(str(name)) for name in table.index], name="score")
    out.tables.append(table)
    name, share = str(found.neighbourhood.columns[0]), float(found.neighbourhood.iloc[:, 0].mean())
    out.scores = {"neighbours_kept": share}
    out.level = "good" if share >= STABLE else "attention"
    sd = found.scores["total"].std() if "total" in found.scores else np.nan
    out.verdict = (
        f"In the {name} latent two of {len(found.seeds)} seeds share {percent(share)} of a cell's {found.n_neighbors} "
        f"nearest cells (threshold {percent(STABLE)}; baseline 100%, a method without a seed; null "
        f"{percent(found.chance)}, unrelated latents)"
        f"{'' if np.isnan(sd) else f'; the total score spreads by {sd:.3f} (one standard deviation)'}."
    )
    return out


def repeat(facts: Facts, command: str) -> Section:
    """Return the section on versions."""
    out = Section(
        key="repeat",
        title="Versions, and how to repeat it",
        text="What this page was made with.",
        level="good",
    )
    rows = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            rows[name] = version(name)
        except PackageNotFoundError:
            continue
    out.tables.append(pd.DataFrame({"version": rows}))
    digest = facts.model.adata_manager.fingerprint().digest()[:16] if facts.model.adata is not None else "not attached"
    out.code = command or _python(facts)
    out.verdict = (
        f"Seed {facts.model.random_state}; fingerprint of the data {digest}: the same data, versions and command give "
        "the same numbers on one machine, and numbers that differ by rounding on another."
    )
    return out


def _python(facts: Facts) -> str:
    name = type(facts.model).__name__
    keys = "".join(f", {key}={getattr(facts, key)!r}" for key in ("batch_key", "labels_key") if getattr(facts, key))
    config = ", ".join(
        f"{k}={v!r}" for k, v in facts.model.config_.items() if not isinstance(v, dict) and v is not None
    )
    modalities = {m: spec.get("likelihood") for m, spec in facts.setup.get("modalities", {}).items()}
    return (
        f"sm.model.{name}.setup_mudata(mdata, modalities={modalities!r}{keys})\n"
        f"model = sm.model.{name}(mdata{', ' + config if config else ''})\n"
        'model.train()\nsm.report.write(model, mdata, "report.html")'
    )


def _series(values: Any) -> pd.Series:
    if values is None:
        return pd.Series(dtype=float)
    table = values.iloc[:, 0] if isinstance(values, pd.DataFrame) else pd.Series(values)
    return pd.to_numeric(table, errors="coerce").dropna()
