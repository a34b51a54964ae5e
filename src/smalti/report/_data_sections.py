"""Sections about the data: who was measured in what, and whether that can be told from the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti import tl
from smalti.data import shared_cells
from smalti.tl import FEW_PAIRS, SOME_PAIRS, pairs_hint

from ._section import Facts, Section, axis, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFOUNDED = 0.9
"""Cramér's V above which batch and pattern say nearly the same: 1 is a function of one another."""
N_DRAWS = 200


def measured(facts: Facts) -> Section:
    """Return the section on presence."""
    out = Section(
        key="measured",
        title="Who was measured in what",
        text="Cells by the modalities they were measured in, and by batch. A cell counts as measured if the modality "
        "has a row for it, whatever its values.",
    )
    batch = np.full(facts.mdata.n_obs, "all cells", dtype=object) if facts.batch is None else facts.batch
    table = pd.crosstab(facts.patterns, pd.Series(batch, index=facts.patterns.index).fillna("missing"))
    out.figures.append(
        {
            "data": [
                {
                    "type": "heatmap",
                    "z": table.to_numpy().tolist(),
                    "x": table.columns.astype(str).tolist(),
                    "y": table.index.astype(str).tolist(),
                    "text": [[f"{n:,}" for n in row] for row in table.to_numpy()],
                    "texttemplate": "%{text}",
                    "colorscale": [[0, "#ffffff"], [1, "#56B4E9"]],
                    "showscale": False,
                    "hovertemplate": "%{y}, %{x}: %{z} cells<extra></extra>",
                }
            ],
            "layout": {
                "height": 140 + 46 * len(table),
                "xaxis": axis(facts.batch_key or "", type="category"),
                "yaxis": axis(type="category", autorange="reversed"),
            },
        }
    )
    sizes = facts.presence.sum(axis=0)
    out.tables.append(
        pd.DataFrame(
            {
                "cells": sizes,
                "share": [percent(n / max(facts.mdata.n_obs, 1)) for n in sizes],
                "features": [facts.mdata.mod[name].n_vars for name in facts.names],
            },
            index=pd.Index(facts.names, name="modality"),
        )
    )
    pairs = int((facts.presence.sum(axis=1) > 1).sum())
    n = max(facts.mdata.n_obs, 1)
    both = shared_cells(facts.presence)
    np.fill_diagonal(both, 0)
    out.scores = {"cells": float(n), "paired": float(pairs)}
    out.level = "good" if pairs >= SOME_PAIRS else "attention"
    hint = pairs_hint(both, facts.names)
    out.verdict = (
        f"{pairs:,} of {n:,} cells ({percent(pairs / n)}) were measured in two modalities or more; {SOME_PAIRS} is the "
        f"threshold above which cell types and states can be matched, {FEW_PAIRS} the baseline for types alone, and "
        f"without pairs (the null) only labels or linked features can match cells. {hint}"
    )
    found = tl.describe_mosaic(facts.mdata, batch_key=facts.batch_key, labels_key=facts.labels_key)
    out.notes = [*found.problems, *found.notes]
    return out


def confounding(facts: Facts) -> Section:
    """Return the section on batches and presence patterns."""
    out = Section(
        key="confounding",
        title="Batches against modalities",
        text="Integration mixes batches and presence patterns. Where every batch was measured in a way of its own, the "
        "two cannot be told apart, and biology that goes with them is mixed away.",
    )
    if facts.batch is None:
        out.verdict = "Nothing is known of batches: name their column as `batch_key`."
        return out
    known = pd.notna(facts.batch)
    batch, pattern = pd.factorize(facts.batch[known])[0], facts.patterns.cat.codes.to_numpy()[known]
    if len(np.unique(batch)) < 2 or len(np.unique(pattern)) < 2:
        out.level = "good"
        out.verdict = "There is one batch or one presence pattern, so that nothing can be confounded."
        return out
    several = [len(np.unique(pattern[batch == b])) > 1 for b in np.unique(batch)]
    value = cramers_v(batch, pattern)
    rng = np.random.default_rng(facts.random_state)
    null = float(np.mean([cramers_v(batch, rng.permutation(pattern)) for _ in range(N_DRAWS)]))
    out.figures.append(_shares(facts, known))
    out.scores = {"confounding": value}
    out.level = "attention" if value > CONFOUNDED else "good"
    out.verdict = (
        f"Batch and presence pattern go together with Cramér's V {value:.2f} (threshold {CONFOUNDED}; 1 is the "
        f"baseline of a design in which either tells the other; {null:.2f} the null of patterns dealt to cells at "
        f"random); "
        f"{sum(several)} of {len(several)} batches have cells of more than one pattern."
    )
    return out


def cramers_v(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Cramér's V of two columns of codes, in ``[0, 1]``; 0 is independent."""
    table = pd.crosstab(a, b).to_numpy(dtype=float)
    n = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chi2 = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi2 / (n * max(min(table.shape) - 1, 1))))


def _shares(facts: Facts, known: NDArray[np.bool_]) -> dict[str, Any]:
    table = pd.crosstab(facts.patterns.astype(str).to_numpy()[known], facts.batch[known])  # type: ignore[index]
    table = table / table.sum()
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "name": str(name),
                "x": row.round(4).tolist(),
                "y": table.columns.astype(str).tolist(),
                "hovertemplate": "%{x:.0%} of %{y}",
            }
            for name, row in table.iterrows()
        ],
        "layout": {
            "barmode": "stack",
            "height": 130 + 34 * table.shape[1],
            "xaxis": axis("share of the cells of a batch", tickformat=".0%"),
            "yaxis": axis(type="category", autorange="reversed"),
        },
    }
