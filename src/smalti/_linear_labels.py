"""Logistic regression that holds with few labels: averaged over numbers of leading components."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]
    Fitted = dict[str, Any]

WIDTHS = (10, 20, 30, 50)
"""Leading components; which number is best is not to be told from ten labels, so that all are averaged."""
PENALTY = 0.1
"""Inverse penalty ``C`` where labels are too few to choose it."""
C_GRID = (0.01, 0.1, 1.0)
N_FOLDS = 5
MAX_LABELLED = 3000
"""Labelled samples that are looked at, as many of each class as there are."""
MIN_PER_CLASS = 10
"""Labelled samples of every class above which the penalty is cross-validated."""


def fit_linear(x: NDArray[np.float32], labels: Codes, known: NDArray[np.bool_]) -> Fitted:
    """Fit to the ``known`` samples; unlabelled ones give the scale of components.

    Parameters
    ----------
    x
        ``(n, d)`` components, the leading ones first; of more than 50 columns the principal components are taken.
    labels
        ``(n,)`` codes, at least two classes among the ``known``.
    known
        ``(n,)`` samples whose label is used.

    Returns
    -------
    Arrays that :func:`linear_probabilities` applies; ``classes`` are the codes of its columns.
    """
    fitted: Fitted = {"projection": None}
    if x.shape[1] > WIDTHS[-1]:
        pca = PCA(min(WIDTHS[-1], *x.shape), random_state=0).fit(x)
        fitted["projection"] = (pca.components_.T).astype(np.float32)
    z = _components(fitted, x)
    fitted["mean"], scale = z.mean(axis=0), z.std(axis=0)
    fitted["scale"] = np.where(scale > 1e-8, scale, 1).astype(np.float32)
    at = np.flatnonzero(known)
    if len(at) > MAX_LABELLED:
        at = _some_of_each(labels, at)
    z, y = (z[at] - fitted["mean"]) / fitted["scale"], labels[at]
    classes, count = np.unique(y, return_counts=True)
    weights, biases = [], []
    for width in sorted({min(w, z.shape[1]) for w in WIDTHS}):
        weight, bias = _one(z[:, :width], y, int(count.min()), len(classes))
        weights.append(np.vstack([weight, np.zeros((z.shape[1] - width, len(classes)))]))
        biases.append(bias)
    fitted["weights"] = np.stack(weights).astype(np.float32)
    fitted["biases"] = np.stack(biases).astype(np.float32)
    fitted["classes"] = classes.astype(np.int64)
    return fitted


def linear_probabilities(fitted: Fitted, x: NDArray[np.float32], n_labels: int) -> Floats:
    """Return ``(n, n_labels)``, 0 for classes that were not fitted; rows sum to 1."""
    z = (_components(fitted, x) - fitted["mean"]) / fitted["scale"]
    logits = np.einsum("nd,mdk->nmk", z, fitted["weights"], optimize=True) + fitted["biases"]
    p = np.exp(logits - logits.max(axis=2, keepdims=True))
    out = np.zeros((len(x), n_labels))
    out[:, fitted["classes"]] = (p / p.sum(axis=2, keepdims=True)).mean(axis=1)
    return out


def left_out(x: NDArray[np.float32], labels: Codes, known: NDArray[np.bool_]) -> Codes:
    """Return predictions of the ``known`` samples, each from a fit without it (five folds, fewer for small classes)."""
    return left_out_probabilities(x, labels, known, int(labels.max()) + 1).argmax(axis=1)


def left_out_probabilities(x: NDArray[np.float32], labels: Codes, known: NDArray[np.bool_], n_labels: int) -> Floats:
    """Return probabilities of the ``known`` samples, ``(n_known, n_labels)``, each from a fit without it."""
    at = np.flatnonzero(known)
    fewest = int(np.unique(labels[at], return_counts=True)[1].min())
    found = np.empty((len(at), n_labels))
    for fit, out in StratifiedKFold(min(N_FOLDS, fewest), shuffle=True, random_state=0).split(at, labels[at]):
        some = np.zeros_like(known)
        some[at[fit]] = True
        found[out] = linear_probabilities(fit_linear(x, labels, some), x[at[out]], n_labels)
    return found


def _some_of_each(labels: Codes, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 3,000 of the samples, small classes whole."""
    order = np.random.default_rng(0).permutation(at)
    rank = np.empty(len(order), np.int64)
    for label in np.unique(labels[order]):
        here = labels[order] == label
        rank[here] = np.arange(here.sum())
    return np.sort(order[np.argsort(rank, kind="stable")[:MAX_LABELLED]])


def _components(fitted: Fitted, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x if fitted["projection"] is None else x @ fitted["projection"]


def _one(z: NDArray[np.float32], y: Codes, fewest: int, n_classes: int) -> tuple[Floats, Floats]:
    """Return weights ``(d, K)`` and biases ``(K,)`` of one number of components."""
    settings: dict[str, Any] = {"class_weight": "balanced", "max_iter": 500}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        if fewest >= MIN_PER_CLASS:
            folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
            model = LogisticRegressionCV(Cs=list(C_GRID), cv=folds, scoring="neg_log_loss", **settings).fit(z, y)
        else:
            model = LogisticRegression(C=PENALTY, **settings).fit(z, y)
    weight, bias = model.coef_.T, model.intercept_
    if n_classes == 2:  # one column of log odds
        return np.hstack([-weight / 2, weight / 2]), np.r_[-bias / 2, bias / 2]
    return weight, bias
