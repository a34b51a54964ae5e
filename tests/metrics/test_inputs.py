from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smalti._validate import check_count
from smalti.metrics._inputs import as_embedding, as_mask, as_pair, check_neighbors, encode_labels, unit_rows


@pytest.mark.parametrize(("dtype", "kept"), [("f4", "f4"), ("f8", "f8"), ("f2", "f8"), ("i4", "f8"), ("?", "f8")])
def test_single_precision_is_kept_and_other_kinds_become_double(dtype, kept):
    assert as_embedding(np.ones((3, 2), dtype), "x").dtype == kept


@pytest.mark.parametrize("values", [np.ones(3), np.ones((2, 0)), np.ones((0, 2)), np.ones((2, 2, 2)), 1.0])
def test_what_is_not_a_matrix_is_refused(values):
    with pytest.raises(ValueError, match=r"`z` to be a matrix \(n_cells, n_dimensions\), found shape"):
        as_embedding(values, "z")


def test_text_is_refused():
    with pytest.raises(ValueError, match="`x` to be numeric"):
        as_embedding([["a", "b"]], "x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_rows_are_counted_and_the_first_is_named(bad):
    x = np.zeros((5, 2))
    x[[2, 4], 1] = bad
    with pytest.raises(ValueError, match="in 2 of 5 rows, first in row 2"):
        as_embedding(x, "x")
    assert as_embedding(x, "x", mask=[True, True, False, True, False]) is x


def test_pairs_of_different_length_or_width_are_refused():
    with pytest.raises(ValueError, match="same cell, found 3 and 4 rows"):
        as_pair(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="same dimensions, found 2 and 3"):
        as_pair(np.ones((3, 2)), np.ones((3, 3)))
    assert len(as_pair(np.ones((3, 2)), np.ones((4, 2)), paired=False)[1]) == 4


@pytest.mark.parametrize("mask", [[True, False], [1, 0, 1], [[True, True, True]]])
def test_a_mask_of_other_shape_or_type_is_refused(mask):
    with pytest.raises(ValueError, match=r"`x_mask` to be boolean of shape \(3,\)"):
        as_mask(mask, 3, "x_mask")


def test_codes_follow_the_sorted_labels():
    labels = np.array(["b", "a", "c", "a"])
    codes, categories = encode_labels(labels, 4, "labels")
    assert codes.tolist() == [1, 0, 2, 0]
    assert categories.tolist() == np.unique(labels).tolist()


@pytest.mark.parametrize(
    "labels",
    [
        ["b", None, "unknown", "a", "b"],
        np.array(["b", np.nan, "unknown", "a", "b"], dtype=object),
        pd.Series(["b", None, "unknown", "a", "b"], dtype="category"),
        pd.array(["b", pd.NA, "unknown", "a", "b"], dtype="string"),
    ],
)
@pytest.mark.parametrize("exclude", ["unknown", ("unknown",), ["unknown", "never seen"], {"unknown"}])
def test_missing_and_excluded_labels_get_minus_one(labels, exclude):
    codes, categories = encode_labels(labels, 5, "labels", exclude=exclude)
    assert codes.tolist() == [1, -1, -1, 0, 1]
    assert categories.tolist() == ["a", "b"]


def test_numbers_as_labels_sort_as_numbers():
    codes, categories = encode_labels([10, 9, -1, 10], 4, "labels", exclude=(-1,))
    assert codes.tolist() == [1, 0, -1, 1]
    assert categories.tolist() == [9, 10]


def test_labels_of_other_length_are_refused():
    with pytest.raises(ValueError, match="`labels_to` to hold one label for each of 3 cells"):
        encode_labels(["a", "b"], 3, "labels_to")


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "3", None])
def test_a_count_is_a_whole_number_from_one(value):
    with pytest.raises(ValueError, match="`k` to be a whole number >= 1"):
        check_count(value, "k")


def test_more_neighbours_than_cells_are_refused():
    assert check_neighbors(np.int64(5), 5, "cells") == 5
    with pytest.raises(ValueError, match="`k` to be at most 5, the number of cells, found 6"):
        check_neighbors(6, 5, "cells")


def test_unit_rows_have_length_one_and_zero_rows_stay():
    x = np.array([[3, 4], [0, 0]], np.float32)
    assert unit_rows(x).dtype == np.float32
    np.testing.assert_allclose(unit_rows(x), [[0.6, 0.8], [0, 0]])
