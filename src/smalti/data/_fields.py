"""Registry fields of a mosaic: one per modality, which may be absent from a query."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table
from scvi.data.fields import BaseAnnDataField

from smalti._missing import (
    STANDS_OUT,
    count_limit,
    feature_levels,
    filled,
    has_missing,
    largest_counts,
    missing_of,
    without_artefacts,
)
from smalti._text import as_text, text_of
from smalti._validate import check_keys, check_names_equal, shorten

from ._modality import COUNT_LIKELIHOODS, ENCODER_INPUTS, Modality, check_values
from ._presence import row_maps
from ._values import by_rows, components_of, stored_matrix

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

PREFIX = "x_"
"""Registry keys of modalities are ``x_<name>``."""


class ModalityField(BaseAnnDataField):
    """The values of one modality of a mosaic, with its specification and feature mask.

    The state it leaves in the registry is plain (names, numbers, arrays), so that a model can be stored as JSON and
    weights.

    Parameters
    ----------
    name
        Name of the modality.
    spec
        Its resolved specification.
    batch_key
        Column of ``mdata.obs`` whose categories name the columns of the feature mask.
    """

    def __init__(self, name: str, spec: Modality, batch_key: str | None = None) -> None:
        self.name = name
        self.spec = spec
        self.batch_key = batch_key
        self._levels: NDArray[np.float64] | None = None
        self._limit: float | None = None

    @property
    def registry_key(self) -> str:
        """``x_<name>``."""
        return PREFIX + self.name

    @property
    def attr_name(self) -> str:
        """Attribute of the modality that holds the values."""
        return "X" if self.spec.layer is None else "layers"

    @property
    def attr_key(self) -> str | None:
        """Layer, if any."""
        return self.spec.layer

    @property
    def mod_key(self) -> str:
        """Name of the modality."""
        return self.name

    @property
    def input_key(self) -> str | None:
        """Key of the modality's ``.obsm`` that the encoder sees, if it sees one."""
        return None if self.spec.encoder_input in ENCODER_INPUTS else self.spec.encoder_input

    @property
    def is_empty(self) -> bool:
        """Never: the field always has a modality."""
        return False

    def stored(self, adata: MuData) -> Any:
        """Return the matrix of the modality, its own rows, as stored."""
        return stored_matrix(adata.mod[self.name], self.spec.layer, self.name)

    def get_field_data(self, adata: MuData) -> Any:
        """Return the matrix of the modality, means of training in place of missing values (NaN)."""
        x = self._known(adata)
        if not has_missing(x):
            return by_rows(x, adata.mod[self.name], self.spec.layer)
        if self._levels is None:
            raise ValueError(
                f"Modality {self.name!r} has missing values (NaN), for which this stored model knows no means: it was "
                "made by an earlier version. Train it again, or impute the values."
            )
        return filled(x, self._levels, self._counts)

    def missing(self, adata: MuData) -> Any:
        """Return where values are missing, ``(n, G)`` sparse boolean; ``None`` if nowhere."""
        x = self._known(adata)
        return missing_of(x) if has_missing(x) else None

    def _known(self, adata: MuData) -> Any:
        """Return the matrix with missing values in place of counts that are taken for artefacts."""
        return without_artefacts(self.stored(adata), self._limit)

    @property
    def _counts(self) -> bool:
        return self.spec.likelihood in COUNT_LIKELIHOODS

    def has_values(self, adata: MuData) -> bool:
        """Return whether the modality still has the matrix."""
        mod = adata.mod[self.name]
        return mod.X is not None if self.spec.layer is None else self.spec.layer in mod.layers

    def validate_field(self, adata: MuData) -> None:
        """Values are checked when specifications are resolved, before any field is made."""

    def register_field(self, adata: MuData) -> dict[str, Any]:
        """Return names of variables, width of an ``.obsm`` input and the feature mask."""
        mod = adata.mod[self.name]
        stored = self.stored(adata)
        self._limit = count_limit(stored) if self._counts else None
        known = without_artefacts(stored, self._limit)
        self._levels = feature_levels(known, self._counts)
        if known is not stored:
            self._warn_of_artefacts(adata)
        state: dict[str, Any] = {
            "levels": self._levels,
            "count_limit": self._limit,
            "column_names": mod.var_names.to_numpy().astype(str),
            "n_vars": int(mod.n_vars),
            "spec": self.spec.to_dict(),
        }
        if self.input_key is not None:
            state["n_input"] = int(components_of(mod, self.input_key, self.name).shape[1])
        if self.spec.feature_mask is not None:
            state["mask_batches"], state["feature_mask"] = self._read_mask(adata)
        return state

    def transfer_field(self, state_registry: dict[str, Any], adata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Check the variables of a query against those the model knows; an absent modality is fine."""
        if state_registry.get("levels") is not None:
            self._levels = np.asarray(state_registry["levels"], dtype=np.float64)
            self._limit = state_registry["count_limit"]
        if self.name in adata_target.mod:
            check_names_equal(
                adata_target.mod[self.name].var_names.to_numpy(),
                state_registry["column_names"],
                f"Modality {self.name!r} differs from the one the model was trained on",
                f"Bring it into the order of the model: `mdata[{self.name!r}][:, "
                f"model.get_var_names()[{self.name!r}]]`; a feature that was not measured needs a column of zeros and "
                "a `feature_mask`.",
            )
            check_values(adata_target, self.name, self.spec)
            if self.input_key is not None:
                width = components_of(adata_target.mod[self.name], self.input_key, self.name).shape[1]
                if width != state_registry["n_input"]:
                    raise ValueError(
                        f"`.obsm[{self.input_key!r}]` of modality {self.name!r} has {width} columns, the model was "
                        f"trained on {state_registry['n_input']}. Apply the same transform as for training."
                    )
        return state_registry

    def _warn_of_artefacts(self, adata: MuData) -> None:
        largest = largest_counts(self.stored(adata))
        odd = np.flatnonzero(largest > (self._limit or np.inf))
        first = adata.mod[self.name].obs_names[odd[0]]
        warnings.warn(
            f"Modality {self.name!r} has counts above {self._limit:,.0f}, {STANDS_OUT} times the largest of a typical "
            f"cell, in {len(odd):,} cells, first {first!r} with {largest[odd[0]]:,.0f}. "
            "They are taken for artefacts and count as missing.",
            UserWarning,
            stacklevel=2,
        )

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Return ``{"n_x_<name>": number of variables}``; keys of scvi-tools' summary cannot have dots."""
        return {f"n_{self.registry_key}".replace("%", "%25").replace(".", "%2E"): state_registry["n_vars"]}

    def view_state_registry(self, state_registry: dict[str, Any]) -> Table:
        """Return a table of the specification for ``view_anndata_setup``."""
        table = Table(title=f"Modality {self.name}")
        table.add_column("field")
        table.add_column("value")
        for key, value in state_registry["spec"].items():
            table.add_row(key, str(value))
        return table

    def _read_mask(self, adata: MuData) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        key = self.spec.feature_mask
        where = f"Feature mask `.varm[{key!r}]` of modality {self.name!r}"
        table = adata.mod[self.name].varm[key]
        if not isinstance(table, pd.DataFrame):
            raise TypeError(f"{where}: expected a DataFrame with one boolean column per batch, found {type(table)}.")
        if self.batch_key is None:
            raise ValueError(f"{where} is per batch, but no `batch_key` was given to `setup_mudata`.")
        other = [str(kind) for kind in table.dtypes.unique() if kind != np.dtype(bool)]
        if other:
            raise TypeError(f"{where}: expected boolean values, found {shorten(other)}.")
        table = table.rename(columns=lambda name: text_of(name) or str(name))
        batch = as_text(adata.obs[self.batch_key])
        here = pd.unique(batch[row_maps(adata, [self.name])[self.name] >= 0])
        check_keys(here, list(table.columns), where)
        empty = [name for name in here if not table[name].any()]
        if empty:
            raise ValueError(f"{where}: batches {shorten(empty)} measured no feature at all.")
        # a batch without a cell of this modality has no panel of its own: all that any batch measured
        union = table[here].any(axis=1).to_numpy()
        names = sorted({*table.columns, *pd.unique(batch)})
        mask = np.stack([table[name].to_numpy() if name in here else union for name in names])
        return np.asarray(names), mask
