"""Reading the values of a modality: what kind of numbers they are, and whether they are usable at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
import scipy.sparse as sp

from smalti._missing import feature_levels, has_missing, measured, missing_of
from smalti._validate import check_keys, shorten

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

BLOCK = 5_000_000
"""Values looked at in one go, so that checks need no copy of a whole modality."""


LARGEST = 1e15
"""Values beyond it overflow in single precision when they are squared and summed."""


def matrix_of(adata: AnnData, layer: str | None, modality: str) -> Any:
    """Return ``adata.X`` or a layer of it, sparse or dense, as stored.

    Raises
    ------
    KeyError
        If the layer does not exist.
    ValueError
        If there is no matrix.
    """
    if layer is not None and layer not in adata.layers:
        known = shorten([key for key in adata.layers if key], 20) or "none"
        raise KeyError(f"Modality {modality!r} has no layer {layer!r}; available: {known}. Use `layer=None` for `.X`.")
    x = adata.X if layer is None else adata.layers[layer]
    if x is None:
        raise ValueError(f"Modality {modality!r} has no values in `.X`; name the layer that holds them.")
    if isinstance(x, np.ndarray) or sp.issparse(x):
        return x.astype(np.float32) if x.dtype == np.float16 else x  # sums in half precision are of no use
    kept = _read.setdefault(id(adata), {})
    if layer not in kept:
        if len(kept) == 0:
            finalize(adata, _read.pop, id(adata), None)
        kept[layer] = _in_memory(x, modality)
    return kept[layer]


def measured_matrix(adata: AnnData, layer: str | None, modality: str) -> Any:
    """Return :func:`matrix_of` with missing values filled in by means of features, see :mod:`smalti._missing`."""
    x = matrix_of(adata, layer, modality)
    return measured(x, looks_like_counts(x)) if has_missing(x) else x


_read: dict[int, dict[str | None, Any]] = {}
"""Matrices that were read from disk or computed, by object and layer; they live as long as the object."""


def _in_memory(x: Any, modality: str) -> Any:
    """Return a matrix that lies on disk or is yet to be computed (dask) as one in memory, with a note."""
    logger.info("Modality %r is a %s; its values are read into memory.", modality, type(x).__name__)
    for method in ("to_memory", "compute"):
        if hasattr(x, method):
            x = getattr(x, method)()
            break
    else:
        x = x[()] if hasattr(x, "file") else np.asarray(x)
    if not (isinstance(x, np.ndarray) or sp.issparse(x)):
        x = np.asarray(x)
    if sp.issparse(x) and x.format not in ("csr", "csc"):
        x = x.tocsr()
    return x


def components_of(adata: AnnData, key: str, modality: str) -> NDArray[Any]:
    """Return components that the user computed, ``(n, d)``, from ``.obsm``.

    Raises
    ------
    KeyError
        If there is no such key.
    ValueError
        If it is not a dense table of finite numbers.
    """
    where = f"Encoder input of modality {modality!r} (`.obsm`)"
    check_keys([key], list(adata.obsm), where)
    z = np.asarray(adata.obsm[key])
    if z.ndim != 2 or z.shape[1] == 0 or z.dtype.kind not in "fiub":
        raise ValueError(
            f"{where}: expected {key!r} to be a dense table of numbers with at least one column, found "
            f"{type(adata.obsm[key]).__name__} of shape {adata.obsm[key].shape}."
        )
    bad = ~np.isfinite(z).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{where}: {key!r} has NaN or infinite values in {int(bad.sum())} cells, first "
            f"{shorten(adata.obs_names[bad])}. Compute it for them, or remove those cells from the modality."
        )
    return z


def stored_values(x: Any) -> NDArray[Any]:
    """Return the stored values of a sparse matrix, or all values of a dense one as they lie in memory, flat.

    Missing values (NaN) are left out. Nothing is copied, unless there are some or a dense matrix is a strided part of
    another.
    """
    values = np.asarray(x.data) if sp.issparse(x) else np.asarray(x).ravel(order="K")
    return values[~np.isnan(values)] if has_missing(x) else values


def nonzero_share(x: Any) -> float:
    """Return the share of entries that are not zero, in ``[0, 1]``."""
    size = x.shape[0] * x.shape[1]
    return float(np.count_nonzero(stored_values(x)) / size) if size else 0.0


def check_finite(x: Any, modality: str, names: Any) -> None:
    """Raise ``ValueError`` naming the first cells with infinite values, or with missing (NaN) values alone."""
    values = np.asarray(x.data) if sp.issparse(x) else np.asarray(x).ravel(order="K")
    if values.dtype.kind not in "fiub":
        raise ValueError(f"Modality {modality!r} holds values of type {values.dtype}, expected numbers.")
    if values.dtype.kind != "f":
        return
    if values.dtype.itemsize > 4:
        blocks = (values[i : i + BLOCK] for i in range(0, values.size, BLOCK))
        largest = max((float(np.nanmax(np.abs(block), initial=0.0)) for block in blocks), default=0.0)
        if np.isfinite(largest) and largest > LARGEST:
            raise ValueError(
                f"Modality {modality!r} has values up to {largest:.3g}, too large for single precision, in which "
                f"models compute (at most {LARGEST:.3g}). Look for a wrong entry, or rescale the modality."
            )
    bad = sum(int(np.isinf(values[i : i + BLOCK]).sum()) for i in range(0, values.size, BLOCK))
    if bad:
        if sp.issparse(x):
            coordinates = x.tocoo()
            rows = coordinates.row[np.isinf(coordinates.data)]
        else:
            rows = np.flatnonzero(np.isinf(np.asarray(x)).any(axis=1))
        raise ValueError(
            f"Modality {modality!r} has {bad} infinite values, first in cells "
            f"{shorten(np.asarray(names)[np.unique(rows)])}. Remove those cells from the modality, or set the values "
            "to NaN if they are not known."
        )
    if has_missing(x):
        empty = np.asarray(missing_of(x).sum(axis=1)).ravel() == x.shape[1]
        if empty.any():
            raise ValueError(
                f"Modality {modality!r} has only missing values (NaN) in {int(empty.sum())} cells, first "
                f"{shorten(np.asarray(names)[empty])}. Remove those cells from the modality: what was not measured is "
                "not there."
            )


def counts_layer(adata: AnnData) -> str | None:
    """Return the layer to use instead of ``.X`` that holds none: the first with counts; ``None`` if ``.X`` is fine."""
    if adata.X is not None and (not has_numbers(adata.X) or looks_like_counts(adata.X)):
        return None
    for name, x in adata.layers.items():
        if name and has_numbers(x) and 0 not in x.shape and looks_like_counts(x) and nonzero_share(x) > 0:
            return str(name)
    return None


def has_numbers(x: Any) -> bool:
    """Return whether a matrix in memory holds finite numbers."""
    if not (isinstance(x, np.ndarray) or sp.issparse(x)) or x.dtype.kind not in "fiub":
        return False
    return bool(np.isfinite(stored_values(x)).all())


def varies(x: Any) -> bool:
    """Return whether not all cells have the same values."""
    if x.shape[0] < 2:
        return False
    x = measured(x, counts=False)
    if sp.issparse(x):
        if x.nnz == 0 or not np.any(x.data):
            return False
        first = x.tocsr()[[0]]
        return bool(abs(x.tocsr()[1:] - first.__class__(np.ones((x.shape[0] - 1, 1))) @ first).max() > 0)
    x = np.asarray(x)
    return bool((x[1:] != x[0]).any())


def looks_like_counts(x: Any) -> bool:
    """Return whether all values are non-negative integers."""
    values = stored_values(x)
    if values.dtype.kind in "ub":
        return True
    for start in range(0, values.size, BLOCK):
        part = values[start : start + BLOCK]
        if (part < 0).any() or (values.dtype.kind == "f" and (part != np.floor(part)).any()):
            return False
    return True


def mostly_ones(x: Any, share: float = 0.9) -> bool:
    """Return whether at least ``share`` of the non-zero values are 1, as for accessibility or mutations."""
    values = stored_values(x)
    nonzero = np.count_nonzero(values)
    return bool(nonzero > 0 and np.count_nonzero(values == 1) >= share * nonzero)


def describe_bad_counts(x: Any) -> str:
    """Say in a few words why values are not counts."""
    values = stored_values(x)
    negative = int((values < 0).sum())
    if negative:
        return f"{negative} values are negative (minimum {values.min():.4g})"
    fractional = values[values != np.floor(values)]
    return f"{fractional.size} values are not integers (such as {fractional[0]:.4g})"


def check_features(x: Any, modality: str, names: Any) -> None:
    """Raise ``ValueError`` naming the first features that are missing (NaN) in every cell."""
    if has_missing(x):
        empty = np.isnan(feature_levels(x, counts=False))
        if empty.any():
            raise ValueError(
                f"Modality {modality!r} has {int(empty.sum())} features that are missing (NaN) in every cell, first "
                f"{shorten(np.asarray(names)[empty])}. Remove them: `mdata[{modality!r}][:, keep].copy()`."
            )


def check_varies(x: Any, name: str) -> None:
    """Raise ``ValueError`` if all cells of a modality are alike, so that nothing can be learned from it."""
    if not varies(x):
        why = "one cell only" if x.shape[0] == 1 else f"the same values in all of its {x.shape[0]} cells"
        raise ValueError(
            f"Modality {name!r} has {why}, from which nothing can be learned. Leave it out of `modalities`, or look "
            "for what went wrong when it was made."
        )
