"""Small CLUE models for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smalti.model import CLUE, CLUEOptions, CLUEWeights

if TYPE_CHECKING:
    from mudata import MuData

OPTIONS = CLUEOptions(n_latent=5, n_hidden=16, n_align=8, align_hidden=16, n_components=10)


def options(**changes: Any) -> CLUEOptions:
    return replace(OPTIONS, **changes)


def build_clue(mdata: MuData, modalities: Any = None, *, setup: dict[str, Any] | None = None, **kwargs: Any) -> CLUE:
    """Set up with batches and labels, if there are any, and construct."""
    keys = {"batch_key": "batch", "labels_key": "label"}
    keys = {key: column for key, column in keys.items() if column in mdata.obs}
    CLUE.setup_mudata(mdata, modalities, **{**keys, **(setup or {})})
    if kwargs.get("preset") == "paper":
        return CLUE(mdata, **{"n_latent": 5, "n_hidden": 16, "n_components": 10, **kwargs})
    return CLUE(mdata, **{"options": OPTIONS, **kwargs})


def train(model: CLUE, **changes: Any) -> CLUE:
    model.train(**{"max_epochs": 2, "batch_size": 32, "progress": False, "accelerator": "cpu", **changes})
    return model


def fit_clue(mdata: MuData, modalities: Any = None, **kwargs: Any) -> CLUE:
    return train(build_clue(mdata, modalities, **kwargs))


def only(**weights: float) -> CLUEWeights:
    """Return weights that switch all terms off but those named."""
    terms = ("data", "kl", "joint", "cross", "agreement", "contrastive", "adversarial", "label")
    return CLUEWeights(**{**dict.fromkeys(terms, 0.0), **weights})
