"""The file that a sweep adds its results to, and goes on from."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from smalti._files import check_writable, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

    from smalti.model.base import MosaicModel

TRAINING = "training"
"""Column that says what the trainings of a file have in common."""
AGAIN = "Name another file, or delete this one."


def training_key(model_cls: type[MosaicModel], mdata: MuData, *parts: Any) -> str:
    """Return a short text that trainings share if they are of the same model, data and arguments.

    Parameters
    ----------
    model_cls
        Class of the model.
    mdata
        The mosaic, set up.
    *parts
        Arguments.
    """
    manager: Any = model_cls._get_most_recent_anndata_manager(mdata, required=True)
    told = json.dumps([model_cls.__name__, manager.fingerprint().digest(), *parts], sort_keys=True, default=repr)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def read_results(path: Path, key: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return the results of a file, none if there is no file.

    Parameters
    ----------
    path
        CSV file.
    key
        What its trainings must have in common with those to come, see :func:`training_key`.
    columns
        Columns that it must have.

    Raises
    ------
    OSError
        If it cannot be written later.
    ValueError
        If it is of another kind, or of other trainings.
    """
    check_writable(path)
    if not path.exists():
        return pd.DataFrame()
    try:
        found = pd.read_csv(path)
    except ValueError as error:  # pandas' own and those of text that is none
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} holds no results of a sweep ({reason}). {AGAIN}") from error
    if missing := [repr(column) for column in columns if column not in found]:
        raise ValueError(f"{path} holds no results of a sweep: it has no column {', '.join(missing)}. {AGAIN}")
    if TRAINING in found and (found[TRAINING] != key).any():
        raise ValueError(f"{path} holds results of another model, of other data or of other arguments. {AGAIN}")
    return found.drop(columns=TRAINING, errors="ignore")


def write_results(path: Path, tables: Sequence[pd.DataFrame], key: str) -> None:
    """Write the results so far, whole tables, as scores differ between trainings."""
    with replacing(path) as beside:
        pd.concat(tables, ignore_index=True).assign(**{TRAINING: key}).to_csv(beside, index=False)
