"""Small MCA models for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smalti.model import MCA, MCAOptions

if TYPE_CHECKING:
    from mudata import MuData

OPTIONS = MCAOptions(n_latent=16, n_layers=2, n_heads=2, n_fusion=2, n_tokens=4, n_hidden=16, n_components=10)


def options(**changes: Any) -> MCAOptions:
    return replace(OPTIONS, **changes)


def build_mca(mdata: MuData, modalities: Any = None, **kwargs: Any) -> MCA:
    """Set up with batches, if there are any, and construct."""
    MCA.setup_mudata(mdata, modalities, batch_key="batch" if "batch" in mdata.obs else None)
    return MCA(mdata, **{"options": OPTIONS, **kwargs})


def fit_mca(mdata: MuData, modalities: Any = None, *, train: dict[str, Any] | None = None, **kwargs: Any) -> MCA:
    model = build_mca(mdata, modalities, **kwargs)
    model.train(**{"max_epochs": 2, "batch_size": 32, "progress": False, "accelerator": "cpu", **(train or {})})
    return model
