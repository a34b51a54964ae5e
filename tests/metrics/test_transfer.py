from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import balanced_accuracy_score

from smalti.metrics import label_transfer


def vote(x_from, labels_from, x_to, k):
    predicted = []
    for row in np.argsort(cdist(x_to, x_from), axis=1)[:, :k]:
        counts = Counter(labels_from[row].tolist())
        predicted.append(min(counts, key=lambda label: (-counts[label], label)))
    return np.array(predicted)


@pytest.mark.parametrize("k", [1, 4, 15])
def test_accuracy_equals_a_vote_by_hand(k, make_pairs):
    x, y, labels = make_pairs(noise=2.0)
    predicted = vote(x, labels, y, k)
    assert 0.3 < (predicted == labels).mean() < 1
    assert label_transfer(x, labels, y, labels, k=k) == pytest.approx((predicted == labels).mean(), abs=1e-12)
    assert label_transfer(x, labels, y, labels, k=k, balanced=True) == pytest.approx(
        balanced_accuracy_score(labels, predicted), abs=1e-12
    )


@pytest.mark.data
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [str, object, "category", int])
def test_accuracy_equals_the_protocol(protocol, dtype, kind, make_pairs):
    for n, d in ((60, 3), (500, 20)):
        x, y, labels = make_pairs(n, d, noise=2.0, dtype=dtype)
        labels = np.unique(labels, return_inverse=True)[1] + 8 if kind is int else labels
        typed = pd.Series(labels).astype(kind) if kind == "category" else labels.astype(kind)
        assert label_transfer(x, typed, y, typed) == protocol.label_transfer(x, labels, y, labels)


def test_types_that_are_apart_transfer_perfectly(rng):
    labels = np.repeat(["a", "b"], 30)
    x = rng.normal(size=(60, 2)) + 100 * (labels == "a")[:, None]
    assert label_transfer(x, labels, x[::-1], labels[::-1]) == 1
    assert label_transfer(x, labels, x, labels[::-1]) == 0


def test_excluded_and_missing_labels_neither_vote_nor_count(make_pairs, rng):
    x, y, labels = make_pairs(noise=2.0)
    off_from, off_to = rng.random((2, len(x))) < 0.3
    expected = label_transfer(x[~off_from], labels[~off_from], y[~off_to], labels[~off_to])
    labels_from, labels_to = labels.astype(object), labels.astype(object)
    labels_from[off_from], labels_to[off_to] = "unknown", "unknown"
    assert label_transfer(x, labels_from, y, labels_to, exclude=("unknown",)) == expected
    assert label_transfer(x, labels_from, y, labels_to, exclude="unknown") == expected
    assert label_transfer(x, labels_from, y, labels_to) != expected
    labels_from[off_from], labels_to[off_to] = None, np.nan
    assert label_transfer(x, labels_from, y, labels_to) == expected


def test_a_type_nobody_can_vote_for_counts_as_missed(rng):
    x = rng.normal(size=(40, 2))
    assert label_transfer(x, ["a"] * 40, x, ["a"] * 30 + ["new"] * 10) == 0.75
    assert label_transfer(x, ["a"] * 40, x, ["a"] * 30 + ["new"] * 10, balanced=True) == 0.5


def test_balanced_accuracy_weighs_rare_types_as_much(rng):
    x = rng.normal(size=(50, 2))
    labels = ["common"] * 49 + ["rare"]
    assert label_transfer(x, labels, x, labels, k=15) == 0.98
    assert label_transfer(x, labels, x, labels, k=15, balanced=True) == 0.5


def test_bad_arguments_are_refused(make_pairs):
    x, y, labels = make_pairs(30)
    with pytest.raises(ValueError, match="`k` to be at most 10, the number of labelled cells in `labels_from`"):
        label_transfer(x, ["a"] * 10 + [None] * 20, y, labels, k=11)
    with pytest.raises(ValueError, match="labelled cells in `labels_to`, found none"):
        label_transfer(x, labels, y, ["?"] * 30, exclude="?")
    with pytest.raises(ValueError, match="`labels_from` to hold one label for each of 30"):
        label_transfer(x, labels[1:], y, labels)
    with pytest.raises(ValueError, match="`x_from` and `x_to` to have the same dimensions, found 8 and 7"):
        label_transfer(x, labels, y[:, 1:], labels)
    y[0] = np.nan
    with pytest.raises(ValueError, match="`x_to` to be finite"):
        label_transfer(x, labels, y, labels)
