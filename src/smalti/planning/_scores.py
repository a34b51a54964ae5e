"""What a number of cells is asked for: scores of embeddings of new cells, within batches, with their own error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from smalti import metrics
from smalti.tl import linear_cca

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mudata import MuData
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Embed = Callable[[MuData], Mapping[str, NDArray[Any]]]
    Fit = Callable[[MuData], Embed]

Target = Literal["foscttm", "correlation", "labels"]
TARGETS: tuple[Target, ...] = get_args(Target)
NEIGHBORS = 15


class Score(NamedTuple):
    """A score and how much it would vary over test cells alone."""

    value: float
    variance: float
    """Of one cell's contribution: the variance of the score is this over the number of test cells."""


@dataclass(frozen=True)
class TargetInfo:
    """What a target means."""

    lower_is_better: bool
    chance: float
    words: str
    """For the sentence: "for ... under 0.08"."""


INFO = {
    "foscttm": TargetInfo(True, 0.5, "a matching FOSCTTM"),
    "correlation": TargetInfo(False, 0.0, "a total correlation"),
    "labels": TargetInfo(False, 0.0, "an accuracy of transferred labels"),
}


def linear_fit(train: MuData, *, batch_key: str | None = None, random_state: int = 0) -> Embed:
    """Fit the linear baseline, :func:`smalti.tl.linear_cca`; what :func:`sample_size` uses unless given a model."""
    return linear_cca(train, batch_key=batch_key, random_state=random_state).embed


def model_fit(
    model_cls: Any,
    *,
    batch_key: str | None = None,
    setup: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> Fit:
    """Return a ``fit`` for :func:`sample_size` that trains a model of :mod:`smalti.model`.

    Parameters
    ----------
    model_cls
        The class, such as :class:`smalti.model.CLUE`.
    batch_key
        Column of the batch, as for ``setup_mudata``.
    setup, options, train
        Further arguments of ``setup_mudata``, of the constructor and of ``train``.
    """

    def fit(mdata: MuData) -> Embed:
        mdata = mdata.copy()
        model_cls.setup_mudata(mdata, batch_key=batch_key, **(setup or {}))
        model = model_cls(mdata, **(options or {}))
        model.train(**({"progress": False} | dict(train or {})))
        return lambda cells: {name: model.get_latent_representation(cells, modality=name) for name in cells.mod}

    return fit


def score_pair(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    target: Target,
    batch: NDArray[Any] | None = None,
    labels: NDArray[Any] | None = None,
) -> Score:
    """Return the score of embeddings of the same cells from two modalities.

    Parameters
    ----------
    x, y
        ``(n, d)``.
    target
        ``"foscttm"`` by cosine, within batches. ``"correlation"``: sum over axes of the correlation of both, within
        batches. ``"labels"``: share of cells that get their label from 15 neighbours in the other modality, both ways.
    batch
        ``(n,)``; one batch by default.
    labels
        ``(n,)``, missing where unknown.
    """
    groups = np.zeros(len(x), dtype=np.int64) if batch is None else pd.factorize(batch)[0]
    parts = [np.flatnonzero(groups == g) for g in range(groups.max(initial=0) + 1)]
    parts = [at for at in parts if len(at) >= 2]
    if target == "foscttm":
        cells = [metrics.foscttm(x[at], y[at], metric="cosine", per_cell=True).mean(axis=1) for at in parts]
        each = np.concatenate(cells)
        return Score(float(each.mean()), float(each.var()))
    if target == "correlation":
        a, b = (np.concatenate([z[at] - z[at].mean(axis=0) for at in parts]) for z in (x, y))
        size = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
        r = np.einsum("ij,ij->j", a, b) / np.maximum(size, 1e-12)
        return Score(float(r.sum()), float(((1 - r**2) ** 2).sum()))
    known = ~pd.isna(labels)
    found = [
        metrics.label_transfer(p[known], labels[known], q[known], labels[known], k=NEIGHBORS)  # type: ignore[index]
        for p, q in ((x, y), (y, x))
    ]
    accuracy = float(np.mean(found))
    return Score(accuracy, accuracy * (1 - accuracy))
