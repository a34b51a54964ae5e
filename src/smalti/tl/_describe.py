"""A first look at a mosaic: who was measured in what, what is wrong with it, and which model fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._errors import SmaltiError
from smalti._validate import shorten
from smalti.data import (
    BATCH_WORDS,
    UNLABELED,
    CategoryField,
    check_mudata,
    column_remarks,
    find_patterns,
    measured_matrix,
    refuse_view,
    row_maps,
    shared_cells,
)

from ._confounding import confounded_labels, confounded_presence
from ._describe_text import as_html, as_text
from ._description import MosaicFacts
from ._facts import ModalityDescription, panel_gaps, read_modality, read_presence, totals
from ._feature_links import find_links
from ._pairing import outlier_notes, pairing_notes
from ._recommend import recommend

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, repr=False)
class MosaicDescription(MosaicFacts):
    """What :func:`describe_mosaic` found. Print it, or show it in a notebook."""

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def describe_mosaic(
    mdata: MuData,
    *,
    batch_key: str | None = None,
    labels_key: str | None = None,
    unlabeled_category: str = "unknown",
) -> MosaicDescription:
    """Describe who was measured in what, find problems, and recommend a model with its reasons.

    Nothing is changed, and nothing is refused that can be described: stale maps, empty modalities, cells without any
    modality and unusable values are reported as problems.

    Parameters
    ----------
    mdata
        Any MuData.
    batch_key
        Column of ``mdata.obs`` with the batch of every cell.
    labels_key
        Column of ``mdata.obs`` with labels, missing for cells without one.
    unlabeled_category
        Value of that column that means "no label", besides missing values.

    Returns
    -------
    Tables and sentences; ``print`` shows them, a notebook renders them.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If there is no modality at all.

    Examples
    --------
    >>> import smalti as sm
    >>> found = sm.tl.describe_mosaic(sm.datasets.pbmc_mosaic(), batch_key="batch", labels_key="celltype")
    >>> found.recommendation.model
    'CLUE'
    >>> found.pattern_sizes.tolist()
    [800, 400, 400]
    """
    check_mudata(mdata)
    names = list(mdata.mod)
    if not names:
        raise ValueError("The MuData has no modality: build it from AnnData objects, `MuData({'rna': rna, ...})`.")
    problems: list[str] = []
    try:
        refuse_view(mdata)
    except SmaltiError as error:
        problems.append(str(error))
    here, complaints = read_presence(mdata)
    problems += complaints
    batch, batch_names = _codes(mdata, "batch", batch_key, None, problems)
    label, label_names = _codes(mdata, "labels", labels_key, unlabeled_category, problems)

    modalities, notes = {}, []
    sums: dict[str, NDArray[np.float64]] = {}
    for name in names:
        modalities[name], bad, odd = read_modality(mdata, name)
        problems += bad
        notes += odd
        if modalities[name].median_total is None or complaints:
            continue
        x = measured_matrix(mdata.mod[name], modalities[name].layer, name)
        sums[name] = totals(x)
        notes += outlier_notes(x, name, mdata.mod[name].obs_names, mdata.mod[name].var_names)
        if len(batch_names) > 1:
            notes += panel_gaps(x, batch[_cells_of_rows(mdata, name)], batch_names, name)
    notes += column_remarks(mdata, batch_key, labels_key, unlabeled_category)
    notes += confounded_presence(here, batch, batch_names)
    notes += confounded_labels(label, label_names, batch, batch_names)
    if not complaints:
        notes += pairing_notes(mdata, sums)
    lonely = ~here.any(axis=1)
    if lonely.any():
        problems.append(
            f"{int(lonely.sum()):,} cells were measured in no modality: {shorten(mdata.obs_names[lonely])}. Remove "
            "them: `mdata = mdata[keep].copy()`."
        )

    patterns, sizes, group = find_patterns(here)
    table = _label_table(here, names, label, label_names) if labels_key else None
    filled = np.asarray(here.any(axis=0))
    used = [name for i, name in enumerate(names) if filled[i]]
    return MosaicDescription(
        n_obs=mdata.n_obs,
        modalities=modalities,
        patterns=pd.DataFrame(patterns, columns=names),
        pattern_sizes=sizes,
        batch_key=batch_key,
        batches=_cross(group, len(sizes), batch, batch_names) if batch_key else None,
        labels_key=labels_key,
        labels=table,
        pairs=pd.DataFrame(shared_cells(here), names, names),
        problems=tuple(problems),
        notes=tuple(notes),
        recommendation=recommend(
            here[:, filled],
            used,
            None if table is None else table[used],
            modalities=_specifications({name: modalities[name] for name in used}),
            batch_key=batch_key,
            labels_key=labels_key,
            links=find_links(mdata, used),
            bulk={name: modalities[name].layer for name in used if modalities[name].bulk},
        ),
    )


def _cells_of_rows(mdata: MuData, name: str) -> NDArray[np.int64]:
    """Return the position in ``mdata`` of every row of a modality."""
    rows = row_maps(mdata, [name])[name]
    cells = np.flatnonzero(rows >= 0)
    return cells[np.argsort(rows[cells])]


def _codes(
    mdata: MuData, key: str, column: str | None, missing: str | None, problems: list[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the code of every cell, -1 where missing, and the names of categories; a bad column is a problem."""
    reserved = BATCH_WORDS if missing is None else ()
    field = CategoryField(key, column, missing, reserved=reserved)
    if column is None:
        return field.codes(mdata, {}), []
    try:
        field.validate_field(mdata)
    except ValueError as error:
        problems.append(str(error))
    try:
        state = CategoryField(key, column, missing or "", reserved=reserved).register_field(mdata)
    except ValueError as error:
        problems.append(str(error))
        return np.full(mdata.n_obs, UNLABELED, dtype=np.int64), []
    return field.codes(mdata, state), [str(name) for name in state["categories"]]


def _cross(group: NDArray[np.int64], n_groups: int, codes: NDArray[np.int64], columns: list[str]) -> pd.DataFrame:
    known = codes >= 0
    table = np.zeros((n_groups, len(columns)), dtype=np.int64)
    np.add.at(table, (group[known], codes[known]), 1)
    return pd.DataFrame(table, columns=columns)


def _label_table(
    here: NDArray[np.bool_], names: list[str], codes: NDArray[np.int64], labels: list[str]
) -> pd.DataFrame:
    known = codes >= 0
    columns = np.column_stack([here, here.sum(axis=1) > 1, np.ones(len(here), dtype=bool)])[known]
    table = np.zeros((len(labels), columns.shape[1]), dtype=np.int64)
    np.add.at(table, codes[known], columns)
    out = pd.DataFrame(table, index=labels, columns=[*names, "paired", "all"])
    return out.sort_values("all", ascending=False, kind="stable")


def _specifications(modalities: dict[str, ModalityDescription]) -> dict[str, str]:
    """Return what ``setup_mudata`` is told of each modality, as code."""
    specs = {}
    for name, facts in modalities.items():
        specs[name] = repr("gaussian" if facts.bulk else facts.likelihood)
        if facts.layer is not None and not facts.bulk:
            specs[name] = f"sm.data.Modality(likelihood={facts.likelihood!r}, layer={facts.layer!r})"
    return specs
