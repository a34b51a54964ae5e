"""Predicted labels and probabilities as a user gives them, and the cells that count for each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from smalti._validate import check_keys, check_unique, shorten
from smalti.data import as_text, presence

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from mudata import MuData
    from numpy.typing import NDArray

JOINT = "(joint)"
"""Name of what is predicted from all that a cell has."""


def by_modality(
    mdata: MuData, predicted: Any, modalities: Sequence[str] | None
) -> tuple[dict[str, pd.Series], list[str]]:
    """Return predictions by modality, and the modalities to score."""
    if modalities is not None and not len(modalities):
        raise ValueError("Expected at least one modality in `modalities`, found none.")
    if isinstance(predicted, Mapping):
        names = list(predicted) if modalities is None else list(modalities)
        check_keys(names, list(predicted), "Prediction from modality")
        if not names:
            raise ValueError("Expected predictions from at least one modality in `predicted`, found none.")
    else:
        names = [JOINT, *(mdata.mod if modalities is None else modalities)]
    check_unique(names, "Names in `modalities`")
    check_keys([name for name in names if name != JOINT], list(mdata.mod), "Modality")
    if isinstance(predicted, Mapping):
        return {name: read_labels(mdata, predicted[name], f"predicted[{name!r}]") for name in names}, names
    joint = read_labels(mdata, predicted, "predicted")
    return dict.fromkeys(names, joint), names


def read_probabilities(given: Any, predicted: Any, names: list[str]) -> dict[str, pd.DataFrame] | None:
    """Return a table of probabilities for each modality, columns as text."""
    if given is None:
        return None
    if isinstance(given, Mapping) != isinstance(predicted, Mapping):
        raise TypeError(
            "Expected `probabilities` in the form of `predicted`: a data frame for labels predicted from all that a "
            f"cell has, a mapping for labels by modality; found {type(given).__name__} and {type(predicted).__name__}."
        )
    if isinstance(given, Mapping):
        check_keys(names, list(given), "Probabilities from modality")
    tables = {name: given[name] for name in names} if isinstance(given, Mapping) else dict.fromkeys(names, given)
    for name, table in tables.items():
        if not isinstance(table, pd.DataFrame):
            raise TypeError(
                f"Expected probabilities from {name!r} as a data frame with a column per class, found "
                f"{type(table).__name__}."
            )
        check_unique(table.index, f"Cells in the probabilities from {name!r}")
    return {name: table.set_axis([str(c) for c in table.columns], axis=1) for name, table in tables.items()}


def read_labels(mdata: MuData, labels: Any, what: str) -> pd.Series:
    """Return labels as text, indexed by cell name."""
    if isinstance(labels, str):
        check_keys([labels], list(mdata.obs.columns), "Column of `mdata.obs`")
        labels = mdata.obs[labels]
    if not isinstance(labels, pd.Series):
        raise TypeError(
            f"Expected `{what}` to be a column of `mdata.obs` or a Series indexed by cell name, found "
            f"{type(labels).__name__}."
        )
    check_unique(labels.index, f"Cells in `{what}`")
    return as_text(labels)


def members(mdata: MuData, names: list[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which cells have each modality; those with any of them for predictions from all."""
    alone = [name for name in names if name != JOINT]
    here = presence(mdata, alone or None)
    return dict(zip(alone, here.T, strict=False)) | ({JOINT: here.any(axis=1)} if JOINT in names else {})


def of_cells(mdata: MuData, values: Any, rows: NDArray[np.bool_], what: str, name: str) -> Any:
    """Return the rows of the cells that count."""
    cells = mdata.obs_names[rows]
    gone = cells[~cells.isin(values.index)]
    if len(gone):
        raise ValueError(
            f"Expected the {what} from {name!r} to hold every cell that counts, {len(gone)} of {len(cells)} are not "
            f"in its index: {shorten(gone)}. "
            "If they were not to be predicted, leave them out of `truth`; if the model abstained, set them to None."
        )
    return values.loc[cells]
