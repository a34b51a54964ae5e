"""Small pieces of linear algebra that every room may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FloatT = TypeVar("FloatT", np.float32, np.float64)


def unit_rows(x: NDArray[FloatT]) -> NDArray[FloatT]:
    """Return rows divided by their Euclidean length, ``(n, d)``; rows of zeros stay zeros."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(length, 1e-12)
