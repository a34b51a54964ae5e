"""Second moments of mosaics, from which canonical axes and their held-out correlations follow in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.linalg

from smalti._validate import check_keys, shorten
from smalti.data import linked_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Inputs = Mapping[str, ArrayLike]
    Maps = Mapping[str, ArrayLike]


@dataclass(frozen=True)
class MosaicGram:
    r"""Gram matrix of cells with at least two modalities.

    Its columns are the components of each modality, zero where a cell lacks it, followed by one column of presence per
    modality. So the block of two modalities sums over exactly the cells that have both, and sums over disjoint sets of
    cells add up: a fold is left out by subtraction.

    Parameters
    ----------
    names
        Modalities.
    sizes
        Number of components of each.
    matrix
        ``(D + M, D + M)`` with ``D`` components in all.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    matrix: Floats

    def __sub__(self, other: MosaicGram) -> MosaicGram:
        return MosaicGram(self.names, self.sizes, self.matrix - other.matrix)

    def leading(self, n_components: int) -> MosaicGram:
        """Return the moments of the first ``n_components`` components of each modality."""
        sizes = tuple(min(s, n_components) for s in self.sizes)
        keep = np.concatenate([self._slice(i).start + np.arange(s) for i, s in enumerate(sizes)])
        keep = np.concatenate([keep, sum(self.sizes) + np.arange(len(self.sizes))])
        return MosaicGram(self.names, sizes, self.matrix[np.ix_(keep, keep)])

    def count(self, i: int, j: int) -> int:
        """Return the number of cells that have modalities ``i`` and ``j``."""
        d = sum(self.sizes)
        return round(float(self.matrix[d + i, d + j]))

    def mean(self, i: int, j: int) -> Floats:
        """Return the mean of modality ``i`` over the cells that also have ``j``."""
        return self.matrix[self._slice(i), sum(self.sizes) + j] / max(self.count(i, j), 1)

    def covariance(self, i: int, j: int) -> Floats:
        """Return the covariance of two modalities over the cells that have both."""
        second = self.matrix[self._slice(i), self._slice(j)] / max(self.count(i, j), 1)
        return second - np.outer(self.mean(i, j), self.mean(j, i))

    def _slice(self, i: int) -> slice:
        start = sum(self.sizes[:i])
        return slice(start, start + self.sizes[i])


def check_inputs(inputs: Inputs, maps: Maps) -> tuple[dict[str, NDArray[np.floating]], dict[str, NDArray[np.int64]]]:
    """Return components and row maps as arrays, in the order of ``inputs``."""
    if len(inputs) < 2:
        raise ValueError(f"Expected at least two modalities, found {shorten(inputs)}.")
    check_keys(inputs, list(maps), "Row map of modality")
    arrays, rows = {}, {}
    n_obs = len(np.asarray(next(iter(maps.values()))))
    for name, values in inputs.items():
        z, row = np.asarray(values), np.asarray(maps[name])
        if z.ndim != 2 or z.dtype.kind not in "fiu" or not np.isfinite(z).all():
            raise ValueError(f"Expected finite components (cells, components) of modality {name!r}, found {z.shape}.")
        if row.shape != (n_obs,) or row.max(initial=-1) >= len(z):
            raise ValueError(
                f"Row map of modality {name!r} does not fit: {len(row)} cells, of {n_obs}, point into {len(z)} rows."
            )
        arrays[name], rows[name] = z, row.astype(np.int64)
    return arrays, rows


def paired_cells(maps: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the cells with at least two modalities; raise if these do not connect all modalities."""
    names = list(maps)
    presence = np.column_stack([maps[name] >= 0 for name in names])
    groups = linked_groups(presence)
    if len(groups) > 1:
        first = next(group for group in groups if 0 in group)
        alone = [name for i, name in enumerate(names) if i not in first]
        raise ValueError(
            f"No cells link {shorten(alone)} to {shorten(names[i] for i in first)}: canonical axes need at least two "
            "cells measured in two modalities at once. Leave these modalities out, or use a method for unpaired data."
        )
    return np.flatnonzero(presence.sum(axis=1) >= 2)


def stacked(
    inputs: Mapping[str, NDArray[np.floating]], maps: Mapping[str, NDArray[np.int64]], cells: NDArray[np.int64]
) -> Floats:
    """Return components of all modalities side by side, zero where absent, and presence: ``(n, D + M)``."""
    blocks, present = [], []
    for name, z in inputs.items():
        row = maps[name][cells]
        here = row >= 0
        block = np.zeros((len(cells), z.shape[1]))
        block[here] = z[row[here]]
        blocks.append(block)
        present.append(here.astype(np.float64))
    return np.hstack([*blocks, np.column_stack(present)])


def grams(
    inputs: Mapping[str, NDArray[np.floating]], rows: Floats, folds: Sequence[NDArray[np.int64]]
) -> list[MosaicGram]:
    """Return the moments of each fold of the stacked ``rows``."""
    names, sizes = tuple(inputs), tuple(z.shape[1] for z in inputs.values())
    return [MosaicGram(names, sizes, rows[fold].T @ rows[fold]) for fold in folds]


def total(parts: Sequence[MosaicGram]) -> MosaicGram:
    """Return the moments of all cells of ``parts``."""
    return MosaicGram(parts[0].names, parts[0].sizes, np.sum([p.matrix for p in parts], axis=0))


class Covariances(Protocol):
    """Second moments of several modalities, as far as canonical axes need them."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of components of each modality."""
        ...

    def covariance(self, i: int, j: int) -> Floats:
        """Return the covariance of modalities ``i`` and ``j``, ``(k_i, k_j)``."""
        ...

    def count(self, i: int, j: int) -> int:
        """Return the number of cells that the covariance is of; it is used where there are at least two."""
        ...


def inverse_root(covariance: Floats) -> Floats:
    """Return the symmetric inverse root ``(k, k)`` of a covariance, zero in directions without variance."""
    values, vectors = scipy.linalg.eigh(covariance)
    inverse = np.where(values > 1e-10 * max(values.max(), 1e-300), values, np.inf) ** -0.5
    root: Floats = (vectors * inverse) @ vectors.T
    return root


def canonical_axes(gram: Covariances, ridge: float, n_components: int) -> tuple[list[Floats], Floats]:
    r"""Return the axes of each modality ``(k, K)`` and their generalised correlations ``(K,)``, largest first.

    The axes maximise the sum of covariances between modalities under unit regularised variance (MAXVAR): with whitened
    cross-covariances :math:`K_{ij} = C_{ii}^{-1/2} C_{ij} C_{jj}^{-1/2}` they are the leading eigenvectors of the block
    matrix with identities on the diagonal :cite:p:`Kettenring1971`. For two modalities that is canonical correlation
    analysis. A pair without shared cells is completed through modalities :math:`b` that both share cells with,
    :math:`K_{ij} = \mathrm{mean}_b K_{ib} K_{bj}`, as if it were independent given these.
    """
    m = len(gram.sizes)
    whiten = []
    for i, k in enumerate(gram.sizes):
        c = gram.covariance(i, i)
        whiten.append(inverse_root(c + ridge * np.trace(c) / k * np.eye(k)))
    cross = {
        (i, j): whiten[i] @ gram.covariance(i, j) @ whiten[j]
        for i in range(m)
        for j in range(m)
        if i != j and gram.count(i, j) > 1
    }
    while len(cross) < m * (m - 1):
        found = {}
        for i in range(m):
            for j in range(m):
                paths = [cross[i, b] @ cross[b, j] for b in range(m) if (i, b) in cross and (b, j) in cross]
                if i != j and (i, j) not in cross and paths:
                    found[i, j] = np.mean(paths, axis=0)
        if not found:
            break
        cross |= found
    blocks = [
        [
            np.eye(gram.sizes[i]) if i == j else cross.get((i, j), np.zeros((gram.sizes[i], gram.sizes[j])))
            for j in range(m)
        ]
        for i in range(m)
    ]
    values, vectors = scipy.linalg.eigh(np.block(blocks))
    values, vectors = values[::-1][:n_components], vectors[:, ::-1][:, :n_components]
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    edges = np.cumsum((0, *gram.sizes))
    axes = [np.sqrt(m) * w @ vectors[a:b] for w, a, b in zip(whiten, edges[:-1], edges[1:], strict=True)]
    return axes, (values - 1) / (m - 1)


def correlations(axes: Sequence[Floats], gram: MosaicGram) -> Floats:
    """Return the correlation of each axis, over pairs of modalities weighted by their cells, ``(K,)``."""
    m = len(axes)
    variance = [np.einsum("ak,ab,bk->k", axes[i], gram.covariance(i, i), axes[i]) for i in range(m)]
    shared, possible = np.zeros(axes[0].shape[1]), np.zeros(axes[0].shape[1])
    for i in range(m):
        for j in range(i + 1, m):
            n = gram.count(i, j)
            if n > 1:
                shared += n * np.einsum("ak,ab,bk->k", axes[i], gram.covariance(i, j), axes[j])
                possible += n * np.sqrt(np.maximum(variance[i] * variance[j], 0.0))
    return np.divide(shared, possible, out=np.zeros_like(shared), where=possible > 0)


def held_out_correlations(parts: Sequence[MosaicGram], ridge: float, n_components: int) -> Floats:
    """Return the correlation that each axis keeps on cells it was not fitted to, mean over folds, not increasing."""
    everything = total(parts)
    kept = [correlations(canonical_axes(everything - part, ridge, n_components)[0], part) for part in parts]
    return np.minimum.accumulate(np.maximum(np.mean(kept, axis=0), 0.0))
