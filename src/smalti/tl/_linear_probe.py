"""How much a simple classifier reads from a frozen embedding, without looking at the cells it is scored on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti._validate import check_count, check_keys, shorten
from smalti.data import as_text
from smalti.metrics import balanced_accuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the penalty to choose from, for standardised embeddings."""
MAX_ITERATIONS = 2000


@dataclass(frozen=True, kw_only=True, repr=False)
class ProbeResult:
    """What :func:`linear_probe` measured."""

    folds: pd.DataFrame
    """One row per fold: ``balanced_accuracy`` and ``macro_aupr`` of logistic regression, ``knn_balanced_accuracy``, the
    chosen ``C``, and numbers of cells ``n_train`` and ``n_test``."""
    predicted: pd.Series
    """Label predicted by logistic regression for every cell that was scored, by cell name."""
    classes: tuple[str, ...]
    """Names of the labels."""
    n_left_out: int
    """Labelled cells without an embedding, which are neither trained nor scored on."""

    @property
    def balanced_accuracy(self) -> float:
        """Mean over folds of the mean recall of the classes, in [0, 1], higher is better."""
        return float(self.folds["balanced_accuracy"].mean())

    @property
    def macro_aupr(self) -> float:
        """Mean over folds of the mean average precision of the classes, in [0, 1], higher is better."""
        return float(self.folds["macro_aupr"].mean())

    @property
    def knn_balanced_accuracy(self) -> float:
        """Mean over folds of the balanced accuracy of nearest neighbours, in [0, 1], higher is better."""
        return float(self.folds["knn_balanced_accuracy"].mean())

    def __repr__(self) -> str:
        return (
            f"Probe of {len(self.classes)} classes on {len(self.predicted):,} held-out cells: balanced accuracy "
            f"{self.balanced_accuracy:.3f}, macro AUPR {self.macro_aupr:.3f}, nearest neighbours "
            f"{self.knn_balanced_accuracy:.3f} ({len(self.folds)} folds)"
        )


def linear_probe(
    mdata: MuData,
    embedding: str | ArrayLike,
    labels_key: str,
    *,
    train: str | ArrayLike | None = None,
    unlabeled_category: str = "unknown",
    n_folds: int = 5,
    k: int = 15,
    random_state: int = 0,
) -> ProbeResult:
    """Score an embedding by how well logistic regression and nearest neighbours predict labels from it.

    Standardisation and the strength of the penalty are fitted inside the training cells of each fold (the strength by
    folds within them), so that nothing of a scored cell enters what scores it. Whether the embedding itself saw these
    cells is up to the caller: for a test, train the model without them, or at least without their labels.

    Parameters
    ----------
    mdata
        The mosaic.
    embedding
        Key of ``mdata.obsm``, or ``(n_obs, d)`` values; cells with NaN are left out.
    labels_key
        Column of ``mdata.obs``.
    train
        The cells to fit to: a boolean column of ``mdata.obs``, or a mask ``(n_obs,)``. All others are scored, once. By
        default cross-validation over all labelled cells.
    unlabeled_category
        Value of the column that means "no label", besides missing values.
    n_folds
        Folds of the cross-validation, and of the choice of the penalty; fewer for the latter if a class is small.
    k
        Neighbours (by Euclidean distance of standardised embeddings); fewer if there are fewer training cells.
    random_state
        Seed of the folds.

    Returns
    -------
    Scores per fold, and predictions.

    Raises
    ------
    KeyError
        If the embedding or a column does not exist.
    ValueError
        If shapes do not fit, there are fewer than two classes, or a class has too few cells.

    Examples
    --------
    >>> mdata.obsm["X_mca"] = model.get_latent_representation()
    >>> sm.tl.linear_probe(mdata, "X_mca", "celltype").balanced_accuracy
    """
    z = _values(mdata, embedding)
    check_keys([labels_key], list(mdata.obs.columns), "Column of `mdata.obs`")
    labels = as_text(mdata.obs[labels_key])
    labelled = (labels.notna() & (labels != unlabeled_category)).to_numpy()
    usable = labelled & np.isfinite(z).all(axis=1)
    cells = np.flatnonzero(usable)
    y = labels.to_numpy(dtype=object)[cells].astype(str)
    splits = _splits(mdata, y, cells, train, check_count(n_folds, "n_folds"), random_state)
    check_count(k, "k")
    rows: list[dict[str, float]] = []
    predicted: dict[str, str] = {}
    for fit, test in splits:
        scores, found = _fold(z[cells], y, fit, test, n_folds, k, random_state)
        rows.append({**scores, "n_train": len(fit), "n_test": len(test)})
        predicted |= dict(zip(mdata.obs_names[cells[test]], found, strict=True))
    n_left_out = int((labelled & ~usable).sum())
    if n_left_out:
        logger.info("%d labelled cells have no embedding and are left out.", n_left_out)
    return ProbeResult(
        folds=pd.DataFrame(rows),
        predicted=pd.Series(predicted, name=labels_key, dtype=object),
        classes=tuple(np.unique(y)),
        n_left_out=n_left_out,
    )


def _values(mdata: MuData, embedding: str | ArrayLike) -> NDArray[Any]:
    if isinstance(embedding, str):
        check_keys([embedding], list(mdata.obsm), "Embedding in `mdata.obsm`")
        embedding = mdata.obsm[embedding]
    z = np.asarray(embedding, dtype=float)
    if z.ndim != 2 or len(z) != mdata.n_obs:
        raise ValueError(f"Expected an embedding with a row for each of {mdata.n_obs} cells, found shape {z.shape}.")
    return z


def _splits(
    mdata: MuData,
    y: NDArray[np.str_],
    cells: NDArray[np.int64],
    train: str | ArrayLike | None,
    n_folds: int,
    random_state: int,
) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    if train is None:
        _check_classes(y, n_folds, f"`n_folds={n_folds}`")
        return list(StratifiedKFold(n_folds, shuffle=True, random_state=random_state).split(y, y))
    if isinstance(train, str):
        check_keys([train], list(mdata.obs.columns), "Column of `mdata.obs`")
        train = mdata.obs[train].to_numpy()
    mask = np.asarray(train)
    if mask.dtype != bool or mask.shape != (mdata.n_obs,):
        raise ValueError(
            f"Expected `train` to be boolean of shape ({mdata.n_obs},), found {mask.dtype} of shape {mask.shape}."
        )
    fit, test = np.flatnonzero(mask[cells]), np.flatnonzero(~mask[cells])
    if not len(test):
        raise ValueError("Expected labelled cells with an embedding outside `train` to score, found none.")
    _check_classes(y[fit], 2, "`train`")
    return [(fit, test)]


def _check_classes(y: NDArray[np.str_], least: int, what: str) -> None:
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"Expected at least two classes to tell apart, found {shorten(classes) or 'none'}.")
    small = classes[counts < least]
    if len(small):
        raise ValueError(
            f"Expected at least {least} cells of every class for {what}, class {shorten(small)} has fewer. Merge it "
            "with another one, or set its label to missing."
        )


def _fold(
    z: NDArray[Any],
    y: NDArray[np.str_],
    fit: NDArray[np.int64],
    test: NDArray[np.int64],
    n_folds: int,
    k: int,
    random_state: int,
) -> tuple[dict[str, float], NDArray[np.str_]]:
    """Fit to some cells and score others."""
    smallest = int(np.unique(y[fit], return_counts=True)[1].min())
    inner = StratifiedKFold(max(2, min(n_folds, smallest)), shuffle=True, random_state=random_state)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    search = GridSearchCV(model, {"logisticregression__C": list(C_GRID)}, cv=inner, scoring="balanced_accuracy")
    search.fit(z[fit], y[fit])
    neighbours = make_pipeline(StandardScaler(), KNeighborsClassifier(min(k, len(fit)))).fit(z[fit], y[fit])
    found, probability = search.predict(z[test]), search.predict_proba(z[test])
    known = [i for i, name in enumerate(search.classes_) if (y[test] == name).any()]
    aupr = [average_precision_score(y[test] == search.classes_[i], probability[:, i]) for i in known]
    scores = {
        "balanced_accuracy": balanced_accuracy(y[test], found),
        "macro_aupr": float(np.mean(aupr)) if aupr else np.nan,
        "knn_balanced_accuracy": balanced_accuracy(y[test], neighbours.predict(z[test])),
        "C": float(search.best_params_["logisticregression__C"]),
    }
    return scores, found
