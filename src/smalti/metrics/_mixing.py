"""How well modalities mix, and cell types separate, in a joint space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline

from smalti._validate import check_count
from smalti.metrics._inputs import (
    as_embedding,
    check_classes,
    check_neighbors,
    draw_rows,
    encode_complete,
    encode_labels,
)
from smalti.metrics._neighbors import MAX_EXACT, nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike, NDArray


def modality_mixing(x: ArrayLike, modality: ArrayLike, *, k: int = 30) -> float:
    r"""Compare the modalities among the neighbours of each profile with those of a perfect mixture.

    With :math:`o_i` the share of other modalities among the ``k`` nearest neighbours of profile i (itself left out),
    and :math:`e_m = (n - n_m) / (n - 1)` its expectation in a random mixture for a profile of modality m,

    .. math:: \frac1M \sum_m \min\left(1, \frac{1}{n_m} \sum_{i \in m} \frac{o_i}{e_m}\right).

    Each modality counts the same, whatever its size. The limit is set on the mean of a modality, not on single
    profiles, so that chance around the expectation does not lower the score.

    Parameters
    ----------
    x
        ``(n, d)`` embeddings of profiles of all modalities, stacked; distances are Euclidean.
    modality
        ``(n,)`` name of the modality of each profile.
    k
        Neighbours. Larger values see larger structures; with fewer profiles of a modality than ``k`` the score cannot
        reach 0.

    Returns
    -------
    In [0, 1], higher is better: 0 where modalities never meet, 1 where each profile has as many neighbours of other
    modalities as in a random mixture.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, there is only one modality, or ``k`` exceeds n - 1.
    """
    x = as_embedding(x, "x")
    codes = _modality_codes(modality, len(x))
    k = check_neighbors(k, len(x) - 1, "other profiles")
    if len(x) <= MAX_EXACT:
        index = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
    else:
        index = nearest_neighbors(x, k=k).indices
    other = (codes[index] != codes[:, None]).mean(axis=1)
    size = np.bincount(codes)
    observed = np.bincount(codes, weights=other) / size
    expected = (len(x) - size) / (len(x) - 1)
    return float(np.minimum(observed / expected, 1).mean())


def modality_decodability(
    z: ArrayLike,
    modality: ArrayLike,
    *,
    k: int = 5,
    n_components: int | None = None,
    n_folds: int = 5,
    random_state: int = 0,
) -> float:
    """Compute the accuracy with which a k-nearest-neighbour vote recovers the modality of a profile from a latent.

    Modalities are first made equally large by drawing profiles, and the vote is cross-validated. A latent can predict
    classes and translate well and still tell modalities apart, which other scores do not show.

    Parameters
    ----------
    z
        ``(n, d)`` latents of profiles of all modalities, stacked; distances are Euclidean. Stack profiles of different
        cells: if both profiles of a cell are there, each finds the other one, and the score falls below chance.
    modality
        ``(n,)`` name of the modality of each profile.
    k
        Neighbours that vote.
    n_components
        Leading principal components (of the training folds) to see instead of ``z``: a weaker look, which small
        directions that separate modalities escape.
    n_folds
        Folds of the cross-validation; fewer if the smallest modality has fewer profiles.
    random_state
        Seed of the draw and of the folds.

    Returns
    -------
    In [0, 1], lower is better mixed: 1 / M is chance with M modalities, 1 where each profile betrays its modality.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, there is only one modality, one has a single profile, or a training
        fold has fewer profiles than ``k`` (or, with the dimensions, than ``n_components``).
    """
    z = as_embedding(z, "z")
    codes = _modality_codes(modality, len(z))
    sizes = np.bincount(codes)
    size = int(sizes.min())
    if size < 2:
        raise ValueError(f"Expected every modality to have at least 2 profiles, found {sizes.tolist()}.")
    folds = min(check_count(n_folds, "n_folds"), size)
    if folds < 2:
        raise ValueError(f"Expected `n_folds` to be at least 2, found {n_folds}.")
    rng = np.random.default_rng(random_state)
    rows = np.concatenate([rng.permutation(np.flatnonzero(codes == m))[:size] for m in range(len(sizes))])
    train = len(sizes) * (size - -(-size // folds))
    steps: list[Any] = [KNeighborsClassifier(check_neighbors(k, train, "profiles in a training fold"))]
    if n_components is not None:
        most = min(train, z.shape[1])
        check_neighbors(n_components, most, "dimensions (or of profiles in a training fold)", what="n_components")
        steps.insert(0, PCA(n_components, random_state=random_state))
    split = StratifiedKFold(folds, shuffle=True, random_state=random_state)
    return float(np.mean(cross_val_score(make_pipeline(*steps), z[rows], codes[rows], cv=split)))


def silhouette_mixing(x: ArrayLike, modality: ArrayLike, *, sample_size: int | None = None, seed: int = 0) -> float:
    """Compute 1 - abs(silhouette width by modality): global mixing, where :func:`modality_mixing` is local.

    Parameters
    ----------
    x
        ``(n, d)`` embeddings of profiles of all modalities, stacked; distances are Euclidean.
    modality
        ``(n,)`` name of the modality of each profile.
    sample_size
        Profiles to draw; time grows with their square. All by default.
    seed
        Of the draw.

    Returns
    -------
    In [0, 1], higher is better; 1 where modalities overlap.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or there is only one modality.
    """
    x = as_embedding(x, "x")
    codes = _modality_codes(modality, len(x))
    return 1 - abs(_silhouette(x, codes, sample_size, seed))


def cell_type_asw(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    exclude: Collection[object] | str = (),
    sample_size: int | None = None,
    seed: int = 0,
) -> float:
    """Compute the average silhouette width by cell type, moved to [0, 1] (Luecken et al., 2022).

    Parameters
    ----------
    x
        ``(n, d)`` embeddings; distances are Euclidean.
    labels
        ``(n,)`` cell types. Missing values (None, NaN) are left out.
    exclude
        Labels that mean "unlabelled"; their cells are left out.
    sample_size
        Cells to draw; time grows with their square. All by default.
    seed
        Of the draw.

    Returns
    -------
    (silhouette width + 1) / 2, in [0, 1], higher is better; 0.5 where types overlap.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or fewer than two types are left.
    """
    x = as_embedding(x, "x")
    codes, categories = encode_labels(labels, len(x), "labels", exclude=exclude)
    check_classes(codes, categories, "labels")
    return (_silhouette(x[codes >= 0], codes[codes >= 0], sample_size, seed) + 1) / 2


def _silhouette(x: NDArray[Any], codes: NDArray[np.int64], sample_size: int | None, seed: int) -> float:
    size = len(x) if sample_size is None else check_neighbors(sample_size, len(x), "cells", what="sample_size")
    rows = draw_rows(len(x), size, seed)
    return float(silhouette_score(x[rows], codes[rows]))


def _modality_codes(modality: ArrayLike, n: int) -> NDArray[np.int64]:
    codes, categories = encode_complete(modality, n, "modality")
    check_classes(codes, categories, "modality")
    return codes
