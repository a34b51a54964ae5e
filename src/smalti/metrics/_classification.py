"""Agreement of predicted labels with true ones, where a prediction may be an abstention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, recall_score

from smalti._validate import check_unique, shorten
from smalti.metrics._inputs import encode_labels

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import ArrayLike, NDArray

ABSTAINED = "(abstained)"
"""Name of the last column of :func:`confusion`."""


def confusion(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    classes: Sequence[object] | None = None,
    exclude: Collection[object] | str = (),
) -> pd.DataFrame:
    """Count cells by true and predicted label.

    Parameters
    ----------
    truth
        ``(n,)`` true labels. Cells with missing values (None, NaN) are left out.
    predicted
        ``(n,)`` predicted labels. Missing values and those in ``exclude`` are abstentions.
    classes
        Rows and columns, in this order; by default every label that occurs in either, sorted.
    exclude
        Labels that mean "unlabelled"; cells whose true label is one of them are left out.

    Returns
    -------
    Counts, ``(K, K + 1)``: rows are true labels, columns predicted ones, and the last column, ``"(abstained)"``, counts
    cells without a prediction. The row of a label that is only predicted has zeros. The table sums to the number of
    labelled cells.

    Raises
    ------
    ValueError
        If lengths differ, no labelled cell is left, or a label is not in ``classes``.
    """
    true, found, names = _encode(truth, predicted, exclude)
    if classes is not None:
        check_unique([str(name) for name in classes], "`classes`")
        place = pd.Index(classes, dtype=object).get_indexer(names)
        if (place < 0).any():
            raise ValueError(
                f"Expected every label to be one of `classes`, found {shorten(names[place < 0])} as well. Add them, or "
                "name them in `exclude`."
            )
        place = np.append(place, -1)  # the last serves code -1
        true, found, names = place[true], place[found], np.asarray(classes, dtype=object)
    if ABSTAINED in names:
        raise ValueError(f"The label {ABSTAINED!r} is the name of a column of the table. Name it in `exclude`.")
    size = len(names)
    counts = confusion_matrix(true, np.where(found < 0, size, found), labels=range(size + 1))
    return pd.DataFrame(
        counts[:size],
        index=pd.Index(names, name="true"),
        columns=pd.Index([*names, ABSTAINED], dtype=object, name="predicted"),
    )


def class_recall(truth: ArrayLike, predicted: ArrayLike, *, exclude: Collection[object] | str = ()) -> pd.Series:
    """Compute the share of the cells of each true label that were predicted to have it.

    Parameters
    ----------
    truth, predicted, exclude
        As in :func:`confusion`. An abstention is a miss.

    Returns
    -------
    One value in [0, 1] for every label that occurs in ``truth``, sorted by label; higher is better.

    Raises
    ------
    ValueError
        If lengths differ or no labelled cell is left.
    """
    true, found, names = _encode(truth, predicted, exclude)
    here = np.unique(true)
    recall = recall_score(true, found, labels=here, average=None)
    return pd.Series(recall, index=pd.Index(names[here], name="true"), name="recall")


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, *, exclude: Collection[object] | str = ()) -> float:
    """Compute the mean over true labels of the share that was found, so that rare labels count as much.

    Parameters
    ----------
    truth, predicted, exclude
        As in :func:`confusion`. An abstention is a miss.

    Returns
    -------
    In [0, 1], higher is better; a guess that ignores the data scores 1 / number of true labels.

    Raises
    ------
    ValueError
        If lengths differ or no labelled cell is left.
    """
    true, found, _ = _encode(truth, predicted, exclude)
    return float(recall_score(true, found, labels=np.unique(true), average="macro"))


def _encode(
    truth: ArrayLike, predicted: ArrayLike, exclude: Collection[object] | str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Return codes of true and predicted labels of the labelled cells, -1 for abstentions, and the sorted labels."""
    n = len(np.asarray(truth))
    known = encode_labels(truth, n, "truth", exclude=exclude)[0] >= 0
    encode_labels(predicted, n, "predicted")
    if not known.any():
        raise ValueError("Expected labelled cells in `truth`, found none.")
    both = [np.asarray(labels, dtype=object)[known] for labels in (truth, predicted)]
    codes, names = encode_labels(np.concatenate(both), 2 * int(known.sum()), "labels", exclude=exclude)
    true, found = np.split(codes, 2)
    return true, found, names
