"""Settings of the InterSIM benchmark: unpaired, few labels, rare and absent classes.

11,500 samples of five balanced classes, each measured in one of three views; a fifth of every class in every view is
for testing and is never degraded. Published: Lepe-Soltero et al., MODIS (versions 1 and 2).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from smalti import simulate
from smalti.data import presence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

LABELS_KEY, UNLABELED = "class", "unknown"
RARE = "class_5"
ABSENT = (("class_3", "methylation"),)
# With three views, two classes that lack two views each meet in one: here expression, where neither was seen.
ABSENT_FOUR = (*ABSENT, ("class_3", "expression"), ("class_5", "expression"), ("class_5", "protein"))


def make_data(path: str | Path, seed: int, n_obs: int = 11_500, n_classes: int = 5) -> tuple[MuData, MuData]:
    """Simulate and split.

    path
        The archive of InterSIM's parameters.
    n_obs
        Samples in all, of which each keeps one view.

    Returns the training and the test part; ``obs`` has ``class`` ("class_1", ...) and ``test``.
    """
    proportions = (1 / n_classes,) * n_classes
    mdata = simulate.intersim(path, n_obs, proportions=proportions, delta=2.0, p_shift=0.2, random_state=seed)
    names = [f"class_{i + 1}" for i in range(n_classes)]
    mdata.obs[LABELS_KEY] = mdata.obs["cluster"].cat.rename_categories(names)
    mdata.obs = mdata.obs.drop(columns="cluster")
    mdata = simulate.degrade(mdata, pairs=0.0, labels_key=LABELS_KEY, random_state=seed)
    strata = mdata.obs[LABELS_KEY].astype(str) + presence(mdata).argmax(1).astype(str)
    _, chosen = train_test_split(np.arange(n_obs), test_size=0.2, stratify=strata, random_state=seed)
    test = np.zeros(n_obs, dtype=bool)
    test[chosen] = True
    mdata.obs["test"] = test
    train, held_out = (simulate.drop(mdata, np.repeat(part[:, None], mdata.n_mod, axis=1)) for part in (~test, test))
    return train, held_out


def _degrade(train: MuData, seed: int, **kwargs) -> MuData:
    return simulate.degrade(train, labels_key=LABELS_KEY, unlabeled_category=UNLABELED, random_state=seed, **kwargs)


def _reference(train: MuData, seed: int, fraction: float) -> MuData:
    others = [c for c in train.obs[LABELS_KEY].cat.categories if c != RARE]
    labels = dict.fromkeys(others, fraction) | {RARE: 1.0}
    return _degrade(train, seed, classes={RARE: 6}, labels=labels)


def _absent(train: MuData, seed: int, pairs: tuple[tuple[str, str], ...], n: int) -> MuData:
    return _degrade(train, seed, classes=dict.fromkeys(pairs, n))


def _rare(train: MuData, seed: int, n: int) -> MuData:
    return _degrade(train, seed, classes={RARE: n})


SETTINGS: dict[str, Callable[[MuData, int], MuData]] = {
    "all": _degrade,
    "labels_15": partial(_degrade, labels=1),
    **{f"rare_{n}": partial(_rare, n=n) for n in (1, 3, 5, 20)},
    "reference_1pct": partial(_reference, fraction=0.01),
    "reference_5pct": partial(_reference, fraction=0.05),
    "absent_1": partial(_absent, pairs=ABSENT, n=0),
    "absent_1_one": partial(_absent, pairs=ABSENT, n=1),
    "absent_4": partial(_absent, pairs=ABSENT_FOUR, n=0),
    "absent_4_one": partial(_absent, pairs=ABSENT_FOUR, n=1),
}
"""By name: from the training part and a seed to the degraded training part; labels in ``obs["class"]``."""


def class_mean_floor(train: MuData, test: MuData) -> dict[str, float]:
    """Error of the mean of the true class, the best that a translation can do: views are independent given the class.

    Returns by view the mean squared error on test samples, in units of the training part's variance of each feature.
    Test samples of classes that the training part lacks in the view are left out.
    """
    floor = {}
    for name, adata in train.mod.items():
        key = f"true_{LABELS_KEY}"
        label = train.obs.loc[adata.obs_names, key].astype(str).to_numpy()
        held_out = test.mod[name]
        expected = test.obs.loc[held_out.obs_names, key].astype(str).to_numpy()
        center, scale = adata.X.mean(0), adata.X.std(0)
        means = pd.DataFrame((adata.X - center) / scale).groupby(label).mean()
        known = np.isin(expected, means.index)
        error = (held_out.X[known] - center) / scale - means.loc[expected[known]].to_numpy()
        floor[name] = float((error**2).mean())
    return floor
