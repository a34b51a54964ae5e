"""The one way to read a category as text: values that are equal have one text, missing ones none."""

from __future__ import annotations

import math
import numbers
import re
from typing import Any

import pandas as pd

MISSING_WORDS = frozenset({"nan", "NaN", "<NA>", "NaT"})
"""What libraries write for a missing value when they make text of a column."""
WHOLE = re.compile(r"[+-]?\d+\.0+")


def as_text(values: pd.Series) -> pd.Series:
    """Return values as the strings that name categories, missing ones left missing.

    Whole numbers have one text whatever their type (``1``, ``1.0`` and ``"1"`` are all ``"1"``, as pandas makes floats
    of integers whenever a value is missing). Text that libraries write for a missing value (``"nan"``, ``"<NA>"``) is
    missing.

    Parameters
    ----------
    values
        ``(n,)`` of any dtype.

    Returns
    -------
    ``(n,)`` object, strings and ``None``.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        texts = [text_of(category) for category in values.cat.categories]
        named = [None if code < 0 else texts[code] for code in values.cat.codes]
    else:
        named = [text_of(value) for value in values.astype(object)]
    return pd.Series(named, index=values.index, name=values.name, dtype=object)


def text_of(value: Any) -> str | None:
    """Return the text of one category, ``None`` if it is missing; see :func:`as_text`."""
    if isinstance(value, str):
        if value in MISSING_WORDS:
            return None
        return _whole(value.partition(".")[0]) if WHOLE.fullmatch(value) else str(value)
    if isinstance(value, bytes):
        return text_of(value.decode(errors="replace"))
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        whole = int(value)  # type: ignore[call-overload]
        if value == whole:
            return str(whole)
    return str(value)


def _whole(digits: str) -> str:
    return digits if digits.lstrip("+-").strip("0") else digits.lstrip("+-")
