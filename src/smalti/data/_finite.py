"""Whether values are finite numbers that single precision can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from smalti._disk import DiskMatrix
from smalti._missing import has_missing, missing_of
from smalti._validate import shorten

from ._values import BLOCK

LARGEST = 1e15
"""Values beyond it overflow in single precision when they are squared and summed."""


def check_finite(x: Any, modality: str, names: Any) -> None:
    """Raise ``ValueError`` naming the first cells with infinite values, or with missing (NaN) values alone."""
    if x.dtype.kind not in "fiub":
        raise ValueError(f"Modality {modality!r} holds values of type {x.dtype}, expected numbers.")
    if x.dtype.kind != "f":
        return
    largest, bad = (x.summary.largest, x.summary.n_infinite) if isinstance(x, DiskMatrix) else _extremes(x)
    if x.dtype.itemsize > 4 and np.isfinite(largest) and largest > LARGEST:
        raise ValueError(
            f"Modality {modality!r} has values up to {largest:.3g}, too large for single precision, in which "
            f"models compute (at most {LARGEST:.3g}). Look for a wrong entry, or rescale the modality."
        )
    if bad:
        raise ValueError(
            f"Modality {modality!r} has {bad} infinite values, first in cells "
            f"{shorten(np.asarray(names)[_infinite_rows(x)])}. Remove those cells from the modality, or set the values "
            "to NaN if they are not known."
        )
    empty = _empty_rows(x) if has_missing(x) else []
    if len(empty):
        raise ValueError(
            f"Modality {modality!r} has only missing values (NaN) in {len(empty)} cells, first "
            f"{shorten(np.asarray(names)[empty])}. Remove those cells from the modality: what was not measured is "
            "not there."
        )


def _extremes(x: Any) -> tuple[float, int]:
    """Return the largest size of a value, where it matters, and how many are infinite."""
    values = np.asarray(x.data) if sp.issparse(x) else np.asarray(x).ravel(order="K")
    blocks = [slice(i, i + BLOCK) for i in range(0, values.size, BLOCK)]
    largest = 0.0
    if values.dtype.itemsize > 4:
        largest = max((float(np.nanmax(np.abs(values[at]), initial=0.0)) for at in blocks), default=0.0)
    return largest, sum(int(np.isinf(values[at]).sum()) for at in blocks)


def _infinite_rows(x: Any) -> Any:
    if isinstance(x, DiskMatrix):
        return x.summary.infinite_rows
    if not sp.issparse(x):
        return np.flatnonzero(np.isinf(np.asarray(x)).any(axis=1))
    coordinates = x.tocoo()
    return np.unique(coordinates.row[np.isinf(coordinates.data)])


def _empty_rows(x: Any) -> Any:
    if isinstance(x, DiskMatrix):
        return x.summary.empty_rows
    return np.flatnonzero(np.asarray(missing_of(x).sum(axis=1)).ravel() == x.shape[1])
