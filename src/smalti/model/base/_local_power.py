"""What the features that local gates select are worth: held-out cells, against as many other features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ALPHA, N_RANDOM = 10.0, 5
"""Ridge of predictions from standardised values; draws of random features."""


def local_power(
    x: NDArray[Any], gates: NDArray[Any], target: ArrayLike, *, random_state: int = 0, n_random: int = N_RANDOM
) -> pd.DataFrame:
    """Compare features that each cell selects with as many that all cells share, by predictions for held-out cells.

    Ridge regression of half of the cells predicts the target of the others. Local gates can say what a cell is by
    *which* gates are open, so the pattern alone is scored, too: where it predicts as well as the gated values, these
    add nothing.

    Parameters
    ----------
    x
        ``(n, D)`` standardised values.
    gates
        ``(n, D)`` local gates in ``[0, 1]``.
    target
        ``(n,)`` groups, scored by balanced accuracy; or ``(n, d)`` coordinates, scored by :math:`R^2`.
    random_state
        Seed of the split and of random features.
    n_random
        Draws of random features, of which the mean is taken.

    Returns
    -------
    One row each for ``local`` (values behind the gates), ``global`` (the features whose gates are open in most cells),
    ``random`` and ``pattern`` (which gates are open, without values); ``n_features`` per cell, as many for all but the
    pattern, and ``score``, higher is better.
    """
    y = np.asarray(target)
    classes = y.ndim == 1
    is_open = gates > 0
    k = int(np.clip(round(float(is_open.sum(axis=1).mean())), 1, x.shape[1]))
    counts = np.unique(y, return_counts=True)[1] if classes else np.array([2])
    strata = y if classes and counts.min() > 1 else None
    train, test = train_test_split(np.arange(len(x)), test_size=0.5, random_state=random_state, stratify=strata)

    def score(values: NDArray[Any]) -> float:
        model = RidgeClassifier(alpha=ALPHA, class_weight="balanced") if classes else Ridge(alpha=ALPHA)
        predicted = model.fit(values[train], y[train]).predict(values[test])
        if classes:
            return float(balanced_accuracy_score(y[test], predicted))
        return float(r2_score(y[test], predicted, multioutput="variance_weighted"))

    widest = np.argsort(-is_open[train].mean(axis=0), kind="stable")[:k]
    rng = np.random.default_rng(random_state)
    draws = [rng.choice(x.shape[1], k, replace=False) for _ in range(n_random)]
    rows = {
        "local": (k, score(x * gates)),
        "global": (k, score(x[:, widest])),
        "random": (k, float(np.mean([score(x[:, columns]) for columns in draws]))),
        "pattern": (0, score(is_open.astype(np.float64))),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n_features", "score"])


def power_sentence(name: str, table: pd.DataFrame, what: str) -> str:
    """Say in one sentence what local gates predict, and against what."""
    s = table["score"]
    n = int(table["n_features"].max())
    return (
        f"Local gates of {name!r} ({n} features per cell) predict {what} of held-out cells with {s['local']:.2f}; "
        f"as many features shared by all cells {s['global']:.2f}, random ones {s['random']:.2f}, the "
        f"pattern of open gates alone {s['pattern']:.2f}."
    )
