"""Which model for which mosaic, and why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from smalti.data import LEAST_SHARED, linked_groups, shared_cells

from ._catalogue import NO_MODEL, entry, example_code
from ._feature_links import links_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from ._feature_links import FeatureLink

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
    """Name of the class in :mod:`smalti.model`; ``"none"`` if no method is for such data."""
    reasons: tuple[str, ...]
    """Why, one sentence each; for ``"none"`` also what is missing."""
    code: str | None = None
    """The calls that fit it; ``None`` for ``"none"``."""
    pairs: str = ""
    """What the number of pairs is enough for."""
    alternatives: tuple[str, ...] = ()
    """Other models, each with the wish for which it would be the better choice."""


def recommend(
    here: NDArray[np.bool_],
    names: list[str],
    labels: pd.DataFrame | None,
    *,
    modalities: Mapping[str, str] | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    links: Sequence[FeatureLink] = (),
    bulk: Mapping[str, str | None] | None = None,
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
    modalities
        What ``setup_mudata`` is told of each modality, as code.
    batch_key, labels_key
        Columns with batches and labels, for the code.
    links
        How features of modalities are linked, as :func:`~smalti.tl._feature_links.find_links` returns it.
    bulk
        Modalities that ``pp.bulk`` must prepare, with the layer that holds their values.
    """
    if len(names) < 2:
        found = f"only {names[0]!r} has cells" if names else "no modality has cells"
        return Recommendation(model="none", reasons=(f"Integration needs two modalities, but {found}.",))
    both = shared_cells(here)
    np.fill_diagonal(both, 0)
    groups = [[names[i] for i in group] for group in linked_groups(here)]
    code = partial(example_code, modalities=modalities, batch_key=batch_key, labels_key=labels_key, bulk=bulk)
    if len(groups) > 1:
        return _unlinked(both, names, groups, labels, links, code)
    reasons = [_pairs_reason(here)]
    if (both + LEAST_SHARED * np.eye(len(names)) < LEAST_SHARED).any():
        reasons.append("Not every two modalities share cells, but chains of pairs link them all.")
    name, filled = "CLUE", float(here.mean())
    if len(names) >= 3 and filled < SPARSE:
        name = "MCA"
        reasons.append(entry(name).why.format(n_modalities=len(names), filled=filled))
    few = _weakest(both, names)[0] < FEW_PAIRS
    return Recommendation(
        model=name,
        reasons=tuple(reasons),
        code=code(name),
        pairs=pairs_hint(both, names),
        alternatives=_alternatives(labels, "UnpairedCCA" if few else None),
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
    count, first, second = _weakest(both, names)
    if not count:
        return ""
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


def _weakest(both: NDArray[np.int64], names: list[str]) -> tuple[int, str, str]:
    """Return the fewest pairs in the strongest chains, and whose they are; 0 if no modality is linked to another."""
    tree = minimum_spanning_tree(1 / np.where(both >= LEAST_SHARED, both, np.inf)).tocoo()
    links = [(int(both[i, j]), names[i], names[j]) for i, j in zip(tree.row, tree.col, strict=True)]
    return min(links, default=(0, "", ""))


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
    links: Sequence[FeatureLink],
    code: Callable[..., str],
) -> Recommendation:
    """Recommend where pairs do not link all modalities: labels can, or linked features, or nothing."""
    reasons = [_no_pairs_reason(both, groups)]
    hint = pairs_hint(both, names)
    useful = _bridges(links, groups)
    if labels is not None and _connect(_label_pairs(labels, names), groups):
        shared = int((labels[names] > 0).all(axis=1).sum())
        reasons.append(entry("MODIS").why.format(n_shared_labels=shared, n_labels=len(labels)))
        others = _alternatives(None, "UnpairedCCA", clusters=False)
        return Recommendation(
            model="MODIS", reasons=tuple(reasons), code=code("MODIS"), pairs=hint, alternatives=others
        )
    if useful is not None:
        said = " and ".join(map(str, useful))
        reasons.append(entry("UnpairedCCA").why.format(n_links=said))
        lines = code("UnpairedCCA", links=links_code(useful))
        return Recommendation(model="UnpairedCCA", reasons=tuple(reasons), code=lines, pairs=hint)
    lacks = "There are no labels" if labels is None else "No label occurs in modalities that pairs do not link"
    reasons.append(f"{lacks}, and no features with names in common: {NO_MODEL}.")
    reasons.append(
        "Bring one of these: a table of linked features (genes and their proteins or regions) for "
        "`sm.model.UnpairedCCA(mdata, links=...)`, class labels for some cells of each modality "
        "(`labels_key`), or a few hundred cells measured in both."
    )
    if len(groups[0]) > 1:
        reasons.append(f"{' + '.join(groups[0])} alone can be integrated by CLUE: `modalities={groups[0]}`.")
    return Recommendation(model="none", reasons=tuple(reasons), pairs=hint)


def _no_pairs_reason(both: NDArray[np.int64], groups: list[list[str]]) -> str:
    if len(groups[0]) > 1:
        return f"No chain of paired cells links {' with '.join(' + '.join(group) for group in groups)}."
    if both.any():
        return f"Two modalities share at most one cell; it takes {LEAST_SHARED} at least to learn a link from."
    return "No cell has two modalities: there is no pair to learn the link from."


def _label_pairs(labels: pd.DataFrame, names: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of modalities that have a label in common."""
    here = (labels[names] > 0).to_numpy()
    common = here.T.astype(np.int64) @ here
    return [(names[i], names[j]) for i, j in np.argwhere(np.triu(common, k=1))]


def _connect(pairs: Iterable[tuple[str, str]], groups: list[list[str]]) -> bool:
    """Return whether pairs of modalities join all groups, directly or in a chain."""
    of = {name: i for i, group in enumerate(groups) for name in group}
    table = np.zeros((len(groups), len(groups)))
    for a, b in pairs:
        table[of[a], of[b]] = 1
    return int(connected_components(table, directed=False)[0]) == 1


def _bridges(links: Sequence[FeatureLink], groups: list[list[str]]) -> list[FeatureLink] | None:
    """Return the links between different groups, most features first; ``None`` if they do not join all groups."""
    of = {name: i for i, group in enumerate(groups) for name in group}
    found = sorted((link for link in links if of[link.named] != of[link.naming]), key=lambda link: -link.n)
    return found if _connect([(link.named, link.naming) for link in found], groups) else None


def _alternatives(labels: pd.DataFrame | None, also: str | None, *, clusters: bool = True) -> tuple[str, ...]:
    """Return other models with their wishes; those that do not exist yet are said to be missing."""
    found = [] if also is None else [also]
    if labels is None and clusters:
        found.append("FusionClustering")
    elif labels is not None and (labels == 0).any(axis=None):
        found.append("OverlapManifold")
    return tuple(
        f"{name}{'' if entry(name).available else ' (not in this version)'} {entry(name).wish}" for name in found
    )
