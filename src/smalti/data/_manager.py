"""The data manager of a mosaic: scvi-tools' registry with a dataset that keeps modalities apart."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck

from smalti._compat import SETUP_METHOD_NAME
from smalti._disk import DiskMatrix
from smalti._validate import shorten

from ._categories import CategoryField
from ._dataset import MosaicDataset
from ._fields import ModalityField
from ._fingerprint import Fingerprint, fingerprint
from ._presence import check_cells, row_maps
from ._reader import make_reader
from ._values import components_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._reader import ModalityReader


class MosaicManager(AnnDataManager):
    """Manager of a MuData with any presence pattern.

    It differs from :class:`scvi.data.AnnDataManager` in three points: cells need not be paired, views are refused
    (their order cannot be trusted once copied), and the dataset reads each modality from its own matrix.
    """

    def __init__(
        self,
        fields: list[Any] | None = None,
        setup_method_args: dict[str, Any] | None = None,
        validation_checks: AnnDataManagerValidationCheck | None = None,
    ) -> None:
        checks = validation_checks or AnnDataManagerValidationCheck(check_fully_paired_mudata=False)
        super().__init__(fields, setup_method_args, checks)
        self.revision = 0
        """How often the data were changed in place since they were registered."""

    def register_fields(
        self, adata: MuData, source_registry: dict[str, Any] | None = None, **transfer_kwargs: Any
    ) -> None:
        """Register the fields with ``adata``; on transfer, check first that the new data are sound.

        At set-up the same checks ran when the specifications were resolved.
        """
        if source_registry is not None:
            here = [field.name for field in self.modality_fields if field.name in adata.mod]
            if not here:
                names = [field.name for field in self.modality_fields]
                raise KeyError(f"The MuData has none of the modalities {shorten(names)}, only {shorten(adata.mod)}.")
            check_cells(adata, here)
        super().register_fields(adata, source_registry=source_registry, **transfer_kwargs)
        self._seen = self.fingerprint()

    def validate(self) -> None:
        """Check data that were changed since they were registered as a query is checked.

        Raises
        ------
        KeyError, ValueError
            If they no longer fit what was registered; the message begins with what was changed.

        Warns
        -----
        UserWarning
            If they were changed but still fit.
        """
        self._assert_anndata_registered()
        now = self.fingerprint()
        changed = now.differences(self._seen)
        if changed:
            what = f"Since the data were set up, {_listed(changed)} changed in place."
            try:
                self._check_as_query()
            except (KeyError, ValueError) as error:
                text = str(error.args[0]) if error.args else str(error)
                raise type(error)(f"{what} {text}") from error
            warnings.warn(
                f"{what} The data still fit the model and are read as they are now; call `setup_mudata` again to train "
                "a new model on them.",
                UserWarning,
                stacklevel=3,
            )
            self._seen, self.revision = now, self.revision + 1
        super().validate()

    def fingerprint(self) -> Fingerprint:
        """Return what the data look like now, see :class:`Fingerprint`."""
        matrices: dict[str, list[Any]] = {}
        for field in self.modality_fields:
            if field.name in self.adata.mod:
                mod = self.adata.mod[field.name]
                layer = field.stored(self.adata) if field.has_values(self.adata) else None
                given = [] if field.input_key is None else [mod.obsm.get(field.input_key)]
                matrices[field.name] = [x for x in (layer, *given) if x is not None]
        columns = [field.column for field in self.fields if isinstance(field, CategoryField) and field.column]
        return fingerprint(self.adata, matrices, columns)

    def _check_as_query(self) -> None:
        here = [field.name for field in self.modality_fields if field.name in self.adata.mod]
        if not here:
            raise KeyError(f"The MuData has only {shorten(self.adata.mod)}.")
        check_cells(self.adata, here)
        for field in self.fields:
            if not field.is_empty:
                field.transfer_field(self.get_state_registry(field.registry_key), self.adata)

    def _get_setup_method_args(self) -> dict[str, Any]:
        # upstream forgets the setup method on transfer; a saved model then looks for AnnData
        return {
            **super()._get_setup_method_args(),
            SETUP_METHOD_NAME: self._registry.get(SETUP_METHOD_NAME, "setup_mudata"),
        }

    @property
    def modality_fields(self) -> list[ModalityField]:
        """Fields of the modalities, in the order of setup."""
        return [field for field in self.fields if isinstance(field, ModalityField)]

    @property
    def on_disk(self) -> bool:
        """Whether the values of some modality stay on disk."""
        here = [field for field in self.modality_fields if field.name in self.adata.mod]
        return any(isinstance(field.stored(self.adata), DiskMatrix) for field in here)

    def row_maps(self) -> dict[str, NDArray[np.int64]]:
        """Return, for every modality of the model, the row of each cell; ``-1`` all over if it is not in the data."""
        here = [field.name for field in self.modality_fields if field.name in self.adata.mod]
        maps = row_maps(self.adata, here)
        nowhere = np.full(self.adata.n_obs, -1, dtype=np.int64)
        return {field.name: maps.get(field.name, nowhere) for field in self.modality_fields}

    def presence(self) -> NDArray[np.bool_]:
        """Return ``(n_obs, M)``: which cell was measured in which modality of the model."""
        return np.column_stack([rows >= 0 for rows in self.row_maps().values()])

    def codes(self) -> dict[str, NDArray[np.int64]]:
        """Return the codes of all categorical columns by registry key, ``(n_obs,)`` each."""
        fields = [field for field in self.fields if isinstance(field, CategoryField)]
        return {f.registry_key: f.codes(self.adata, self.get_state_registry(f.registry_key)) for f in fields}

    def create_torch_dataset(
        self,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        data_and_attributes: Any = None,
        load_sparse_tensor: bool = False,
    ) -> MosaicDataset:
        """Return the dataset that loaders read; the last two arguments exist for scvi-tools and change nothing.

        Rows are always loaded sparse where they are stored sparse.
        """
        readers: dict[str, ModalityReader] = {}
        components: dict[str, ModalityReader] = {}
        missing: dict[str, ModalityReader] = {}
        for field in self.modality_fields:
            if field.name not in self.adata.mod:
                continue
            readers[field.name] = make_reader(field.get_field_data(self.adata))
            gone = field.missing(self.adata)
            if gone is not None:
                missing[field.name] = make_reader(gone)
            if field.input_key is not None:
                components[field.name] = make_reader(
                    components_of(self.adata.mod[field.name], field.input_key, field.name)
                )
        codes = self.codes()
        return MosaicDataset(
            readers,
            self.row_maps(),
            self.presence(),
            [field.name for field in self.modality_fields],
            batch=codes[REGISTRY_KEYS.BATCH_KEY],
            labels=codes[REGISTRY_KEYS.LABELS_KEY],
            components=components,
            missing=missing,
            indices=indices,
        )


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
