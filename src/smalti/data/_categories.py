"""Categorical columns of ``mdata.obs``: batch and labels. Nothing is written to the user's object."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table
from scvi.data.fields import BaseAnnDataField

from smalti._mudata import check_mudata
from smalti._storable import narrow
from smalti._text import as_text, text_of
from smalti._validate import shorten

from ._presence import row_maps

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

UNLABELED = -1
"""Code of a cell without a label."""


BATCH_WORDS = ("own", "average")
"""What ``translate(batch=...)`` takes besides names of batches."""


def coalesce_obs(mdata: MuData, key: str) -> pd.Series:
    """Return one value per cell from a column that every modality carries in its own ``.obs``.

    Reads ``mdata.mod[m].obs[key]`` of every modality that has it, so it does not depend on which columns MuData pulled
    up. Assign the result to ``mdata.obs[key]``.

    Parameters
    ----------
    mdata
        The mosaic.
    key
        Name of the column.

    Returns
    -------
    ``(n_obs,)``, indexed by ``mdata.obs_names``; missing where no modality knows the cell. Values that are equal as
    categories (``1``, ``1.0`` and ``"1"``) are equal here: if types differ between modalities, the result is text.

    Raises
    ------
    KeyError
        If no modality has the column.
    ValueError
        If two modalities disagree on a cell.
    MosaicAlignmentError
        If names of cells repeat, or a modality was changed after the MuData was made.
    """
    check_mudata(mdata)
    out = pd.Series(None, index=mdata.obs_names, dtype=object)
    having = [name for name, mod in mdata.mod.items() if key in mod.obs]
    if not having:
        raise KeyError(f"No modality has a column {key!r} in its `.obs`; modalities: {shorten(mdata.mod)}.")
    row_maps(mdata, having)
    for name in having:
        values = mdata.mod[name].obs[key].astype(object).dropna()
        known = out.loc[values.index].dropna()
        differ = known.index[as_text(known).to_numpy() != as_text(values.loc[known.index]).to_numpy()]
        if len(differ):
            raise ValueError(
                f"Column {key!r} of modality {name!r} disagrees with another modality on {len(differ)} cells, first "
                f"{shorten(differ)}. Make them equal, or write `mdata.obs[{key!r}]` yourself."
            )
        out.loc[values.index] = values
    return out if all(isinstance(value, str) for value in out.dropna()) else narrow(out)


UNKNOWN_WORDS = frozenset({"unknown", "unassigned", "unlabeled", "unlabelled", "n/a", "na", "none", "?", ""})
"""What people write where they know no label, in small letters."""


class CategoryField(BaseAnnDataField):
    """A categorical column of ``mdata.obs``, or none.

    Codes are computed from the column and the categories in the registry whenever a dataset is made.

    Parameters
    ----------
    key
        Registry key, such as ``"batch"``.
    column
        Column of ``mdata.obs``; ``None`` gives every cell code 0.
    missing
        Value that stands for "not known", together with NaN, and gets code -1. ``None``: every cell needs a value.
    reserved
        Words that mean something else where categories are named, so that no category may have them as its name.
    """

    def __init__(
        self, key: str, column: str | None, missing: str | None = None, reserved: tuple[str, ...] = ()
    ) -> None:
        self.key, self.column, self.missing, self.reserved = key, column, missing, reserved

    @property
    def registry_key(self) -> str:
        """Key in the registry and in minibatches."""
        return self.key

    @property
    def attr_name(self) -> str:
        """``"obs"``."""
        return "obs"

    @property
    def attr_key(self) -> str | None:
        """The column."""
        return self.column

    @property
    def is_empty(self) -> bool:
        """Whether no column was given."""
        return self.column is None

    def validate_field(self, adata: MuData) -> None:
        """Raise ``KeyError`` if the column does not exist, ``ValueError`` if values that are needed are missing."""
        if self.column is None:
            return
        if not isinstance(self.column, str | int) or self.column == "":
            raise TypeError(
                f"Expected `{self.key}_key` to be the name of a column of `mdata.obs`, found {self.column!r}."
            )
        if self.column not in adata.obs:
            remedy = self._collected(adata)
            remedy = f"{remedy} first." if remedy else f"Available: {shorten(adata.obs.columns, 20)}."
            raise KeyError(f"`mdata.obs` has no column {self.column!r} (given as {self.key}_key). {remedy}")
        gone = as_text(adata.obs[self.column]).isna()
        if self.missing is None and gone.any():
            remedy = self._collected(adata)
            raise ValueError(
                f"Column {self.column!r} of `mdata.obs` is missing for {int(gone.sum())} cells, first "
                f"{shorten(adata.obs_names[gone])}. Every cell needs a {self.key}. "
                + (f"{remedy}." if remedy else f"Fill it in, or leave `{self.key}_key` out.")
            )

    def _collected(self, adata: MuData) -> str:
        """Return what collects the column from the modalities, in words; empty if none of them has it."""
        owner, _, short = str(self.column).partition(":")
        name = short if owner in adata.mod and short in adata.mod[owner].obs else self.column
        inside = [each for each, mod in adata.mod.items() if name in mod.obs]
        if not inside:
            return ""
        told = "" if name == self.column else f" and pass `{self.key}_key={name!r}`"
        return (
            f"Modalities {shorten(inside)} have {name!r}: call `mdata.obs[{name!r}] = "
            f"sm.data.coalesce_obs(mdata, {name!r})`{told}"
        )

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Return the categories, sorted."""
        self.validate_field(adata)
        values = as_text(adata.obs[self.column]).dropna()
        categories = np.sort(pd.unique(values[values != text_of(self.missing)].to_numpy()).astype(str))
        if len(categories) == 0:
            raise ValueError(
                f"Column {self.column!r} of `mdata.obs` holds nothing but {self.missing!r} or missing values. "
                f"Leave `{self.key}_key` out."
            )
        taken = [str(name) for name in categories if name in self.reserved]
        if taken:
            raise ValueError(
                f"Column {self.column!r} of `mdata.obs` has a {self.key} named {shorten(taken)}, a word with a meaning "
                f"of its own (`translate({self.key}={taken[0]!r})`). Rename it: `mdata.obs[{self.column!r}] = "
                f"mdata.obs[{self.column!r}].replace({taken[0]!r}, '{taken[0]} {self.key}')`."
            )
        return {"categories": categories, "column": self.column, "missing": self.missing}

    def remarks(self, adata: MuData) -> list[str]:
        """Return what is odd about the names of the categories, in sentences; they are used as they are."""
        if self.column is None or self.column not in adata.obs:
            return []
        names = sorted(set(as_text(adata.obs[self.column]).dropna()) - {text_of(self.missing)})
        found: list[str] = []
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
        for same in alike.values():
            if len(same) > 1:
                found.append(
                    f"Column {self.column!r} of `mdata.obs` has {shorten(same)}, which differ in blanks or capitals "
                    f"only and count as {len(same)} categories. If they are one, make them equal first."
                )
        words = UNKNOWN_WORDS | {str(self.missing).casefold()}
        if self.missing is not None and (none := [each for word in words for each in alike.get(word, [])]):
            found.append(
                f"Column {self.column!r} of `mdata.obs` has {shorten(sorted(none))}, which count as labels like all "
                f"others. If that means that there is none, say so: `unlabeled_category={sorted(none)[0]!r}`."
            )
        return found

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Check that a query has no category the model does not know; a query needs no labels at all."""
        if self.missing is not None and self.column not in adata_target.obs:
            return state_registry
        self.validate_field(adata_target)
        found = pd.unique(as_text(adata_target.obs[self.column]).dropna())
        known = {*map(text_of, state_registry["categories"]), text_of(self.missing)}
        new = [value for value in found if value not in known]
        if new and self.missing is not None:
            warnings.warn(
                f"Column {self.column!r} has {self.key} the model was not trained on: {shorten(new)}. Latents do not "
                "need them; where labels are looked at, these cells count as not labelled.",
                UserWarning,
                stacklevel=2,
            )
        elif new:
            raise ValueError(
                f"Column {self.column!r} has values the model was not trained on: {shorten(new)}; known: "
                f"{shorten(state_registry['categories'], 20)}. Train with these cells, or set the {self.key} to the "
                "known one that is most like it."
            )
        return state_registry

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``{"n_<key>": number of categories}``; 1 without a column."""
        return {f"n_{self.key}": len(state_registry["categories"]) if state_registry else 1}

    def view_state_registry(self, state_registry: dict[str, Any]) -> Table:
        """Return a table of categories and codes for ``view_anndata_setup``."""
        table = Table(title=f"{self.key} from obs[{self.column!r}]")
        table.add_column("category")
        table.add_column("code")
        for code, category in enumerate(state_registry["categories"]):
            table.add_row(str(category), str(code))
        return table

    def codes(self, adata: MuData, state_registry: dict[str, Any]) -> NDArray[np.int64]:
        """Return the code of every cell, ``(n_obs,)``; -1 where not known."""
        if self.column is None:
            return np.zeros(adata.n_obs, dtype=np.int64)
        if self.column not in adata.obs:
            return np.full(adata.n_obs, UNLABELED, dtype=np.int64)
        text = as_text(adata.obs[self.column])
        return pd.Index([text_of(name) for name in state_registry["categories"]]).get_indexer(text).astype(np.int64)


def column_remarks(
    mdata: MuData, batch_key: str | None, labels_key: str | None, unlabeled_category: str | None
) -> list[str]:
    """Return what is odd about the columns of batches and labels, in sentences.

    Parameters
    ----------
    mdata
        The mosaic.
    batch_key, labels_key
        Columns of ``mdata.obs``.
    unlabeled_category
        Value that means "no label".
    """
    found = CategoryField("batch", batch_key).remarks(mdata)
    found += CategoryField("labels", labels_key, unlabeled_category or "").remarks(mdata)
    if batch_key is not None and batch_key == labels_key:
        found.append(
            f"Batches and labels are the same column, {batch_key!r}: models take out what differs between batches, and "
            "with it what differs between labels."
        )
    return found
