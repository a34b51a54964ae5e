"""Labels of a reference carried to a query: calibrated probabilities, prediction sets, and "unknown"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from smalti._validate import check_in_range, check_keys, check_seed, shorten
from smalti.align import CellMatch
from smalti.data import as_text
from smalti.model.base import MosaicModel

from ._keys import find_key
from ._label_fit import FittedLabels
from ._pattern_latents import PatternLatents, pattern_latents

UNKNOWN = "unknown"
MIN_CELLS = 5
"""Cells a label needs in the reference to be carried over: one for each fold."""


@dataclass(frozen=True, kw_only=True)
class LabelTransfer:
    """Labels of the cells of a query."""

    probabilities: pd.DataFrame
    """``(n, K)`` in [0, 1], rows sum to 1, calibrated on the reference; missing where a cell has no latent."""
    sets: pd.DataFrame
    """``(n, K)`` boolean: which labels are in the prediction set of each cell."""
    novelty: pd.Series
    """``(n,)`` in [0, 1]: share of the reference's cells that lie closer to other cells of the reference than the cell
    does; near 1 for what the reference lacks."""
    unknown: pd.Series
    """``(n,)`` boolean: whether the cell is farther from the reference than ``1 - unknown_share`` of its own cells."""
    coverage: float
    """Share of cells like those of the reference whose set holds their label; NaN for sets without that promise."""
    notes: tuple[str, ...] = ()
    """What has to be known of the labels."""

    @property
    def labels(self) -> pd.Series:
        """``(n,)`` the most probable label as text; ``"unknown"`` where nothing fits, missing without a latent."""
        known = self.probabilities.notna().all(axis=1)
        out = pd.Series(None, index=self.probabilities.index, dtype=object)
        out[known] = self.probabilities[known].idxmax(axis=1)
        out[self.unknown & known] = UNKNOWN
        return out

    @property
    def confidence(self) -> pd.Series:
        """``(n,)`` largest probability."""
        return self.probabilities.max(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """Return columns ``label``, ``confidence``, ``set`` (labels joined by ``|``), ``novelty`` and ``unknown``."""
        names = self.sets.columns.to_numpy(dtype=object)
        joined = ["|".join(names[row]) for row in self.sets.to_numpy()]
        return pd.DataFrame(
            {
                "label": self.labels,
                "confidence": self.confidence,
                "set": joined,
                "novelty": self.novelty,
                "unknown": self.unknown,
            }
        )

    def __repr__(self) -> str:
        n, sizes = len(self.probabilities), self.sets.sum(axis=1)
        lines = [
            f"Labels of {n:,} cells: {self.probabilities.shape[1]} labels, "
            f"mean confidence {self.confidence.mean():.2f}, {int(self.unknown.sum()):,} unknown",
            f"  prediction sets of {self.coverage:.0%} coverage: {sizes.mean():.2f} labels on average, "
            f"{(sizes == 1).mean():.0%} with one, {(sizes == 0).mean():.0%} empty",
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def transfer_labels(
    ref: MuData | AnnData,
    query: MuData | AnnData | CellMatch,
    key: str,
    *,
    use_rep: str = "X_clue",
    model: MosaicModel | None = None,
    batch_key: str | None = None,
    coverage: float = 0.9,
    unknown_share: float = 0.01,
    unlabeled_category: str = UNKNOWN,
    random_state: int = 0,
) -> LabelTransfer:
    """Carry labels from a reference to a query, as strings, with probabilities, sets and "unknown".

    Logistic regression on the latent of the reference. All that makes its answers honest is computed on cells of the
    reference that it was not fitted to, batch by batch where ``batch_key`` names several, so that the difference
    between donors is part of what is calibrated: the temperature of the probabilities, the threshold of the prediction
    sets, and the distances that count as far. With ``model``, query cells that were measured in fewer modalities are
    compared with the reference as seen from these modalities.

    A prediction set takes labels in the order of their probability until the sum reaches what ``coverage`` of the cells
    needed to have their true label in it, the last one by a draw :cite:p:`Romano2020`. Sets thus grow where labels are
    hard to tell apart, and the promise holds for easy and for hard cells; a share of cells whose label is nearly
    certain
    gets an empty set by the draw, unless ``coverage`` asks for more.

    Parameters
    ----------
    ref
        Cells with labels in ``ref.obs[key]``.
    query
        Cells to label, or what :func:`smalti.tl.match` or ``UnpairedCCA.match`` returned: labels of its targets, found
        in ``ref``, are then averaged over the partners of each source cell, without calibration.
    key
        Column of ``ref.obs``. Labels with fewer than 5 cells are not carried over.
    use_rep
        Key of ``.obsm`` with the latent in both, with or without ``X_``; not used with ``model``.
    model
        Model that embeds both, such as what ``load_query`` returned.
    batch_key
        Column of ``ref.obs``, such as the donor.
    coverage
        Share of cells whose set shall hold their label.
    unknown_share
        Share of cells of the reference itself that would be called unknown.
    unlabeled_category
        Value of the column that means "no label", besides missing ones.
    random_state
        Seed of folds and of the draw.

    Raises
    ------
    KeyError
        If the column or latent does not exist.
    ValueError
        If fewer than two labels have enough cells, or latents have different widths.

    Examples
    --------
    >>> found = sm.tl.transfer_labels(ref, query, "celltype", use_rep="X_clue", batch_key="donor")
    >>> query.obs = query.obs.join(found.to_frame())
    """
    for data, name in ((ref, "ref"), (query, "query")):
        if not isinstance(data, AnnData | MuData) and not (isinstance(data, CellMatch) and name == "query"):
            raise TypeError(f"Expected `{name}` to be a MuData or an AnnData, found the type {type(data).__name__}.")
    if model is not None and not isinstance(model, MosaicModel):
        raise TypeError(f"Expected `model` to be a trained model, found the type {type(model).__name__}.")
    check_seed(random_state)
    check_in_range(coverage, 0.5, 0.999, "coverage")
    check_in_range(unknown_share, 0.0, 0.5, "unknown_share")
    check_keys([key], list(ref.obs.columns), "Column of `ref.obs`")
    text = as_text(ref.obs[key])
    text = text.where(text != unlabeled_category)
    if isinstance(query, CellMatch):
        return _along_plan(text, query)
    counts = text.value_counts()
    small = sorted(counts.index[counts < MIN_CELLS])
    text = text.where(~text.isin(small))
    notes = [f"not carried over, with fewer than {MIN_CELLS} cells: {shorten(small)}"] if small else []
    batch = None
    if batch_key is not None:
        check_keys([batch_key], list(ref.obs.columns), "Column of `ref.obs`")
        batch = as_text(ref.obs[batch_key]).fillna("").to_numpy(dtype=str)
    if model is None:
        parts = [stored_latents(ref, query, use_rep)]
    else:
        parts = pattern_latents(model, ref, query)
    classes = np.sort(text.dropna().unique().astype(str))
    if len(classes) < 2:
        raise ValueError(f"Expected at least two labels with {MIN_CELLS} cells or more, found {shorten(classes) or 0}.")
    index = query.obs_names
    p = pd.DataFrame(np.nan, index=index, columns=classes)
    sets = pd.DataFrame(False, index=index, columns=classes)
    novelty, unknown = pd.Series(np.nan, index=index), pd.Series(False, index=index)
    for part in parts:
        labelled = part.ref_cells[text.notna().to_numpy()[part.ref_cells]]
        z = part.ref[np.isin(part.ref_cells, labelled)]
        y = text.to_numpy(dtype=object)[labelled].astype(str)
        known, n = np.unique(y, return_counts=True)
        if len(known) < 2 or n.min() < 2:
            keep = np.isin(y, known[n >= 2])
            z, y, labelled = z[keep], y[keep], labelled[keep]
        if len(np.unique(y)) < 2:
            where = f" with {part.name}" if part.name else ""
            notes.append(
                f"{len(part.query_cells)} cells{where} left out: the reference has no two labels of such cells"
            )
            continue
        fitted = FittedLabels(z, y, None if batch is None else batch[labelled], coverage, unknown_share, random_state)
        at = part.query_cells
        probability = fitted.probabilities(part.query)
        p.iloc[at] = 0.0
        columns = classes.searchsorted(fitted.classes)
        p.iloc[at, columns] = probability
        sets.iloc[at, columns] = fitted.sets(probability)
        novelty.iloc[at] = fitted.novelty(part.query)
        unknown.iloc[at] = novelty.iloc[at] > 1 - unknown_share
        notes += [f"{part.name}: {note}" if part.name else note for note in fitted.notes]
    return LabelTransfer(
        probabilities=p, sets=sets, novelty=novelty, unknown=unknown, coverage=coverage, notes=tuple(notes)
    )


def stored_latents(ref: MuData | AnnData, query: MuData | AnnData, use_rep: str) -> PatternLatents:
    found = []
    for data, name in ((ref, "ref"), (query, "query")):
        key = find_key(data, use_rep, f"Latent in `{name}.obsm`")
        found.append(np.asarray(data.obsm[key], dtype=np.float64))
    if found[0].shape[1] != found[1].shape[1]:
        raise ValueError(
            f"Expected latents of one model in `ref` and `query`, found {found[0].shape[1]} and {found[1].shape[1]} "
            f"columns in `.obsm[{use_rep!r}]`."
        )
    cells = [np.flatnonzero(np.isfinite(z).all(axis=1)) for z in found]
    for at, name in zip(cells, ("ref", "query"), strict=True):
        if not len(at):
            raise ValueError(f"No cell of `{name}` has a latent in `.obsm[{use_rep!r}]`: all values are missing.")
    return PatternLatents(
        name="", ref=found[0][cells[0]], ref_cells=cells[0], query=found[1][cells[1]], query_cells=cells[1]
    )


def _along_plan(labels: pd.Series, match: CellMatch) -> LabelTransfer:
    """Average the labels of partners; those without a label do not vote."""
    own = labels.reindex(match.target)
    classes = np.sort(own.dropna().unique().astype(str))
    if not len(classes):
        raise ValueError("None of the targets of the match has a label in `ref`.")
    votes = match.transfer((own.to_numpy(dtype=object)[:, None] == classes[None]).astype(float))
    total = votes.sum(axis=1, keepdims=True)
    p = pd.DataFrame(np.where(total > 0, votes / np.maximum(total, 1e-12), np.nan), index=match.source, columns=classes)
    novelty = pd.Series(1 - match.plan.confidence, index=match.source)
    return LabelTransfer(
        probabilities=p,
        sets=p > 1 / len(classes),
        novelty=novelty,
        unknown=pd.Series(total.ravel() == 0, index=match.source),
        coverage=np.nan,
        notes=("probabilities are votes of partners, not calibrated; sets hold what has more votes than chance",),
    )
