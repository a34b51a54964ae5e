"""Transfer of labels across modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier

from smalti.metrics._inputs import as_embedding, check_neighbors, encode_labels

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike


def label_transfer(
    x_from: ArrayLike,
    labels_from: ArrayLike,
    x_to: ArrayLike,
    labels_to: ArrayLike,
    *,
    k: int = 15,
    balanced: bool = False,
    exclude: Collection[object] | str = (),
) -> float:
    """Compute the accuracy of labels that a k-nearest-neighbour vote carries from one embedding to another.

    Parameters
    ----------
    x_from, x_to
        ``(n_from, d)`` and ``(n_to, d)`` embeddings in one space; distances are Euclidean.
    labels_from, labels_to
        ``(n_from,)`` and ``(n_to,)`` labels. A label of ``labels_to`` that does not occur in ``labels_from`` can only
        be missed and counts as wrong.
    k
        Neighbours that vote. Of labels with equally many votes the first in sorted order wins.
    balanced
        Average the accuracy over the labels of ``labels_to`` instead of over cells, so that rare types count as much.
    exclude
        Labels that mean "unlabelled", such as ``("unknown",)``. Cells with these or with missing values (None, NaN)
        neither vote nor are scored.

    Returns
    -------
    In [0, 1], higher is better; compare with the share of the most frequent label.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, no labelled cell is left, or fewer than ``k`` of them can vote.
    """
    x_from, x_to = as_embedding(x_from, "x_from"), as_embedding(x_to, "x_to")
    if x_from.shape[1] != x_to.shape[1]:
        raise ValueError(
            f"Expected `x_from` and `x_to` to have the same dimensions, found {x_from.shape[1]} and {x_to.shape[1]}."
        )
    n_from, n_to = len(x_from), len(x_to)
    encode_labels(labels_from, n_from, "labels_from")
    encode_labels(labels_to, n_to, "labels_to")
    both = np.concatenate([np.asarray(labels_from, dtype=object), np.asarray(labels_to, dtype=object)])
    codes, _ = encode_labels(both, n_from + n_to, "labels", exclude=exclude)
    votes, truth = codes[:n_from], codes[n_from:]
    if not (truth >= 0).any():
        raise ValueError("Expected labelled cells in `labels_to`, found none.")
    k = check_neighbors(k, int((votes >= 0).sum()), "labelled cells in `labels_from`")
    classifier = KNeighborsClassifier(k).fit(x_from[votes >= 0], votes[votes >= 0])
    truth, x_to = truth[truth >= 0], x_to[truth >= 0]
    predicted = classifier.predict(x_to)
    if balanced:
        return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro"))
    return float(np.mean(predicted == truth))
