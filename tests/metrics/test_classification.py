from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from smalti.metrics import balanced_accuracy, class_recall, confusion


@pytest.fixture
def labels(rng):
    """True labels of uneven frequency and predictions of which most are right."""
    truth = rng.choice(["B", "T", "NK", "rare"], p=[0.5, 0.3, 0.17, 0.03], size=300).astype(object)
    predicted = np.where(rng.random(300) < 0.7, truth, rng.choice(["B", "T", "NK", "rare"], size=300)).astype(object)
    return truth, predicted


def test_scores_equal_those_of_scikit_learn(labels):
    truth, predicted = labels
    names = sorted(set(truth))
    table = confusion(truth, predicted)
    assert (list(table.index), list(table.columns)) == (names, [*names, "(abstained)"])
    np.testing.assert_array_equal(table[names], confusion_matrix(truth, predicted, labels=names))
    assert not table["(abstained)"].any()
    assert balanced_accuracy(truth, predicted) == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-12)
    recall = class_recall(truth, predicted)
    assert list(recall.index) == names
    np.testing.assert_allclose(recall, recall_score(truth, predicted, labels=names, average=None))


@pytest.mark.parametrize("kind", [object, "category", "string"])
def test_abstentions_are_counted_apart_and_are_misses(labels, rng, kind):
    truth, predicted = labels
    names = sorted(set(truth))
    silent = rng.random(300) < 0.2
    predicted[silent] = None
    table = confusion(pd.Series(truth).astype(kind), pd.Series(predicted).astype(kind))
    for a, b in product(names, names):
        assert table.loc[a, b] == sum(t == a and p == b for t, p in zip(truth, predicted, strict=True))
    for a in names:
        assert table.loc[a, "(abstained)"] == silent[truth == a].sum()
        assert class_recall(truth, predicted)[a] == pytest.approx(np.mean(predicted[truth == a] == a))
    assert balanced_accuracy(truth, predicted) == pytest.approx(class_recall(truth, predicted).mean())
    excluded = np.where(silent, "no idea", predicted)
    pd.testing.assert_frame_equal(confusion(truth, excluded, exclude="no idea"), table, check_dtype=False)


def test_cells_without_a_true_label_are_left_out_whatever_was_predicted(labels, rng):
    truth, predicted = labels
    off = rng.random(300) < 0.3
    expected = confusion(truth[~off], predicted[~off])
    for blank in (None, np.nan, "unknown"):
        gone = truth.copy()
        gone[off] = blank
        strange = np.where(off, "only here", predicted)
        pd.testing.assert_frame_equal(confusion(gone, strange, exclude="unknown"), expected)
        assert balanced_accuracy(gone, strange, exclude=["unknown"]) == balanced_accuracy(truth[~off], predicted[~off])


def test_a_label_that_is_only_predicted_lowers_no_mean():
    table = confusion(["a", "a", "b", "b"], ["a", "c", "b", "b"])
    assert table.loc["c"].sum() == 0
    assert table.loc["a", "c"] == 1
    assert list(class_recall(["a", "a", "b", "b"], ["a", "c", "b", "b"]).index) == ["a", "b"]
    assert balanced_accuracy(["a", "a", "b", "b"], ["a", "c", "b", "b"]) == 0.75


def test_rare_labels_count_as_much_as_common_ones():
    assert balanced_accuracy(["common"] * 99 + ["rare"], ["common"] * 100) == 0.5


def test_rows_and_columns_can_be_given_in_any_order(labels):
    truth, predicted = labels
    order = ["T", "absent", "rare", "B", "NK"]
    table = confusion(truth, predicted, classes=order)
    assert list(table.index) == order
    pd.testing.assert_frame_equal(table.loc[["B"], ["T"]], confusion(truth, predicted).loc[["B"], ["T"]])
    assert table.loc["absent"].sum() == table["absent"].sum() == 0
    with pytest.raises(ValueError, match=r"one of `classes`, found 'NK', 'T' as well"):
        confusion(truth, predicted, classes=["B", "rare"])


def test_numbers_serve_as_labels():
    table = confusion([10, 9, 9, -1], [10, 10, -1, 9], exclude=(-1,))
    assert table.to_numpy().tolist() == [[0, 1, 1], [0, 1, 0]]
    assert table.index.tolist() == [9, 10]


def test_bad_arguments_are_refused(labels):
    truth, predicted = labels
    for function in (confusion, class_recall, balanced_accuracy):
        with pytest.raises(ValueError, match="`predicted` to hold one label for each of 300"):
            function(truth, predicted[1:])
        with pytest.raises(ValueError, match="labelled cells in `truth`, found none"):
            function([None] * 300, predicted)
    with pytest.raises(ValueError, match=r"'\(abstained\)' is the name of a column"):
        confusion(["a", "b"], ["a", "(abstained)"])
    with pytest.raises(ValueError, match="not unique: 'a'"):
        confusion(["a"], ["a"], classes=["a", "a"])
