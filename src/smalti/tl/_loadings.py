"""What the axes of a latent mean: the linear part of each, feature by feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from smalti._validate import check_count, check_keys
from smalti.data import looks_like_counts, measured_matrix, row_maps

from ._keys import find_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

CHUNK = 2048
"""Features that are dense at a time."""


@dataclass(frozen=True, kw_only=True)
class Loadings:
    """Loadings of features on the axes of a latent."""

    loadings: dict[str, pd.DataFrame]
    """``(G, d)`` by modality: correlation of each feature with each axis, in [-1, 1]; 0 for a constant feature."""
    variance_explained: pd.DataFrame
    """``(M, d + 1)``: share of a modality's variance that each axis explains alone, and all of them together in column
    ``"all"``, in [0, 1]. Shares of single axes add up to that of all only if axes are uncorrelated."""

    def top(self, axis: int | str, n: int = 10) -> pd.DataFrame:
        """Return the features with the largest absolute loadings on an axis, ``n`` of each modality.

        Parameters
        ----------
        axis
            Name of the axis, or its position.
        n
            Features of each modality.
        """
        check_count(n, "n")
        rows = []
        for modality, table in self.loadings.items():
            name = table.columns[axis] if isinstance(axis, int) else axis
            check_keys([name], list(table.columns), "Axis")
            best = table[name].reindex(table[name].abs().nlargest(n).index)
            rows.append(pd.DataFrame({"modality": modality, "feature": best.index, "loading": best.to_numpy()}))
        return pd.concat(rows, ignore_index=True)

    def __repr__(self) -> str:
        return f"Loadings of {', '.join(self.loadings)}; variance explained:\n{self.variance_explained.round(3)}"


def get_loadings(
    mdata: MuData,
    key: str = "X_clue",
    *,
    modalities: Sequence[str] | None = None,
    layer: str | None = None,
) -> Loadings:
    r"""Describe the axes of any latent by features, as loadings describe factors.

    Over the cells that have the modality, feature :math:`x_g` and axis :math:`z_k` are standardised, and the loading is
    their correlation. The share of variance that axes explain is the mean over features of :math:`R^2` of a linear
    regression on the axes, weighted by the variance of the feature. Counts are scaled to the median total and
    ``log(1 + x)`` is taken first. It is the *linear* part: what a network makes of an axis beyond it is not seen, and
    axes of a latent that was not rotated towards meaning (all networks here) need not mean one thing each.

    Parameters
    ----------
    mdata
        The mosaic.
    key
        Key of ``mdata.obsm`` with the latent, with or without ``X_``.
    modalities
        Modalities to describe it by; all by default.
    layer
        Layer that holds the values; ``.X`` by default.

    Raises
    ------
    KeyError
        If the latent, a modality or the layer does not exist.
    ValueError
        If fewer than ``d + 2`` cells of a modality have a latent.
    """
    key = find_key(mdata, key, "Latent in `mdata.obsm`")
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    latent = np.asarray(mdata.obsm[key], dtype=np.float64)
    axes = [f"{key.removeprefix('X_')}_{i}" for i in range(latent.shape[1])]
    loadings, explained = {}, {}
    for name in names:
        rows = row_maps(mdata, [name])[name]
        here = (rows >= 0) & np.isfinite(latent).all(axis=1)
        if here.sum() < latent.shape[1] + 2:
            raise ValueError(
                f"Expected at least {latent.shape[1] + 2} cells of modality {name!r} with a latent {key!r}, found "
                f"{int(here.sum())}."
            )
        table, share = _describe(_values(mdata, name, layer, rows[here]), latent[here])
        loadings[name] = pd.DataFrame(table, index=mdata.mod[name].var_names, columns=axes)
        explained[name] = share
    columns = [*axes, "all"]
    return Loadings(loadings=loadings, variance_explained=pd.DataFrame(explained, index=columns).T)


def _values(
    mdata: MuData, name: str, layer: str | None, rows: NDArray[np.int64]
) -> sp.csc_matrix | NDArray[np.float64]:
    matrix = measured_matrix(mdata.mod[name], layer, name)[rows]
    counts = looks_like_counts(matrix)
    x = sp.csr_matrix(matrix, dtype=np.float64) if sp.issparse(matrix) else np.asarray(matrix, dtype=np.float64)
    if counts:
        total = np.asarray(x.sum(axis=1)).ravel()
        factor = np.median(total[total > 0]) / np.maximum(total, 1)
        x = sp.diags(factor) @ x if sp.issparse(x) else x * factor[:, None]
        x = x.log1p() if sp.issparse(x) else np.log1p(x)
    return sp.csc_matrix(x) if sp.issparse(x) else np.asarray(x)


def _describe(
    x: sp.csc_matrix | NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z = z - z.mean(axis=0)
    length = np.linalg.norm(z, axis=0)
    unit = np.divide(z, length, out=np.zeros_like(z), where=length > 1e-12)
    left, singular, _ = np.linalg.svd(z, full_matrices=False)
    basis = left[:, singular > 1e-8 * max(singular.max(initial=0.0), 1e-300)]
    table = np.zeros((x.shape[1], z.shape[1]))
    total, single, together = 0.0, np.zeros(z.shape[1]), 0.0
    for start in range(0, x.shape[1], CHUNK):
        part = x[:, start : start + CHUNK]
        dense = part.toarray() if isinstance(part, sp.csc_matrix) else np.asarray(part)
        dense = dense - dense.mean(axis=0)
        variance = np.square(dense).sum(axis=0)
        along = dense.T @ unit
        table[start : start + CHUNK] = along / np.sqrt(np.maximum(variance, 1e-300))[:, None]
        total += float(variance.sum())
        single += np.square(along).sum(axis=0)
        together += float(np.square(dense.T @ basis).sum())
    return np.clip(table, -1, 1), np.append(single, together) / max(total, 1e-300)
