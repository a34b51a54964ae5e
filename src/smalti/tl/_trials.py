"""One training and what it scores, wherever it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from smalti._compat import SETUP_ARGS, send_mudata_whole
from smalti._disk_formats import on_disk
from smalti._mudata import check_mudata
from smalti._validate import check_keys, shorten
from smalti.model.base import MosaicModel

from ._evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

ALIGNED = "aligned"
HELD_OUT = "foscttm of validation pairs"
"""Score that every model computes on the pairs that it did not train on, see ``model.held_out_matching_``."""


class Trial(NamedTuple):
    """What one training gave."""

    scores: pd.Series
    """As :func:`smalti.tl.evaluate` names them, and :data:`HELD_OUT` where there are pairs."""
    latents: dict[str, NDArray[Any]]
    """``(n, d)`` by block: the latent to look at, and the one to match by where it is another."""
    notes: dict[str, str]
    """Why scores are missing."""
    monitor: float
    """Lowest validation loss without adversarial terms; NaN without validation cells."""
    seconds: float
    """Of the training."""


def train_and_score(
    model_cls: type[MosaicModel],
    mdata: MuData,
    setup: Mapping[str, Any],
    model_kwargs: Mapping[str, Any],
    train_kwargs: Mapping[str, Any],
    batch_key: str | None,
    labels_key: str | None,
) -> Trial:
    """Train a model and score its latents.

    Parameters
    ----------
    model_cls
        Class of the model.
    mdata
        The mosaic.
    setup
        How it was set up, see :func:`setup_of`: what other processes are given must be set up there again.
    model_kwargs, train_kwargs
        Arguments of the model and of ``train``.
    batch_key, labels_key
        As in :func:`smalti.tl.evaluate`.
    """
    if model_cls._get_most_recent_anndata_manager(mdata) is None:
        model_cls.setup_mudata(mdata, **setup)
    start = time.perf_counter()
    model: Any = model_cls(mdata, **model_kwargs)
    model.train(**{"progress": False, **train_kwargs})
    seconds = time.perf_counter() - start
    latents = _latents(model)
    first = next(iter(latents))
    aligned = {"model": latents[ALIGNED]} if ALIGNED in latents else None
    found = evaluate(
        mdata, {"model": latents[first]}, aligned=aligned, batch_key=batch_key, labels_key=labels_key
    )  # the same seed for all: what spreads is the model
    scores = found.scores.loc["model"] if len(found.scores) else pd.Series(dtype=float)  # nothing can be scored
    if model.held_out_matching_ is not None:
        scores = pd.concat([scores, pd.Series({HELD_OUT: model.held_out_matching_.model})])
    best = model.history.get("best_epoch")
    monitor = float("nan") if best is None else float(best.iloc[0, 0])
    notes = {part: why for part, why in found.notes.items() if part != "total"}
    return Trial(scores, latents, notes, monitor, seconds)


def check_sendable(mdata: MuData, n_jobs: int, backend: str) -> None:
    """Raise ``ValueError`` if trainings are to run in other processes on values that stay on disk."""
    lazy = [name for name, mod in mdata.mod.items() if any(map(on_disk, (mod.X, *mod.layers.values())))]
    if lazy and (n_jobs != 1 or backend == "ray"):
        raise ValueError(
            f"The values of modality {shorten(lazy)} stay on disk and cannot be given to other processes: use "
            "`n_jobs=1` with the backend 'loky', or read them into memory."
        )


def setup_of(
    model_cls: type[MosaicModel], mdata: MuData, batch_key: str | None = None, labels_key: str | None = None
) -> dict[str, Any]:
    """Return how a mosaic was set up for a class, and let other processes be given the mosaic.

    Parameters
    ----------
    model_cls
        Class of the model.
    mdata
        The mosaic.
    batch_key, labels_key
        Columns that the scores will need.

    Raises
    ------
    TypeError
        If these are no class and no mosaic.
    KeyError
        If a column does not exist.
    ValueError
        If it was not set up for the class.
    """
    found = model_cls if isinstance(model_cls, type | str | None) else type(model_cls).__name__
    if not (isinstance(model_cls, type) and issubclass(model_cls, MosaicModel)):
        raise TypeError(f"Expected the class of a model, such as `sm.model.CLUE`, found {found!r}.")
    check_mudata(mdata)
    for key in (batch_key, labels_key):
        if key is not None:
            check_keys([key], list(mdata.obs.columns), "Column of `mdata.obs`")
    manager = model_cls._get_most_recent_anndata_manager(mdata)
    if manager is None:
        raise ValueError(f"Set up the mosaic first: `{model_cls.__name__}.setup_mudata(mdata, ...)`.")
    send_mudata_whole()
    return dict(manager.registry[SETUP_ARGS])


def _latents(model: Any) -> dict[str, NDArray[Any]]:
    """Return the latent to look at, and the one to match by where it is another."""
    first = model._default_block()
    found = {first: model.get_latent_representation()}
    matching = model._matching_block()
    if matching is not None and first not in (matching, ALIGNED):
        found[ALIGNED] = model.get_latent_representation(block=ALIGNED)
    return found
