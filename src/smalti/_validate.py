"""Checks of user input, one helper per kind, all speaking with one voice.

Every message says what was expected, what was found and where.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


LARGEST_SEED = 2**32 - 1
"""What numpy takes."""


def shorten(names: Iterable[object], limit: int = 5) -> str:
    """Join ``names`` for a message; more than ``limit`` become the first ones and a count."""
    shown = [repr(n.item() if isinstance(n, np.generic) else n) for n in names]  # no `np.str_('x')` in messages
    if len(shown) <= limit:
        return ", ".join(shown)
    return ", ".join(shown[:limit]) + f" and {len(shown) - limit} more"


def is_number(value: object) -> bool:
    """Return whether ``value`` is a single real number; text and truth values are none."""
    return isinstance(value, numbers.Real | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def check_choice(value: Any, choices: Collection[Any], what: str) -> Any:
    """Return ``value`` if it is one of ``choices``, else raise ``ValueError`` listing them."""
    if not isinstance(value, Hashable) or value not in choices:
        raise ValueError(f"Expected `{what}` to be one of {shorten(choices, 20)}, found {value!r}.")
    return value


def check_positive(value: float, what: str, *, allow_zero: bool = False) -> float:
    """Return ``value`` if it is finite and positive (or zero if allowed), else raise ``ValueError``."""
    good = is_number(value) and np.isfinite(value) and (value > 0 or (allow_zero and value == 0))
    if not good:
        bound = ">= 0" if allow_zero else "> 0"
        raise ValueError(f"Expected `{what}` to be a finite number {bound}, found {value!r}.")
    return value


def check_count(value: int, what: str) -> int:
    """Return ``value`` as an int if it is a whole number >= 1, else raise ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"Expected `{what}` to be a whole number >= 1, found {value!r}.")
    return int(value)


def check_seed(value: int, what: str = "random_state") -> int:
    """Return ``value`` as an int if all libraries take it as a seed, else raise ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= LARGEST_SEED:
        raise ValueError(f"Expected `{what}` to be a whole number in 0..{LARGEST_SEED}, found {value!r}.")
    return int(value)


def check_text(value: str, what: str) -> str:
    """Return ``value`` if it is text of at least one character, else raise ``TypeError``."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"Expected `{what}` to be text of at least one character, found {value!r}.")
    return value


def check_path(value: str | os.PathLike[str], what: str = "path") -> Path:
    """Return ``value`` as a path, or raise ``TypeError`` if it names nothing."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        found = "an empty text" if isinstance(value, str) else f"the type {type(value).__name__}"
        raise TypeError(f"Expected `{what}` to be the name of a file or folder, found {found}.")
    return Path(value)


def check_in_range(value: float, low: float, high: float, what: str) -> float:
    """Return ``value`` if ``low <= value <= high``, else raise ``ValueError``."""
    if not (is_number(value) and low <= value <= high):
        raise ValueError(f"Expected `{what}` to be in interval [{low}, {high}], found {value!r}.")
    return value


def check_unique(names: Sequence[str], what: str) -> None:
    """Raise ``ValueError`` naming the first repeated entries of ``names``."""
    array = np.asarray(names)
    unique, counts = np.unique(array.astype(str), return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{what} are not unique: {shorten(unique[counts > 1])} occur more than once. Make them unique first "
            "(for AnnData: `adata.obs_names_make_unique()` or `adata.var_names_make_unique()`)."
        )


def check_names_equal(found: Sequence[str], expected: Sequence[str], what: str, remedy: str) -> None:
    """Raise ``ValueError`` at the first difference between two lists of names.

    Parameters
    ----------
    found, expected
        Names in the data at hand and names that are required, order included.
    what
        Subject of the sentence, such as ``"Modality 'adt'"``.
    remedy
        What the user should do, a whole sentence.
    """
    found, expected = [str(n) for n in found], [str(n) for n in expected]
    if found == expected:
        return
    here, wanted = set(found), set(expected)
    missing = [n for n in expected if n not in here]
    if missing:
        detail = f"{len(missing)} of {len(expected)} expected variables are missing: {shorten(missing)}"
    elif len(found) != len(expected):
        extra = [n for n in found if n not in wanted]
        detail = f"it has {len(found)} variables, expected {len(expected)}; unexpected: {shorten(extra)}"
    else:
        at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        detail = (
            f"same variables in another order, first difference at position {at}: {shorten([found[at]])} != "
            f"{shorten([expected[at]])}"
        )
    raise ValueError(f"{what}: {detail}. {remedy}")


def check_keys(keys: Iterable[str], available: Collection[str], what: str) -> None:
    """Raise ``KeyError`` naming those ``keys`` that are not in ``available``."""
    absent = [k for k in keys if k not in available]
    if absent:
        raise KeyError(f"{what}: {shorten(absent)} not found; available: {shorten(available, 20) or 'none'}.")
