"""Which cell of one modality belongs to which cell of another, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.optimize import minimize_scalar
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from smalti._linalg import unit_rows
from smalti._validate import check_choice, check_count, check_keys
from smalti.align import CellMatch, TransportPlan
from smalti.data import check_mudata, presence
from smalti.model.base import MosaicModel

from ._evaluate_inputs import read_latents
from ._keys import find_key
from ._match_inputs import MIN_PAIRS, groups_of, known_pairs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData
    from numpy.typing import NDArray

SHARPNESS = (0.1, 2000.0)
"""Bounds of the sharpness of the plan, on unit vectors: all alike at the lower, the nearest alone at the upper."""
CHUNK = 2048
N_FOLDS = 5
N_BINS, BIN_CELLS = 10, 20


def match(
    data: MuData | MosaicModel,
    source: str,
    target: str,
    *,
    key: str = "X_clue",
    mdata: MuData | None = None,
    within: str | None = None,
    cells: Literal["unpaired", "all"] = "unpaired",
    known_pairs: str | None = None,
    n_partners: int = 20,
) -> CellMatch:
    r"""Match cells of one modality with cells of another: a soft plan, the best partner, and a calibrated confidence.

    On latents of unit length :math:`u_i` (from ``source``) and :math:`v_j` (from ``target``),

    .. math:: P_{ij} \propto \exp\left(-\tfrac{\beta}{2} \lVert u_i - v_j \rVert^2\right)

    over the candidates :math:`j` in the same group. The sharpness :math:`\beta` makes the true partners of known pairs
    most likely. The confidence of a match is the probability that it is the true partner, given that this is among the
    candidates: a logistic regression on :math:`P` of the best partner and on whether the choice is mutual, fitted to
    known pairs whose partner was sought among all candidates. ``.reliability`` compares confidence with accuracy on
    pairs that it was not fitted to.

    Parameters
    ----------
    data
        A trained model, whose latents of single modalities are matched, or a MuData that holds latents. An
        ``UnpairedCCA`` matches by its own evidence.
    source, target
        Modalities.
    key
        Of a MuData: key of ``.obsm`` with the joint latent, or with one per modality behind it (``"X_clue_rna"``,
        ``"X_clue_adt"``), which is better where there is one: a joint latent of a paired cell has seen both.
    mdata
        Of a model: data to match, those of training by default.
    within
        Column of ``mdata.obs``, such as the batch; partners are sought within its groups only.
    cells
        Which cells to match: those of ``source`` that lack ``target``, or all of ``source``. Candidates are all cells
        of ``target``.
    known_pairs
        Boolean column of ``mdata.obs`` with the paired cells to calibrate by. They should not have been trained on: by
        default the validation cells of a model, and if these are fewer than 30, or there is no model, all paired cells,
        which makes confidences too high; ``.note`` says so.
    n_partners
        Largest entries of each row of the plan to keep.

    Returns
    -------
    :class:`~smalti.align.CellMatch`. Without 30 known pairs the plan has the default sharpness, ``confidence`` is its
    largest entry, and ``.note`` says that it is not calibrated.

    Raises
    ------
    KeyError
        If a modality, latent or column does not exist.
    ValueError
        If there is no cell to match or no candidate, or no group has both.

    Examples
    --------
    >>> found = sm.tl.match(model, "rna", "adt", within="batch")
    >>> found.to_frame().nlargest(10, "confidence")
    """
    if not isinstance(data, MosaicModel):
        check_mudata(data)
    check_choice(cells, ("unpaired", "all"), "cells")
    check_count(n_partners, "n_partners")
    if source == target:
        raise ValueError(f"Expected two modalities to match, found {source!r} twice.")
    own: list[NDArray[np.int64]] = []
    if isinstance(data, MosaicModel):
        if hasattr(data, "match"):
            if within is not None:
                raise ValueError(f"{type(data).__name__} matches by its own evidence: leave `within` out.")
            found: CellMatch = data.match(source, target, mdata)
            return found
        where = data.adata if mdata is None else mdata
        z = _latents_of_model(data, where, source, target)
        if mdata is None and data.validation_indices_ is not None:
            own = [np.asarray(data.validation_indices_, dtype=np.int64)]
    else:
        where = data
        check_keys([source, target], list(where.mod), "Modality")
        latents = read_latents(where, key, key if f"{key}_{source}" in where.obsm else find_key(where, key))
        z = [unit_rows(latents.single.get(name, latents.joint)) for name in (source, target)]
    if z[0].shape[1] != z[1].shape[1]:
        raise ValueError(
            f"Latents of {source!r} and {target!r} have {z[0].shape[1]} and {z[1].shape[1]} columns: only those of one "
            "model can be compared."
        )
    groups = groups_of(where, within)
    here = presence(where, [source, target])
    usable = here & np.column_stack([np.isfinite(part).all(axis=1) for part in z])
    both = np.flatnonzero(usable.all(axis=1))
    known, note = known_pairs_of(where, both, known_pairs, own)
    first = np.flatnonzero(usable[:, 0] & (~here[:, 1] | (cells == "all")))
    second = np.flatnonzero(usable[:, 1])
    if not len(first) or not len(second):
        raise ValueError(f"Found {len(first)} cells of {source!r} to match and {len(second)} candidates of {target!r}.")
    if not np.isin(groups[first], groups[second]).any():
        raise ValueError(f"No group of {within!r} has both cells of {source!r} to match and candidates of {target!r}.")
    search = _Search(z[0], z[1], groups, second)
    calibrated = len(known) >= MIN_PAIRS
    if calibrated:
        search.sharpen(known)
    rows, partner, mutual = search.plan(first, n_partners)
    confidence = _largest(rows)
    reliability = None
    if calibrated:
        seen, hit, both_ways = search.plan(known, 1)
        right = second[np.maximum(hit, 0)] == known
        features = _features(_largest(seen), both_ways)
        reliability = reliability_curve(_cross_fitted(features, right), right)
        confidence = _fit(features, right)(_features(confidence, mutual))
        confidence = np.where(partner >= 0, confidence, 0.0)
    plan = TransportPlan(plan=rows, partner=np.maximum(partner, 0), confidence=confidence, mutual=mutual)
    names = where.obs_names
    return CellMatch(plan=plan, source=names[first], target=names[second], reliability=reliability, note=note)


class _Search:
    """Candidates, and how sharply the nearest is preferred."""

    def __init__(
        self, x: NDArray[Any], y: NDArray[Any], groups: NDArray[np.int64], candidates: NDArray[np.int64]
    ) -> None:
        self.x, self.y, self.groups, self.candidates = x, y, groups, candidates
        self.sharpness = 50.0  # between those found on mosaics of blood cells (15) and of cortex

    def sharpen(self, known: NDArray[np.int64]) -> None:
        """Set the sharpness that gives the partners of known pairs the highest likelihood."""
        place = np.full(len(self.x), -1)
        place[self.candidates] = np.arange(len(self.candidates))
        blocks = [(gap, place[rows]) for rows, gap in self._gaps(known)]

        def loss(log_sharpness: float) -> float:
            beta, total = np.exp(log_sharpness), 0.0
            for gap, own in blocks:
                scaled = beta * gap
                top = scaled.max(axis=1, keepdims=True)
                norm = top.ravel() + np.log(np.exp(scaled - top).sum(axis=1))
                total += float((norm - scaled[np.arange(len(own)), own]).sum())
            return total

        low, high = np.log(SHARPNESS)
        self.sharpness = float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))

    def plan(self, cells: NDArray[np.int64], k: int) -> tuple[sp.csr_matrix, NDArray[np.int64], NDArray[np.bool_]]:
        """Return the largest entries of each row, the best candidate (-1 without any), and whether it is mutual."""
        k = min(k, len(self.candidates))
        columns, values = np.zeros((len(cells), k), dtype=np.int64), np.zeros((len(cells), k))
        at, best_of, best_by = 0, np.full(len(self.candidates), -np.inf), np.full(len(self.candidates), -1)
        for rows, gap in self._gaps(cells):
            part = slice(at, at + len(rows))
            top = gap.max(axis=1, keepdims=True)
            weight = np.exp(self.sharpness * (gap - np.where(np.isfinite(top), top, 0.0)))
            weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
            columns[part] = np.argsort(-weight, axis=1, kind="stable")[:, :k]
            values[part] = np.take_along_axis(weight, columns[part], axis=1)
            nearest = gap.argmax(axis=0)
            closer = gap[nearest, np.arange(gap.shape[1])] > best_of
            best_of = np.where(closer, gap[nearest, np.arange(gap.shape[1])], best_of)
            best_by = np.where(closer, at + nearest, best_by)
            at += len(rows)
        found = values[:, 0] > 0
        partner = np.where(found, columns[:, 0], -1)
        mutual = found & (best_by[columns[:, 0]] == np.arange(len(cells)))
        indptr = np.arange(0, columns.size + 1, k)
        plan = sp.csr_matrix((values.ravel(), columns.ravel(), indptr), shape=(len(cells), len(self.candidates)))
        plan.eliminate_zeros()
        return plan, partner, mutual

    def _gaps(self, cells: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield cells and minus half their squared distances to all candidates, minus infinity in other groups."""
        y, groups = self.y[self.candidates].astype(np.float64), self.groups[self.candidates]
        for start in range(0, len(cells), CHUNK):
            rows = cells[start : start + CHUNK]
            gap = self.x[rows].astype(np.float64) @ y.T - 1.0  # of unit vectors
            gap[self.groups[rows][:, None] != groups[None]] = -np.inf
            yield rows, gap


def _latents_of_model(model: MosaicModel, mdata: MuData, source: str, target: str) -> list[NDArray[Any]]:
    """Return latents of single modalities of unit length, from the block made for matching."""
    block = "full" if getattr(model.module, "aligners", True) is None else "aligned"
    return [unit_rows(model.get_latent_representation(mdata, modality=name, block=block)) for name in (source, target)]


def _largest(plan: sp.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(plan.max(axis=1).todense(), dtype=np.float64).ravel()


def _features(largest: NDArray[np.float64], mutual: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.column_stack([logit(np.clip(largest, 1e-4, 1 - 1e-4)), mutual])


def _fit(features: NDArray[np.float64], right: NDArray[np.bool_]) -> Any:
    """Return a function from features to the probability of being right; a constant if all or none is."""
    if right.all() or not right.any():
        share = (right.sum() + 0.5) / (len(right) + 1)
        return lambda x: np.full(len(x), share)
    model = LogisticRegression().fit(features, right)
    return lambda x: model.predict_proba(x)[:, 1]


def _cross_fitted(features: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    out = np.empty(len(right))
    for fit, test in KFold(N_FOLDS, shuffle=True, random_state=0).split(features):
        out[test] = _fit(features[fit], right[fit])(features[test])
    return out


def reliability_curve(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> pd.DataFrame:
    """Compare confidence with accuracy in bins of equally many cells; the columns are those of calibration curves.

    Parameters
    ----------
    confidence
        ``(n,)`` in [0, 1].
    right
        ``(n,)`` whether that was right.
    """
    bins = np.array_split(np.argsort(confidence, kind="stable"), max(1, min(N_BINS, len(right) // BIN_CELLS)))
    rows = [
        (confidence[at].min(), confidence[at].max(), len(at), confidence[at].mean(), right[at].mean()) for at in bins
    ]
    return pd.DataFrame(rows, columns=["low", "high", "n", "confidence", "accuracy"])
