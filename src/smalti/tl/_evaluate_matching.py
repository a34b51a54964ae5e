"""The part of an evaluation that looks at pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti import metrics
from smalti._validate import shorten
from smalti.tl._evaluate_inputs import Latents, Pairs, depth, find_pairs
from smalti.tl._evaluation import MATCHING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

MIXING_NEIGHBORS, VOTES, LEAST_BATCH = 30, 15, 20
MAX_PAIRS = 20_000
"""Pairs that are scored; of more, so many are drawn."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Whose partners are sought, among whom."""

    pairs: Pairs
    groups: NDArray[Any]
    """``(n_pairs,)`` batch of each pair; one for all without batches."""
    totals: dict[str, NDArray[np.float64]] | None
    """``{modality: (n_pairs,)}`` logarithms of total counts."""
    k: int

    def scores(
        self, mdata: MuData, latents: Latents, labels: NDArray[Any] | None, *, seed: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return scores, and what a blind guess scores."""
        (first, second), rows, k = self.pairs.modalities, self.pairs.rows, self.k
        x, y = latents.of(first, rows[0], mdata.obs_names), latents.of(second, rows[1], mdata.obs_names)
        x_totals, y_totals = (None, None) if self.totals is None else (self.totals[first], self.totals[second])
        found = metrics.matching_scores(
            x, y, groups=self.groups, x_totals=x_totals, y_totals=y_totals, k=k, least_group=1, seed=seed
        )
        out, blind = {"foscttm": found.foscttm}, {"foscttm": 0.5}
        if found.foscttm_depth is not None:
            out["foscttm_depth"], blind["foscttm_depth"] = found.foscttm_depth, 0.5
        out |= {f"matching_k{k}": found.matching, f"recall_at_{k}": found.recall}
        blind |= {f"matching_k{k}": found.chance_matching, f"recall_at_{k}": found.chance_recall}
        if labels is not None:
            ways = ((first, x, rows[0], second, y, rows[1]), (second, y, rows[1], first, x, rows[0]))
            votes = min(VOTES, *(int(pd.notna(labels[at]).sum()) for at in rows))
            for a, z_from, at_from, b, z_to, at_to in ways if votes else ():
                name = f"transfer {a} -> {b}"
                out[name] = metrics.label_transfer(z_from, labels[at_from], z_to, labels[at_to], k=votes)
                blind[name] = float(pd.Series(labels[at_to]).value_counts(normalize=True).iloc[0])
        near = min(MIXING_NEIGHBORS, 2 * len(x) - 1)
        out["mixing"] = metrics.modality_mixing(np.vstack([x, y]), np.repeat([first, second], len(x)), k=near)
        return out, blind


def plan_search(
    mdata: MuData,
    modalities: tuple[str, str] | None,
    batch: NDArray[Any] | None,
    layers: Mapping[str, str],
    notes: dict[str, str],
    *,
    k: int,
    seed: int,
) -> Search | None:
    """Return the pairs to score and their batches and depths; or None, and say why in the notes."""
    pairs = find_pairs(mdata, modalities)
    if isinstance(pairs, str):
        notes[MATCHING] = pairs
        return None
    first, second = pairs.rows
    groups = np.zeros(len(first), dtype=object) if batch is None else batch[first]
    sizes = pd.Series(groups).map(pd.Series(groups).value_counts()).fillna(0).to_numpy()
    rows = np.flatnonzero(sizes >= (0 if batch is None else LEAST_BATCH))
    if not len(rows):
        notes[MATCHING] = f"no batch has {LEAST_BATCH} pairs to score, so there is nothing to search among."
        return None
    if len(rows) < len(first):
        notes[MATCHING] = f"{len(first) - len(rows)} pairs are left out, in batches of fewer than {LEAST_BATCH} pairs."
    if len(rows) > MAX_PAIRS:
        notes[MATCHING] = f"{MAX_PAIRS:,} pairs are scored, drawn from {len(rows):,}."
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_PAIRS, replace=False))
    pairs = Pairs(modalities=pairs.modalities, rows=(first[rows], second[rows]), held_out=pairs.held_out)
    groups = groups[rows]
    return Search(
        pairs=pairs,
        groups=groups,
        totals=_totals(mdata, pairs, layers, notes),
        k=min(k, int(pd.Series(groups).value_counts().min())),
    )


def lacks_single(name: str, latents: Latents, pairs: Pairs) -> str | None:
    """Return why pairs that are not hidden cannot be scored with these latents, or None if they can."""
    lacking: Sequence[str] = [m for m in pairs.modalities if m not in latents.single]
    if pairs.held_out or not lacking:
        return None
    return (
        "no pair is hidden, and for cells with both modalities the latent from each alone is needed, as "
        "`get_latent_representation(modality=...)` returns it; `mdata.obsm` has no "
        f"{shorten(f'{name}_{m}' for m in lacking)}."
    )


def _totals(
    mdata: MuData, pairs: Pairs, layers: Mapping[str, str], notes: dict[str, str]
) -> dict[str, NDArray[np.float64]] | None:
    found = {}
    for name, rows in zip(pairs.modalities, pairs.rows, strict=True):
        totals = depth(mdata, name, rows, layers.get(name))
        if totals is None:
            notes[f"{MATCHING}, equal depth"] = (
                f"the values of {name!r} are no counts (negative or missing); name the layer with counts in `layers`."
            )
            return None
        found[name] = totals
    return found
