"""How many cells are closer than the true match: the count under FOSCTTM, ranks and recall, exact at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# more undecided pairs than this share of a tile are cheaper to compute as a block than one by one
_DENSE_SHARE = 1 / 16
# rows of such a block at once: what the processor's cache holds
_DENSE_ROWS = 32
# numbers held at once while undecided pairs are computed one by one (32 MB)
_GATHER = 4_000_000


class PairCounts(NamedTuple):
    """Competitors of each pair: column 0 searches x -> y, column 1 searches y -> x."""

    closer: NDArray[np.int64]
    """``(n_pairs, 2)``, candidates strictly closer than the true match."""
    tied: NDArray[np.int64]
    """``(n_pairs, 2)``, other candidates exactly as far as the true match."""


def count_closer(
    x: NDArray[Any], y: NDArray[Any], ix: NDArray[np.int64], iy: NDArray[np.int64], *, chunk_size: int
) -> PairCounts:
    r"""Count, for pairs ``(x[ix[p]], y[iy[p]])``, the candidates closer than the partner, in both directions.

    The answer is that of float64 distances (``scipy.spatial.distance.cdist``), at the price of float32. Tiles of

    .. math:: h_{ij} = \tfrac12 |x_i|^2 + \tfrac12 |y_j|^2 - x_i^\top y_j

    come from one float32 matrix product, whose rounding error is at most :math:`(d + 8)\,2^{-23} (|x_i|^2 + |y_j|^2)`.
    Pairs that this error leaves undecided, exact ties among them, are computed again in float64.

    Parameters
    ----------
    x, y
        ``(n_x, d)`` and ``(n_y, d)``, finite.
    ix, iy
        ``(n_pairs,)`` rows of the pairs; no row occurs twice.
    chunk_size
        Rows and columns of a tile; memory is about 14 bytes x ``chunk_size ** 2``, and twice more with many ties.
    """
    true = _distance(x[ix].T, y[iy].T)
    limits = np.full(len(x), -np.inf), np.full(len(y), -np.inf)
    limits[0][ix], limits[1][iy] = true, true

    left, right, scale = _augment(x, y, chunk_size)
    lengths = 2 * left[:, -2].astype(np.float64), 2 * right[:, -1].astype(np.float64)
    error = (x.shape[1] + 8) * 2.0**-23
    closer = np.zeros(len(x), np.int64), np.zeros(len(y), np.int64)
    tied = np.zeros(len(x), np.int64), np.zeros(len(y), np.int64)
    for i in _slices(len(x), chunk_size):
        for j in _slices(len(y), chunk_size):
            half = left[i] @ right[j].T
            for side, mine, other in ((0, i, j), (1, j, i)):
                limit = limits[side][mine]
                bound = (limit / scale) ** 2 / 2 * np.sign(limit)
                slack = error * (lengths[side][mine] + lengths[1 - side][other].max()) + 1e-35
                low, high = _outward(bound - slack, bound + slack)
                axis = 1 - side
                sure = half < np.expand_dims(low, axis)
                near = (half < np.expand_dims(high, axis)) ^ sure
                closer[side][mine] += sure.view(np.uint8).sum(axis=axis, dtype=np.uint32)
                less, equal = _decide(x[i], y[j], near, limit, side)
                closer[side][mine] += less
                tied[side][mine] += equal
    return PairCounts(
        np.column_stack([closer[0][ix], closer[1][iy]]),
        np.column_stack([tied[0][ix], tied[1][iy]]) - 1,  # the true match ties with itself
    )


def _augment(x: NDArray[Any], y: NDArray[Any], chunk: int) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return float32 factors whose product is h, of data centred (less rounding) and scaled (no overflow)."""
    centre = (x.mean(axis=0, dtype=np.float64) + y.mean(axis=0, dtype=np.float64)) / 2
    scale = 0.0
    for values in (x, y):
        for rows in _slices(len(values), chunk):
            scale = max(scale, float(np.linalg.norm(values[rows] - centre, axis=1).max()))
    scale = scale or 1.0
    d = x.shape[1]
    factors = np.ones((len(x), d + 2), np.float32), np.ones((len(y), d + 2), np.float32)
    for values, factor, column, sign in ((x, factors[0], d, 1.0), (y, factors[1], d + 1, -1.0)):
        for rows in _slices(len(values), chunk):
            centred = (values[rows] - centre) / scale
            factor[rows, :d] = sign * centred
            factor[rows, column] = np.einsum("ij,ij->i", centred, centred) / 2
    return *factors, scale


def _decide(
    x: NDArray[Any], y: NDArray[Any], near: NDArray[np.bool_], limit: NDArray[np.float64], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, among the undecided pairs of a tile, those closer than and those equal to ``limit``, per row or column."""
    undecided = int(np.count_nonzero(near))
    less, equal = np.zeros(len(limit), np.int64), np.zeros(len(limit), np.int64)
    if undecided > _DENSE_SHARE * near.size:
        by_dimension = x.T.astype(np.float64, order="C")[:, :, None], y.T.astype(np.float64, order="C")[:, None]
        for piece in _slices(len(x), _DENSE_ROWS):
            mine, bound = (piece, limit[piece, None]) if side == 0 else (slice(None), limit[None])
            distance = _distance(by_dimension[0][:, piece], by_dimension[1])
            less[mine] += ((distance < bound) & near[piece]).sum(axis=1 - side)
            equal[mine] += ((distance == bound) & near[piece]).sum(axis=1 - side)
    elif undecided:
        places = np.divmod(np.flatnonzero(near), near.shape[1])
        for piece in _slices(undecided, max(1, _GATHER // x.shape[1])):
            a, b = places[0][piece], places[1][piece]
            at = (a, b)[side]
            distance = _distance(x[a].T, y[b].T)
            less += np.bincount(at[distance < limit[at]], minlength=len(limit))
            equal += np.bincount(at[distance == limit[at]], minlength=len(limit))
    return less, equal


def _distance(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64 distances along the first axis, summed in the order of the dimensions as ``cdist`` sums them.

    One order for all makes equal distances compare as equal.
    """
    total = np.zeros(np.broadcast_shapes(x.shape[1:], y.shape[1:]))
    for a, b in zip(x, y, strict=True):
        difference = np.subtract(a, b, dtype=np.float64)
        total += np.multiply(difference, difference, out=difference)
    return np.sqrt(total, out=total)


def _outward(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return float32 bounds that enclose the float64 ones."""
    wide = np.float32(np.inf)
    return np.nextafter(low.astype(np.float32), -wide), np.nextafter(high.astype(np.float32), wide)


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
