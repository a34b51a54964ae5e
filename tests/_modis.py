"""Small MODIS models for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smalti import simulate
from smalti.model import MODIS, MODISOptions, MODISWeights

if TYPE_CHECKING:
    from mudata import MuData

OPTIONS = MODISOptions(n_latent=4, n_private=3, widths=(16,), discriminator_widths=(16, 8), n_components=10)
SCALED = {name: {"likelihood": "gaussian", "encoder_input": "scaled"} for name in "ab"}


def options(**changes: Any) -> MODISOptions:
    return replace(OPTIONS, **changes)


def build_modis(mdata: MuData, modalities: Any = None, *, setup: dict[str, Any] | None = None, **kwargs: Any) -> MODIS:
    """Set up with labels, if there are any, and construct."""
    labels = {"labels_key": "label"} if "label" in mdata.obs else {}
    MODIS.setup_mudata(mdata, modalities, **{**labels, **(setup or {})})
    return MODIS(mdata, **{"options": OPTIONS, **kwargs})


def train(model: MODIS, **changes: Any) -> MODIS:
    model.train(**{"max_epochs": 2, "batch_size": 32, "progress": False, "accelerator": "cpu", **changes})
    return model


def fit_modis(mdata: MuData, modalities: Any = None, *, training: dict[str, Any] | None = None, **kwargs: Any) -> MODIS:
    return train(build_modis(mdata, modalities, **kwargs), **(training or {}))


def only(**weights: float) -> MODISWeights:
    """Return weights that switch all terms off but those named."""
    return MODISWeights(**{**dict.fromkeys(MODISWeights.__dataclass_fields__, 0.0), **weights})


def planted(
    n_obs: int = 400, *, n_clusters: int = 3, pattern: str = "diagonal", seed: int = 0, **changes: Any
) -> MuData:
    """Two real-valued modalities with clear classes, each with variation of its own."""
    settings = {"n_features": {"a": 24, "b": 18}, "n_shared": 5, "n_private": 3, "cluster_share": 0.8, "noise": 0.5}
    mdata = simulate.factor_views(n_obs, n_clusters=n_clusters, random_state=seed, **{**settings, **changes})
    return simulate.diagonal(mdata, random_state=seed) if pattern == "diagonal" else mdata
