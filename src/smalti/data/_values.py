"""Reading the values of a modality: what kind of numbers they are, and whether they are usable at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
import scipy.sparse as sp

from smalti._disk import DiskMatrix
from smalti._disk_formats import disk_matrix, on_disk, place_of
from smalti._missing import feature_levels, has_missing, measured
from smalti._validate import check_keys, shorten

from ._fingerprint import checksum

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

BLOCK = 5_000_000
"""Values looked at in one go, so that checks need no copy of a whole modality."""
FEW_ROWS = 256


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
    if isinstance(x, np.ma.MaskedArray):  # what is masked was not measured
        masked: Any = x
        return masked.astype(np.result_type(x.dtype, np.float32)).filled(np.nan) if masked.mask.any() else masked.data
    if isinstance(x, np.ndarray) or sp.issparse(x):
        return x.astype(np.float32) if x.dtype == np.float16 else x  # sums in half precision are of no use
    kept = _of(_read, adata)
    if layer not in kept:
        kept[layer] = _in_memory(x, modality)
    return kept[layer]


def stored_matrix(adata: AnnData, layer: str | None, modality: str) -> Any:
    """Return :func:`matrix_of`, but what lies on disk as a :class:`~smalti._disk.DiskMatrix` that stays there.

    Raises
    ------
    KeyError
        If the layer does not exist.
    ValueError
        If there is no matrix, or one on disk is stored by features.
    """
    x = None if layer is not None and layer not in adata.layers else (adata.X if layer is None else adata.layers[layer])
    if not on_disk(x):
        return matrix_of(adata, layer, modality)
    kept, place = _of(_opened, adata), (layer, place_of(x))
    if place not in kept:
        kept[place] = disk_matrix(x, modality)
    return kept[place]


def measured_matrix(adata: AnnData, layer: str | None, modality: str, *, in_memory: bool = True) -> Any:
    """Return :func:`matrix_of` with missing values filled in by means of features, see :mod:`smalti._missing`.

    With ``in_memory=False`` what lies on disk stays there.
    """
    x = (matrix_of if in_memory else stored_matrix)(adata, layer, modality)
    return measured(x, looks_like_counts(x)) if has_missing(x) else x


_read: dict[int, dict[Any, Any]] = {}
"""Matrices that were read from disk or computed, by object and layer; they live as long as the object."""
_opened: dict[int, dict[Any, Any]] = {}
"""Matrices that stay on disk, likewise."""
_by_rows: dict[int, dict[Any, Any]] = {}
"""Matrices that were turned from columns to rows, with a checksum of what they were made of, likewise."""


def by_rows(x: Any, adata: AnnData, layer: str | None) -> Any:
    """Return a sparse matrix of a modality as CSR, turned once for all readers as long as its values stay the same.

    Whatever is not sparse in memory is returned as it is.
    """
    if not sp.issparse(x) or x.format == "csr":
        return x
    kept, now = _of(_by_rows, adata), checksum(x)
    if layer not in kept or kept[layer][0] != now:
        kept[layer] = (now, x.tocsr())
    return kept[layer][1]


def _of(store: dict[int, dict[Any, Any]], adata: AnnData) -> dict[Any, Any]:
    if id(adata) not in store:
        store[id(adata)] = {}
        finalize(adata, store.pop, id(adata), None)
    return store[id(adata)]


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
    found = x.summary.n_nonzero if isinstance(x, DiskMatrix) else np.count_nonzero(stored_values(x))
    return float(found / size) if size else 0.0


def counts_layer(adata: AnnData) -> str | None:
    """Return the layer to use instead of ``.X`` that holds none: the first with counts; ``None`` if ``.X`` is fine."""
    if adata.X is not None:
        x = stored_matrix(adata, None, "") if on_disk(adata.X) else adata.X
        if not has_numbers(x) or looks_like_counts(x):
            return None
    for name, x in adata.layers.items():
        x = stored_matrix(adata, name, "") if on_disk(x) else x
        if name and has_numbers(x) and 0 not in x.shape and looks_like_counts(x) and nonzero_share(x) > 0:
            return str(name)
    return None


def has_numbers(x: Any) -> bool:
    """Return whether a matrix in memory or on disk holds finite numbers."""
    if isinstance(x, DiskMatrix):
        return x.dtype.kind in "fiub" and x.summary.n_infinite == 0
    if not (isinstance(x, np.ndarray) or sp.issparse(x)) or x.dtype.kind not in "fiub":
        return False
    return bool(np.isfinite(stored_values(x)).all())


def varies(x: Any) -> bool:
    """Return whether not all cells have the same values."""
    if x.shape[0] < 2:
        return False
    if isinstance(x, DiskMatrix):
        return x.summary.varies
    x = measured(x, counts=False)
    if sp.issparse(x):
        if x.nnz == 0 or not np.any(x.data):
            return False
        first = sp.csr_matrix(x[[0]])
        parts = (x[start : start + FEW_ROWS] for start in range(1, x.shape[0], FEW_ROWS))  # the first one tells, mostly
        return any((part != sp.csr_matrix(np.ones((part.shape[0], 1))) @ first).nnz > 0 for part in parts)
    x = np.asarray(x)
    return bool((x[1:] != x[0]).any())


def looks_like_counts(x: Any) -> bool:
    """Return whether all values are non-negative integers."""
    if isinstance(x, DiskMatrix):
        return x.summary.n_negative + x.summary.n_fractional + x.summary.n_infinite == 0
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
    if isinstance(x, DiskMatrix):
        return x.summary.n_nonzero > 0 and x.summary.n_ones >= share * x.summary.n_nonzero
    values = stored_values(x)
    nonzero = np.count_nonzero(values)
    return bool(nonzero > 0 and np.count_nonzero(values == 1) >= share * nonzero)


def describe_bad_counts(x: Any) -> str:
    """Say in a few words why values are not counts."""
    if isinstance(x, DiskMatrix):
        seen = x.summary
        negative, minimum, fractional, such = seen.n_negative, seen.minimum, seen.n_fractional, seen.a_fraction
    else:
        values = stored_values(x)
        negative = int((values < 0).sum())
        minimum = values.min()
        odd = values[values != np.floor(values)]
        fractional, such = odd.size, odd[0] if odd.size else np.nan
    if negative:
        return f"{negative} values are negative (minimum {minimum:.4g})"
    return f"{fractional} values are not integers (such as {such:.4g})"


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
