"""Categories are compared as values, whatever their type."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smalti._text import as_text, text_of


@pytest.mark.parametrize("one", [1, 1.0, "1", "1.0", np.int8(1), np.float32(1), np.uint64(1), b"1", "1.000"])
def test_one_is_one_whatever_its_type(one):
    assert text_of(one) == "1"


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, np.float32("nan"), "nan", "<NA>", "NaN", "NaT"])
def test_missing_is_missing_whatever_its_type(missing):
    assert text_of(missing) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (-0.0, "0"), ("-0.0", "0"), (True, "True"), (np.bool_(False), "False"), ("v1.0", "v1.0"),
     ("1.10", "1.10"), ("", ""), ("None", "None"), (float("inf"), "inf"), ((1, 2), "(1, 2)"), ("007", "007")],
)  # fmt: skip
def test_other_values_keep_their_text(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize("dtype", [object, float, "Int64", "category", "string", "Float64"])
def test_columns_of_every_dtype_say_the_same(dtype):
    values = pd.Series([1, 2, None, 1], index=list("abcd"), dtype=object)
    as_names = values.map(lambda value: None if value is None else str(value))
    column = (as_names if dtype == "string" else values).astype(dtype)
    found = as_text(column)
    assert found.tolist() == ["1", "2", None, "1"]
    assert list(found.index) == list("abcd")
