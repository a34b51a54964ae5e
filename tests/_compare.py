"""Comparing MuData objects, models and latents."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from smalti._mudata import build_mudata
from smalti.nn import SparseRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

SCVI_IDS = ("_scvi_uuid", "_scvi_manager_uuid")
"""All that setting up a model may add to a user's object."""
ATTRIBUTES = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns")


def snapshot(data: MuData | AnnData) -> dict[str, Any]:
    """Return a deep copy of everything in a MuData or AnnData, but for scvi-tools' two identifiers."""
    parts = {key: _copied(getattr(data, key)) for key in ATTRIBUTES if hasattr(data, key)}
    for key in SCVI_IDS:
        parts["uns"].pop(key, None)
    if hasattr(data, "mod"):
        parts["order"] = list(data.mod)
        parts["obsmap"], parts["varmap"] = _copied(data.obsmap), _copied(data.varmap)
        parts["mod"] = {name: snapshot(mod) for name, mod in data.mod.items()}
    else:
        parts["X"] = _copied(data.X)
    return parts


def assert_same(found: Any, expected: Any, where: str = "mdata") -> None:
    """Compare two snapshots: types, storage, number types, names, order and values."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), f"{where}: keys"
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, obj=where)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, obj=where)
    elif sp.issparse(expected):
        assert (found.format, found.shape, found.dtype) == (expected.format, expected.shape, expected.dtype), where
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part), err_msg=where)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where


def rebuilt(mdata: MuData, modalities: Mapping[str, AnnData]) -> MuData:
    """Return a new MuData of ``modalities``, with the rows of ``mdata.obs`` that belong to its cells."""
    return build_mudata({name: adata.copy() for name, adata in modalities.items()}, obs=mdata.obs)


def by_name(latent: np.ndarray, names: pd.Index, wanted: pd.Index) -> np.ndarray:
    """Return the rows of the cells ``wanted``."""
    return pd.DataFrame(latent, index=names).loc[wanted].to_numpy()


def assert_same_weights(found: torch.nn.Module, expected: torch.nn.Module, *, atol: float = 0.0) -> None:
    """Compare all parameters and buffers."""
    found, expected = found.state_dict(), expected.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=lambda text, at=name: f"{at}: {text}")


def dense(block: SparseRows | torch.Tensor, n_features: int) -> np.ndarray:
    """Return a block of a minibatch as an array."""
    if not isinstance(block, SparseRows):
        return block.numpy()
    out = np.zeros((block.n_rows, n_features))
    out[block.row_index(), block.indices] = block.values
    return out


def _copied(value: Any) -> Any:
    if hasattr(value, "items") and not isinstance(value, pd.DataFrame | pd.Series):
        return {key: _copied(item) for key, item in value.items()}
    return value.copy() if hasattr(value, "copy") else deepcopy(value)
