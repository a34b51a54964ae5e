"""Section on the latent: a map with switchable colours, and scores beside the linear latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti import pl, tl

from ._section import Facts, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PRESENCE = "presence"
MAX_GROUPS = 60
GREY = "#C8C8C8"
MIXED = 0.5
"""iLISI above which neighbourhoods are closer to a random mixture than to separate groups."""
GUESSES = ("leiden", "cluster", "celltype", "cell_type")
"""Columns that are offered as colours if they are there, besides those of the set-up."""


def latent(facts: Facts, colors: Sequence[str], max_cells: int) -> tuple[Section, dict[str, Any]]:
    """Return the section, and the points of the map for the script of the page.

    Parameters
    ----------
    facts
        Model and data.
    colors
        Names that :func:`smalti.tl.cell_values` knows, besides presence, batch and labels.
    max_cells
        Most points to draw.
    """
    z = facts.latent
    here = np.flatnonzero(np.isfinite(z).all(axis=1))
    rng = np.random.default_rng(facts.random_state)
    shown = rng.permutation(here)[:max_cells]
    out = Section(
        key="latent",
        title="The latent",
        text="A UMAP of all cells; choose what to colour by. A UMAP shows who is near whom, not how well modalities "
        "match.",
    )
    if len(shown) < len(here):
        out.notes.append(f"{len(shown):,} of {len(here):,} cells are drawn, chosen at random.")
    points = _points(facts, shown, colors)
    _score(facts, out)
    return out, points


def _points(facts: Facts, shown: NDArray[np.int64], colors: Sequence[str]) -> dict[str, Any]:
    xy = None
    for key, value in facts.mdata.obsm.items():
        if np.shape(value) == facts.latent.shape and np.array_equal(np.asarray(value), facts.latent):
            xy = pl.stored_umap(facts.mdata, str(key))
    if xy is None:
        xy = np.full((facts.mdata.n_obs, 2), np.nan)
        xy[shown] = pl.umap_coordinates(facts.latent[shown], random_state=facts.random_state)
    wanted = [facts.batch_key, facts.labels_key, *colors, *(g for g in GUESSES if g in facts.mdata.obs)]
    columns = {PRESENCE: _groups(facts.patterns.iloc[shown])}
    for name in dict.fromkeys(filter(None, wanted)):
        values = tl.cell_values(facts.mdata, name).iloc[shown]
        numeric = pd.api.types.is_numeric_dtype(values) and values.nunique() > 20
        columns[name] = _numbers(values) if numeric else _groups(values)
    return {
        "x": np.round(xy[shown, 0].astype(float), 2).tolist(),
        "y": np.round(xy[shown, 1].astype(float), 2).tolist(),
        "columns": columns,
    }


def _groups(values: pd.Series) -> dict[str, Any]:
    text = values.astype(object).where(values.notna(), None)
    names = [str(n) for n in (values.cat.categories if hasattr(values, "cat") else pd.unique(text.dropna()))]
    names = names if hasattr(values, "cat") else sorted(names)
    if len(names) > MAX_GROUPS:
        most = text.dropna().astype(str).value_counts().index[: MAX_GROUPS - 1]
        names = [n for n in names if n in set(most)]
    place = {name: i for i, name in enumerate(names)}
    codes = [-1 if v is None else place.get(str(v), -1) for v in text]
    return {
        "kind": "groups",
        "names": names,
        "colors": list(pl.category_colors(names).values()),
        "rest": GREY,
        "codes": codes,
    }


def _numbers(values: pd.Series) -> dict[str, Any]:
    known = [None if not np.isfinite(v) else float(f"{v:.3g}") for v in values.to_numpy(dtype=float)]
    return {"kind": "numbers", "values": known, "scale": str(values.attrs.get("scale", ""))}


def _score(facts: Facts, out: Section) -> None:
    """Add scores beside the linear latent, and the verdict."""
    embeddings: dict[str, Any] = {type(facts.model).__name__: facts.latent}
    if facts.linear_joint is not None:
        embeddings["linear CCA + Harmony"] = facts.linear_joint
    found = tl.evaluate(
        facts.mdata, embeddings, batch_key=facts.batch_key, labels_key=facts.labels_key, random_state=facts.random_state
    )
    frame = found.to_frame().query("part != 'matching'")
    if not len(frame):
        out.verdict = "No score could be computed: " + " ".join(f"{k}: {v}" for k, v in found.notes.items())
        return
    table = frame[[*found.scores.index, "better", "meaning"]].copy()
    table.index = pd.Index([f"{p}: {t}" for p, t in zip(frame["part"], frame["title"], strict=True)], name="score")
    out.tables.append(table.round(3))
    out.notes += [f"{part}: {why}" for part, why in found.notes.items() if not part.startswith("matching")]
    first, rival = found.scores.iloc[0], found.scores.iloc[-1] if len(found.scores) > 1 else None
    out.scores = {str(k): float(v) for k, v in first.items() if k in ("bio", "batch", "presence", "total")}
    key = next((k for k in ("total", "presence", "batch") if k in first and pd.notna(first[k])), None)
    if key is None:
        out.verdict = "Neither types, batches nor several presence patterns within a batch are known to score by."
        return
    beside = "" if rival is None else f", the linear latent {rival[key]:.2f} (baseline)"
    mixing = first.get("ilisi_presence", first.get("ilisi_batch", np.nan))
    worse = rival is not None and first[key] < rival[key] - 0.01
    unmixed = bool(pd.notna(mixing) and mixing < MIXED)
    out.level = "attention" if worse or unmixed else "good"
    said = (
        ""
        if pd.isna(mixing)
        else (
            f"; neighbourhoods hold {mixing:.2f} of a random mixture of "
            f"{'presence patterns' if 'ilisi_presence' in first else 'batches'} (threshold {MIXED}; null 0, groups "
            "apart; 1 is a random mixture)"
        )
    )
    null = "" if key != "total" else ", and clusters dealt at random agree with types to 0.00 (null of the ARI)"
    out.verdict = f"The score '{key}' is {first[key]:.2f}{beside}{null}{said}."
