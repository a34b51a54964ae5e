"""Learning curves of a pilot: fit to ever fewer of its cells or pairs, score the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from smalti._mudata import build_mudata, take_cells
from smalti._validate import check_choice, check_count, check_keys
from smalti.data import presence
from smalti.simulate import hide_pairs

from ._scores import TARGETS, linear_fit, score_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._scores import Fit, Target

Vary = Literal["cells", "pairs"]
TEST_SHARE = 0.2
N_SIZES = 8
SPAN = 8.0
"""Ratio of the largest to the smallest size."""
FEWEST = 30
LEAST_ERROR = 0.005


def learning_curve(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    target: Target = "foscttm",
    vary: Vary = "cells",
    sizes: Sequence[int] | None = None,
    n_draws: int = 10,
    fit: Fit | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """Fit to parts of the paired cells and score cells that were not fitted.

    In each draw a fifth of the paired cells is set aside and scored; training cells are drawn from the others, the same
    fewer ones again for a smaller size.

    Parameters
    ----------
    mdata
        A pilot with paired cells. Raw values.
    modalities
        Two names; those of ``mdata`` by default.
    target
        ``"foscttm"``, ``"correlation"`` or ``"labels"``, see :func:`sample_size`.
    vary
        ``"cells"``: training cells beyond the size are left out. ``"pairs"``: they stay, with their pairing hidden, and
        so do cells with one modality.
    sizes
        Numbers of paired training cells; by default eight on a log scale, from a tenth to four fifths of the pilot.
    n_draws
        Draws of test and training cells.
    fit
        What is fitted: a function of a training mosaic that returns a function of other cells that returns
        ``{modality: (n_obs, d)}``. :func:`linear_fit` by default; :func:`model_fit` makes one of a model.
    batch_key
        Column of ``mdata.obs``: scores are taken within batches, and the linear baseline centres them.
    labels_key
        Column with the labels for ``target="labels"``.
    random_state
        Seed.

    Returns
    -------
    One row per size and draw: ``n``, ``draw``, ``score``, ``cell_variance`` (of one test cell's share of the score) and
    ``n_test``.
    """
    check_choice(target, TARGETS, "target")
    check_choice(vary, ("cells", "pairs"), "vary")
    names, paired = paired_cells(mdata, modalities)
    check_keys([k for k in (batch_key, labels_key) if k is not None], list(mdata.obs), "Column of `mdata.obs`")
    if target == "labels" and labels_key is None:
        raise ValueError('Target "labels" needs `labels_key`, the column of `mdata.obs` with the labels.')
    if set(mdata.mod) != set(names):
        mdata = build_mudata({name: mdata.mod[name] for name in names}, obs=mdata.obs)
        names, paired = paired_cells(mdata, names)
    if fit is None:

        def fit(train: MuData) -> Any:
            return linear_fit(train, batch_key=batch_key)

    n_test = max(2, round(TEST_SHARE * len(paired)))
    most = len(paired) - n_test
    if sizes is None:
        sizes = np.unique(np.geomspace(max(most / SPAN, min(FEWEST, most)), most, N_SIZES).round().astype(int)).tolist()
    if max(sizes) > most:
        raise ValueError(
            f"Expected `sizes` of at most {most}, four fifths of {len(paired)} paired cells, found {max(sizes)}."
        )
    rows = []
    for draw in range(check_count(n_draws, "n_draws")):
        order = np.random.default_rng([random_state, draw]).permutation(paired)
        test, pool = order[:n_test], order[n_test:]
        cells = take_cells(mdata, np.sort(test))
        for n in sizes:
            train = _training(mdata, pool, test, int(n), vary, draw)
            embedded = fit(train)(cells)
            x, y = (np.asarray(embedded[name], dtype=np.float64) for name in names)
            score = score_pair(x, y, target=target, batch=_column(cells, batch_key), labels=_column(cells, labels_key))
            rows.append(
                {"n": int(n), "draw": draw, "score": score.value, "cell_variance": score.variance, "n_test": n_test}
            )
    return pd.DataFrame(rows)


def paired_cells(mdata: MuData, modalities: Sequence[str] | None) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of two modalities and the positions of the cells that have both."""
    names = list(mdata.mod) if modalities is None else list(modalities)
    check_keys(names, list(mdata.mod), "Modality")
    if len(names) != 2:
        raise ValueError(f"Pairs are of two modalities, found {names}. Name two: `modalities=`.")
    paired = np.flatnonzero(presence(mdata, names).all(axis=1))
    if len(paired) < FEWEST:
        raise ValueError(
            f"Expected at least {FEWEST} cells that were measured in {names[0]!r} and {names[1]!r}, found "
            f"{len(paired)}. Plan with a pilot of the same kind, or with published data of the same assay."
        )
    return names, paired


def summarise(table: pd.DataFrame, n_paired: int) -> pd.DataFrame:
    """Return mean and relative error of each size, ``n``, ``score``, ``error``; in ``attrs`` the error of the level.

    What a draw has in common over all sizes, its test cells, moves the level and not the shape of the curve, and is
    taken out. Draws take their cells from one pilot, so that the spread that is left, smaller the more of the pilot
    they share, is scaled to that of independent pilots, of which the draws have the share in common that they use.
    """
    log = np.log(table["score"].clip(lower=1e-6))
    log = log - log.groupby(table["draw"]).transform("mean")
    grouped = table.groupby("n")["score"]
    out = grouped.agg(score="mean", draws="size").reset_index()
    share = np.minimum(out["n"] / n_paired, 0.95)
    variance = log.groupby(table["n"]).var().fillna(0).to_numpy() / (1 - share)
    relative = np.sqrt(variance * (share + (1 - share) / out["draws"]))
    # Neighbouring sizes have similar spreads; a few draws estimate one badly.
    smooth = relative.rolling(3, center=True, min_periods=1).mean()
    out["error"] = np.maximum(smooth.to_numpy(), LEAST_ERROR)
    last = table[table["n"] == table["n"].max()]
    out.attrs["level_error"] = float(np.sqrt(last["cell_variance"].mean() / n_paired) / abs(last["score"].mean()))
    return out


def beyond_chance(points: pd.DataFrame, chance: float, lower_is_better: bool) -> pd.DataFrame:
    """Return the sizes at which the score is at least halfway from chance to the best: before, no power law holds."""
    gain = (points["score"] - chance) * (-1 if lower_is_better else 1)
    return points[gain >= 0.5 * gain.max()]


def _training(
    mdata: MuData,
    pool: NDArray[np.int64],
    test: NDArray[np.int64],
    n: int,
    vary: Vary,
    draw: int,
) -> MuData:
    if vary == "cells":
        return take_cells(mdata, np.sort(pool[:n]))
    rest = take_cells(mdata, np.setdiff1d(np.arange(mdata.n_obs), test))
    hidden = (len(pool) - n) / len(pool)
    return rest if hidden == 0 else hide_pairs(rest, hidden, random_state=draw)


def _column(mdata: MuData, key: str | None) -> NDArray[Any] | None:
    return None if key is None else mdata.obs[key].to_numpy()
