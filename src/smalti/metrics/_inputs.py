"""What every metric checks and prepares: embeddings, masks, labels, numbers of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from smalti._linalg import unit_rows
from smalti._validate import check_choice, check_count, shorten

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike, NDArray

METRICS = ("euclidean", "cosine")


def as_embedding(values: ArrayLike, what: str, *, mask: ArrayLike | None = None) -> NDArray[Any]:
    """Return ``values`` as a finite floating matrix; float32 and float64 are kept, other kinds become float64.

    Parameters
    ----------
    values
        ``(n, d)``.
    what
        Name of the argument in messages.
    mask
        ``(n,)``, True where the row is used. Other rows may hold anything, NaN included.

    Raises
    ------
    ValueError
        If ``values`` is not a matrix, is empty, or has NaN or infinite values in a row that is used.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Expected `{what}` to be numeric, found an array of {array.dtype}.")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"Expected `{what}` to be a matrix (n_cells, n_dimensions), found shape {array.shape}.")
    bad = ~np.isfinite(array).all(axis=1) & as_mask(mask, len(array), f"{what}_mask")
    if bad.any():
        raise ValueError(
            f"Expected `{what}` to be finite, found NaN or infinity in {int(bad.sum())} of {len(array)} rows, first in "
            f"row {int(np.argmax(bad))}. Leave out cells without an embedding."
        )
    return array


def as_pair(
    x: ArrayLike,
    y: ArrayLike,
    *,
    paired: bool = True,
    x_mask: ArrayLike | None = None,
    y_mask: ArrayLike | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two embeddings of one space, of the same cells if ``paired``; see :func:`as_embedding`."""
    x, y = as_embedding(x, "x", mask=x_mask), as_embedding(y, "y", mask=y_mask)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"Expected `x` and `y` to have the same dimensions, found {x.shape[1]} and {y.shape[1]}.")
    if paired and len(x) != len(y):
        raise ValueError(
            f"Expected row i of `x` and of `y` to be the same cell, found {len(x)} and {len(y)} rows. Pass the cells "
            "that have both."
        )
    return x, y


def as_mask(mask: ArrayLike | None, n: int, what: str) -> NDArray[np.bool_]:
    """Return a boolean ``(n,)`` mask, all True if none is given."""
    if mask is None:
        return np.ones(n, dtype=bool)
    array = np.asarray(mask)
    if array.shape != (n,) or array.dtype != bool:
        found = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"Expected `{what}` to be boolean of shape ({n},), found {found}.")
    return array


def encode_labels(
    labels: ArrayLike, n: int, what: str, *, exclude: Collection[object] | str = ()
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return ``(n,)`` codes and the sorted categories they point to; -1 where unlabelled.

    Missing values (None, NaN, NA) and the values in ``exclude`` are unlabelled.
    """
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(f"Expected `{what}` to hold one label for each of {n} cells, found shape {array.shape}.")
    excluded = {exclude} if isinstance(exclude, str) else set(exclude)
    codes, categories = pd.factorize(array.astype(object), sort=True)
    keep = np.array([category not in excluded for category in categories], dtype=bool)
    renumbered = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)  # the last serves code -1
    return renumbered[codes], categories[keep]


def encode_complete(labels: ArrayLike, n: int, what: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return codes and categories as :func:`encode_labels` does, and raise ``ValueError`` if a label is missing."""
    codes, categories = encode_labels(labels, n, what)
    if (codes < 0).any():
        raise ValueError(
            f"Expected `{what}` to have a value for every cell, found {int((codes < 0).sum())} missing, first in row "
            f"{int(np.argmax(codes < 0))}."
        )
    return codes, categories


def check_neighbors(k: int, available: int, where: str, *, what: str = "k") -> int:
    """Return ``k`` if it is a whole number in ``[1, available]``, else raise ``ValueError``."""
    if check_count(k, what) > available:
        raise ValueError(f"Expected `{what}` to be at most {available}, the number of {where}, found {k}. Lower it.")
    return int(k)


def check_classes(codes: NDArray[np.int64], categories: NDArray[Any], what: str) -> None:
    """Raise ``ValueError`` unless the labelled cells fall into 2 to n - 1 classes."""
    n = int((codes >= 0).sum())
    if not 2 <= len(categories) < n:
        raise ValueError(
            f"Expected `{what}` to have at least 2 classes and fewer than labelled cells, found {len(categories)} "
            f"({shorten(categories)}) in {n} labelled cells."
        )


def draw_rows(n: int, most: int, seed: int = 0) -> NDArray[np.int64]:
    """Return all rows of ``n``, or ``most`` of them drawn without replacement, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def with_metric(values: NDArray[Any], metric: str) -> NDArray[Any]:
    """Return rows whose Euclidean distances order cells as ``metric`` does: divided by their length for cosine."""
    check_choice(metric, METRICS, "metric")
    return unit_rows(values) if metric == "cosine" else values
