"""How many links between features an alignment without pairs needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from smalti import metrics
from smalti._validate import check_choice, check_count, check_keys
from smalti.data import row_maps
from smalti.model import UnpairedCCA
from smalti.simulate import hidden_pairs

from ._sample_size import TOLERANCE, plan_from_curve
from ._scores import Score, score_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._plan import SamplePlan

LinkTarget = Literal["labels", "foscttm"]
N_SIZES = 6
FEWEST = 4
NEIGHBORS = 15


def link_size(
    mdata: MuData,
    links: pd.DataFrame,
    *,
    goal: float | None = None,
    target: LinkTarget = "labels",
    labels_key: str | None = None,
    modalities: Sequence[str] | None = None,
    tolerance: float = TOLERANCE,
    sizes: Sequence[int] | None = None,
    n_draws: int = 5,
    options: Mapping[str, Any] | None = None,
    random_state: int = 0,
) -> SamplePlan:
    """Say how many linked features an alignment without pairs needs, by thinning the links there are.

    Parameters
    ----------
    mdata
        Mosaic of two modalities without pairs. Raw values.
    links
        Table with a column per modality and a row per link, as for :class:`smalti.model.UnpairedCCA`.
    goal
        Score to reach; by default the limit of unlimited links, up to ``tolerance``.
    target
        ``"labels"``: mean recall of labels carried from each modality to the other by 15 neighbours. ``"foscttm"``: of
        pairs that were hidden by :func:`smalti.simulate.hide_pairs`.
    labels_key
        Column of ``mdata.obs`` for ``target="labels"``.
    modalities
        Two names; those of ``mdata`` by default.
    tolerance
        Without a goal: share of the way from chance to the limit that may be missing.
    sizes
        Numbers of links; by default six on a log scale up to all.
    n_draws
        Draws of links for each size; more than once all of them changes landmarks and folds alone.
    options
        Of :class:`smalti.model.UnpairedCCA`.
    random_state
        Seed.

    Returns
    -------
    As :func:`sample_size`, in links. Links are drawn at random, while those of a panel that is yet to be chosen can be
    better, or worse.
    """
    check_choice(target, ("labels", "foscttm"), "target")
    names = list(mdata.mod) if modalities is None else list(modalities)
    if target == "labels":
        if labels_key is None:
            raise ValueError('Target "labels" needs `labels_key`, the column of `mdata.obs` with the labels.')
        check_keys([labels_key], list(mdata.obs), "Column of `mdata.obs`")
    links = links.drop_duplicates(ignore_index=True)
    if sizes is None:
        sizes = np.unique(np.geomspace(min(FEWEST, len(links)), len(links), N_SIZES).round().astype(int)).tolist()
    rows = []
    for draw in range(check_count(n_draws, "n_draws")):
        order = np.random.default_rng([random_state, draw]).permutation(len(links))
        for n in sizes:
            latents = _align(mdata, names, links.iloc[np.sort(order[:n])], draw, options)
            score = _score(mdata, names, latents, target, labels_key)
            rows.append({"n": int(n), "draw": draw, "score": score.value, "cell_variance": score.variance})
    table = pd.DataFrame(rows).assign(n_test=mdata.n_obs)
    chance = None
    if target == "labels":
        chance = 1 / mdata.obs[labels_key].nunique()
    plan = plan_from_curve(
        table, n_now=len(links), target=target, goal=goal, tolerance=tolerance, unit="links", chance=chance,
        random_state=random_state,
    )  # fmt: skip
    return plan


def _align(
    mdata: MuData, names: Sequence[str], links: pd.DataFrame, seed: int, options: Mapping[str, Any] | None
) -> list[NDArray[np.float32]]:
    mdata = mdata.copy()
    UnpairedCCA.setup_mudata(mdata, modalities=list(names))
    chosen = {"n_permutations": 0, **(options or {})}
    model = UnpairedCCA(mdata, links=links.reset_index(drop=True), random_state=seed, options=chosen)
    model.train(progress=False)
    return [model.get_latent_representation(modality=name) for name in names]


def _score(
    mdata: MuData,
    names: Sequence[str],
    latents: Sequence[NDArray[np.float32]],
    target: LinkTarget,
    labels_key: str | None,
) -> Score:
    if target == "foscttm":
        rows = hidden_pairs(mdata, *names)
        return score_pair(latents[0][rows[0]], latents[1][rows[1]], target="foscttm")
    maps = row_maps(mdata, list(names))
    labels = mdata.obs[labels_key].astype(object).to_numpy()
    known = ~pd.isna(labels)
    at = [np.flatnonzero((maps[name] >= 0) & known) for name in names]
    (x, y), (a, b) = ([z[i] for z, i in zip(latents, at, strict=True)], [labels[i] for i in at])
    recall = [
        metrics.label_transfer(p, u, q, v, k=NEIGHBORS, balanced=True) for p, u, q, v in ((x, a, y, b), (y, b, x, a))
    ]
    value = float(np.mean(recall))
    return Score(value, value * (1 - value))
