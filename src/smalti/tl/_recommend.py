"""Which model for which mosaic, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from smalti import model

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

FEW_PAIRS, SOME_PAIRS, MANY_PAIRS = 50, 200, 800
"""Measured by hiding pairs of three data sets (two of blood, RNA and proteins; one of cortex, RNA and accessibility)
and linking the others by linear CCA, three seeds each. FOSCTTM of hidden pairs with 25 / 50 / 200 / 800 / all (640 to
8,247) pairs: blood 0.092 / 0.070 / 0.047 / - / 0.043 and 0.110 / 0.080 / 0.059 / 0.048 / 0.046, cortex 0.27 / 0.12 /
0.082 / 0.066 / 0.060."""
SPARSE = 0.5
"""Share of measured (cell, modality) entries below which a mosaic of three or more modalities counts as mostly missing;
half is where a cell lacks as much as it has."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A model for a mosaic, with reasons."""

    model: str
    """Name of the class in :mod:`smalti.model`, or of the planned one."""
    available: bool
    """Whether this version of smalti has it."""
    reasons: tuple[str, ...]
    """Why, one sentence each."""
    meanwhile: str | None = None
    """What to do while the model does not exist; ``None`` if it does."""
    code: str | None = None
    """The calls that fit what is available; ``None`` if nothing is."""
    pairs: str = ""
    """What the number of pairs is enough for."""
    alternatives: tuple[str, ...] = ()
    """Other models, each with the wish for which it would be the better choice."""


def recommend(
    here: NDArray[np.bool_],
    names: list[str],
    labels: pd.DataFrame | None,
    *,
    arguments: str = "",
    batch_key: str | None = None,
) -> Recommendation:
    """Recommend a model.

    Parameters
    ----------
    here
        ``(n_obs, M)`` presence in the modalities that have cells.
    names
        Names of these modalities.
    labels
        Numbers of cells by label (rows) and modality (columns ``names``); ``None`` without labels.
    arguments
        Arguments of ``setup_mudata`` after the MuData, as code.
    batch_key
        Column with batches, for the call of the linear baseline.
    """
    if len(names) < 2:
        found = f"only {names[0]!r} has cells" if names else "no modality has cells"
        return Recommendation(
            model="none", available=False, reasons=(f"Integration needs two modalities, but {found}.",)
        )
    both = here.T.astype(np.int64) @ here.astype(np.int64)
    np.fill_diagonal(both, 0)
    groups = _linked(both, names)
    if len(groups) > 1:
        return _unlinked(both, names, groups, labels, arguments, batch_key)
    reasons = [_pairs_reason(here)]
    if (both + np.eye(len(names)) == 0).any():
        reasons.append("Not every two modalities share cells, but chains of pairs link them all.")
    code, hint, others = _code(arguments, batch_key), pairs_hint(both, names), _alternatives(labels)
    filled = float(here.mean())
    if len(names) >= 3 and filled < SPARSE:
        reasons.append(f"There are {len(names)} modalities, and only {filled:.0%} of all possible measurements exist.")
        available = hasattr(model, "MCA")
        return Recommendation(
            model="MCA",
            available=available,
            reasons=tuple(reasons),
            meanwhile=None if available else "Use CLUE, which takes any number of modalities in any pattern.",
            code=code.replace("CLUE", "MCA").replace("clue", "mca") if available else code,
            pairs=hint,
            alternatives=others,
        )
    return Recommendation(
        model="CLUE", available=True, reasons=tuple(reasons), code=code, pairs=hint, alternatives=others
    )


def pairs_hint(both: NDArray[np.int64], names: list[str]) -> str:
    """Say what the number of pairs is enough for, judged by the weakest link that is needed.

    Parameters
    ----------
    both
        ``(M, M)`` number of cells that two modalities share, 0 on the diagonal.
    names
        Names of the modalities.
    """
    tree = minimum_spanning_tree(1 / np.where(both > 0, both, np.inf)).tocoo()
    links = [(int(both[i, j]), names[i], names[j]) for i, j in zip(tree.row, tree.col, strict=True)]
    if not links:
        return ""
    count, first, second = min(links)
    if count < FEW_PAIRS:
        verdict = (
            "are too few to match single cells; expect coarse cell types at best, and a few hundred to change that"
        )
    elif count < SOME_PAIRS:
        verdict = "are enough to carry cell types over, few for matching single cells. A few hundred change that"
    elif count < MANY_PAIRS:
        verdict = "are enough for cell types and states; matching would still gain from more"
    else:
        verdict = "are plenty: where we measured it, matching gained little beyond that"
    weakest = " (the weakest link)" if len(names) > 2 else ""
    return f"{count:,} pairs of {first} and {second}{weakest} {verdict}."


def _linked(both: NDArray[np.int64], names: list[str]) -> list[list[str]]:
    """Return the groups of modalities that chains of paired cells link."""
    count, group = connected_components(both > 0, directed=False)
    return [[name for name, g in zip(names, group, strict=True) if g == i] for i in range(count)]


def _pairs_reason(here: NDArray[np.bool_]) -> str:
    paired, n_obs = int((here.sum(axis=1) > 1).sum()), len(here)
    if paired == n_obs:
        return "Every cell has two or more modalities: pairs to learn the link from."
    return (
        f"{paired:,} of {n_obs:,} cells ({paired / n_obs:.0%}) have two or more modalities: pairs to learn the link "
        "from. The others are placed by what they have."
    )


def _unlinked(
    both: NDArray[np.int64],
    names: list[str],
    groups: list[list[str]],
    labels: pd.DataFrame | None,
    arguments: str,
    batch_key: str | None,
) -> Recommendation:
    """Recommend where pairs do not link all modalities: labels can, or structure alone."""
    largest = max(groups, key=len)
    if len(largest) == 1:
        reasons = ["No cell has two modalities: there is no pair to learn the link from."]
        meanwhile = (
            "Nothing in this version links modalities without paired cells. Measure a few hundred cells in both, or "
            "add paired cells of another study with the same features."
        )
    else:
        reasons = [f"No chain of paired cells links {' with '.join(' + '.join(group) for group in groups)}."]
        meanwhile = (
            f"Nothing in this version links them without paired cells; {' + '.join(largest)} alone can be integrated "
            f"by CLUE: `modalities={largest}`."
        )
    if labels is None or not len(labels):
        reasons.append("There are no labels either, so only the structure of each modality can link them.")
        name = "UnpairedCCA"
    else:
        shared = int((labels[names] > 0).all(axis=1).sum())
        reasons.append(f"{shared} of {len(labels)} labels occur in all modalities and can stand in for pairs.")
        name = "MODIS"
    available = hasattr(model, name)
    code = _code(arguments, batch_key, baseline=False).replace("CLUE", name).replace("clue", name.lower())
    return Recommendation(
        model=name,
        available=available,
        reasons=tuple(reasons),
        meanwhile=None if available else meanwhile,
        code=code if available else None,
        pairs=pairs_hint(both, names),
    )


def _alternatives(labels: pd.DataFrame | None) -> tuple[str, ...]:
    found = []
    if labels is None:
        found.append(("FusionClustering", "if clusters are what you want"))
    elif (labels == 0).any(axis=None):
        found.append(("OverlapManifold", "if each modality sees another part of one continuum"))
    return tuple(f"{name}{'' if hasattr(model, name) else ' (not in this version)'} {why}" for name, why in found)


def _code(arguments: str, batch_key: str | None, *, baseline: bool = True) -> str:
    batch = f", batch_key={batch_key!r}" if batch_key else ""
    lines = [
        f"sm.tl.linear_cca(mdata{batch})  # the baseline to beat, in seconds" if baseline else "",
        f"sm.model.CLUE.setup_mudata(mdata{arguments})",
        "model = sm.model.CLUE(mdata)",
        "model.train()",
        'mdata.obsm["X_clue"] = model.get_latent_representation()',
    ]
    return "\n".join(line for line in lines if line)
