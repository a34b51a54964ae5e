"""How many components to keep, by cross-validation on paired cells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import check_count

from ._cca import make_folds
from ._completion import linked_modalities
from ._gram import canonical_axes, check_inputs, grams, held_out_correlations, paired_cells, stacked, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._gram import Floats, Inputs, Maps, MosaicGram

logger = logging.getLogger(__name__)

CANDIDATES = (15, 20, 30)
"""Numbers of components that are compared by default."""
MIN_PAIRS = 50
"""Paired cells below which nothing is compared."""
FEW_COMPONENTS, UNPAIRED_COMPONENTS = 20, 30
"""Components where pairs are too few to choose by, and where there are none to fit noise."""
MAX_HELD_OUT = 1000
"""Held-out cells per fold that are ranked; more cost time and change little."""


def choose_n_components(
    inputs: Inputs,
    maps: Maps,
    *,
    batch: NDArray[np.int64] | None = None,
    candidates: Sequence[int] = CANDIDATES,
    ridge: float = 0.01,
    n_folds: int = 5,
    random_state: int = 0,
) -> int:
    """Choose how many leading components of each modality to use, so that held-out pairs find each other.

    For each candidate and fold, a linear CCA of the leading components is fitted on the other folds, its axes scaled by
    correlations held out among these, and the held-out pairs are ranked by cosine: the fraction of cells of the same
    batch closer than the true partner (FOSCTTM). The smallest candidate is chosen whose mean is within one standard
    error of the best one's, where the error is that of the difference of the two over cells.

    Parameters
    ----------
    inputs
        ``{modality: (n_rows, k)}``, components ordered by importance. A modality with fewer than a candidate gives all.
    maps
        ``{modality: (n_obs,)}``, the row of every cell in that modality, -1 where it was not measured.
    batch
        ``(n_obs,)`` codes; partners are searched for within batches, since telling batches apart helps nobody. One
        batch by default.
    candidates
        Numbers of components to compare.
    ridge
        As in :class:`LinearCCA`.
    n_folds
        Number of folds, at least 3.
    random_state
        Seed of the folds.

    Returns
    -------
    One of ``candidates``, or the largest number of components that exists if all candidates are larger.

    Raises
    ------
    ValueError
        If fewer than ``2 * n_folds`` cells have two modalities, or these do not link all modalities.
    """
    arrays, rows = check_inputs(inputs, maps)
    most = max(z.shape[1] for z in arrays.values())
    sizes = sorted({min(check_count(c, "candidates"), most) for c in candidates})
    if len(sizes) == 1:
        return int(sizes[0])
    if n_folds < 3:
        raise ValueError(f"Expected `n_folds` to be at least 3, found {n_folds}.")
    cells = paired_cells(rows)
    if len(cells) < 2 * n_folds:
        raise ValueError(
            f"Expected at least {2 * n_folds} cells with two modalities to choose by {n_folds}-fold cross-validation, "
            f"found {len(cells)}. Give the number of components instead."
        )
    values = stacked(arrays, rows, cells)
    folds = make_folds(len(cells), n_folds, random_state)
    parts = grams(arrays, values, folds)
    groups = np.zeros(len(cells), np.int64) if batch is None else np.asarray(batch)[cells]
    scores = np.stack([_held_out_ranks(values, groups, folds, parts, size, ridge) for size in sizes])
    means = scores.mean(axis=1)
    best = int(means.argmin())
    excess = scores - scores[best]
    error = excess.std(axis=1) / np.sqrt(scores.shape[1])
    chosen = int(np.flatnonzero(means - means[best] <= error)[0])
    logger.info(
        "Held-out FOSCTTM by number of components: %s; chosen: %d.",
        ", ".join(f"{size}: {mean:.4f}" for size, mean in zip(sizes, means, strict=True)),
        sizes[chosen],
    )
    return int(sizes[chosen])


def components_by_pairs(
    inputs: Mapping[str, NDArray[np.float32]],
    maps: Mapping[str, NDArray[np.int64]],
    *,
    batch: NDArray[np.int64] | None = None,
    candidates: Sequence[int] = CANDIDATES,
    ridge: float = 0.01,
    random_state: int = 0,
    warn: bool = True,
) -> int:
    """Return :func:`choose_n_components` of the modalities that paired cells link, or a fallback where these are few.

    Arguments as there. It never fails for want of pairs; ``warn=False`` where somebody has said so already.
    """
    if not _n_pairs(maps, list(maps)):
        return UNPAIRED_COMPONENTS
    linked = linked_modalities(maps)
    n_pairs = _n_pairs(maps, linked if len(linked) > 1 else list(maps))
    if len(linked) < 2 or n_pairs < MIN_PAIRS:
        logger.log(
            logging.WARNING if warn else logging.INFO,
            "%d paired cells are too few to choose the number of components by: %d are used.",
            n_pairs,
            FEW_COMPONENTS,
        )
        return FEW_COMPONENTS
    some = {name: inputs[name] for name in linked}, {name: maps[name] for name in linked}
    return choose_n_components(*some, batch=batch, candidates=candidates, ridge=ridge, random_state=random_state)


def _n_pairs(maps: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> int:
    """Return the number of cells with at least two of these modalities."""
    return int((np.sum([maps[name] >= 0 for name in names], axis=0) >= 2).sum())


def _held_out_ranks(
    values: Floats,
    groups: NDArray[np.int64],
    folds: Sequence[NDArray[np.int64]],
    parts: Sequence[MosaicGram],
    size: int,
    ridge: float,
) -> Floats:
    """Return, for every held-out cell and pair of modalities, the fraction of its batch closer than the true one."""
    whole = parts[0].sizes
    kept = [part.leading(size) for part in parts]
    n_axes = sorted(kept[0].sizes)[-2]
    edges, m = np.cumsum((0, *whole)), len(whole)
    out = []
    for held, fold in enumerate(folds):
        fit = [part for i, part in enumerate(kept) if i != held]
        gram = total(fit)
        axes, _ = canonical_axes(gram, ridge, n_axes)
        scale = held_out_correlations(fit, ridge, n_axes)
        rows, own = values[fold[:MAX_HELD_OUT]], groups[fold[:MAX_HELD_OUT]]
        present = rows[:, edges[-1] :] > 0
        z = [(rows[:, edges[i] : edges[i] + kept[0].sizes[i]] - gram.mean(i, i)) @ (axes[i] * scale) for i in range(m)]
        for i in range(m):
            for j in range(i + 1, m):
                for group in np.unique(own):
                    both = present[:, i] & present[:, j] & (own == group)
                    if both.sum() > 1:
                        out.append(_fraction_closer(z[i][both], z[j][both]))
    return np.concatenate(out) if out else np.zeros(1)


def _fraction_closer(x: Floats, y: Floats) -> Floats:
    """Return per row the fraction of rows more similar (cosine) than the true match, mean over both directions."""
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    similarity = x @ y.T
    true = np.diag(similarity)
    closer: Floats = (similarity > true[:, None]).mean(axis=1) + (similarity > true[None]).mean(axis=0)
    return closer / 2
