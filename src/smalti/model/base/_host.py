"""What the parts of a model for users build on: set-up, what is known of the data, and minibatches in order."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import finalize, ref

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from smalti._compat import (
    FIELD_REGISTRIES,
    SETUP_ARGS,
    STATE_REGISTRY,
    forget_queries,
    forget_setup,
    keep_with_data,
    release,
)
from smalti._errors import MosaicAlignmentError, NotFittedError
from smalti._validate import check_choice, check_count, shorten
from smalti.data import (
    BATCH_WORDS,
    PREFIX,
    CategoryField,
    ModalityField,
    MosaicManager,
    check_mudata,
    column_remarks,
    refuse_view,
    resolve_modalities,
    to_device,
)
from smalti.train import Locality, StreamedBatches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.data import ModalityLike, MosaicBatch
    from smalti.model.parts import CellComponents, MosaicModule, MosaicSizes

INFERENCE_BATCH = 1024


class MosaicHost(BaseModelClass):
    """A MuData with any presence pattern, registered, and a network; mixins of models are typed by it."""

    has_gates: ClassVar[bool] = True
    """Whether ``Modality(gate=...)`` is offered."""
    module: MosaicModule
    sizes_: MosaicSizes
    config_: dict[str, Any]
    """Arguments of the constructor that rebuild the model, plain values only."""
    random_state: int = 0
    is_trained_: bool
    history_: dict[str, Any] | None
    train_indices_: Any
    validation_indices_: Any
    _components: tuple[MosaicManager, CellComponents] | None = None
    """Encoder inputs of all cells, and the manager of the data they belong to."""

    def __init__(self, adata: MuData | None = None, registry: dict[str, Any] | None = None) -> None:
        if adata is not None and self._get_most_recent_anndata_manager(adata) is None:
            name = type(self).__name__
            raise ValueError(f"The MuData is not set up for {name}. Call `{name}.setup_mudata(mdata, ...)` first.")
        super().__init__(adata, registry)

    # ------------------------------------------------------------------ set-up

    @classmethod
    def setup_anndata(cls, adata: Any, **kwargs: Any) -> None:
        """Not offered: a single AnnData has no modalities."""
        raise NotImplementedError(
            f"{cls.__name__} integrates modalities: put them into a MuData, "
            f"`mudata.MuData({{'rna': rna, 'adt': adt}})`, and call `{cls.__name__}.setup_mudata`."
        )

    @classmethod
    def setup_annbatch(cls, *args: Any, **kwargs: Any) -> None:
        """Not offered: batches of a single AnnData from disk have no modalities."""
        raise NotImplementedError(
            f"{cls.__name__} reads modalities from a MuData, in memory or on disk, not from an annbatch loader: call "
            f"`{cls.__name__}.setup_mudata(mdata)`, with `mdata = sm.data.open_mosaic(path)` for data on disk."
        )

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        modalities: Mapping[str, ModalityLike] | list[str] | None = None,
        *,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str = "unknown",
        source_registry: dict[str, Any] | None = None,
    ) -> None:
        """Register a mosaic with the model class; the same call for every model.

        Nothing is written to ``mdata`` but scvi-tools' two identifiers in ``.uns``.

        Parameters
        ----------
        mdata
            The mosaic: any two or more modalities, any presence pattern, raw values sparse or dense, in memory or on
            disk (:func:`smalti.data.open_mosaic`).
        modalities
            Names, or a mapping of names to a likelihood (``"nb"``) or a :class:`~smalti.data.Modality`. By default all
            modalities, likelihoods inferred from the values and logged.
        batch_key
            Column of ``mdata.obs`` with the batch of every cell.
        labels_key
            Column of ``mdata.obs`` with labels, missing for cells without one.
        unlabeled_category
            Value of that column that means "no label", besides missing values.
        source_registry
            Registry of a trained model whose set-up is repeated on ``mdata``; ``load`` fills it in.

        Raises
        ------
        KeyError
            If a modality, layer, column or key does not exist.
        ValueError
            If values do not fit their likelihood, or names repeat.
        MosaicAlignmentError
            If the map from cells to rows is stale or ambiguous, or ``mdata`` is a view.
        """
        setup_args = cls._get_setup_method_args(
            cls=cls,
            mdata=mdata,
            modalities=modalities,
            batch_key=batch_key,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
        )
        check_mudata(mdata)
        specs = resolve_modalities(mdata, modalities, required=source_registry is None)
        gated = [name for name, spec in specs.items() if spec.gate]
        if gated and not cls.has_gates:
            raise ValueError(
                f"{cls.__name__} has no gates, but modality {shorten(gated)} asks for some: its encoders are fitted in "
                "closed form. Leave `gate` out and select features beforehand, by `smalti.select` or a gated model."
            )
        setup_args[SETUP_ARGS]["modalities"] = {name: spec.to_dict() for name, spec in specs.items()}
        manager = MosaicManager(
            fields=[
                CategoryField(REGISTRY_KEYS.BATCH_KEY, batch_key, reserved=BATCH_WORDS),
                CategoryField(REGISTRY_KEYS.LABELS_KEY, labels_key, missing=unlabeled_category),
                *(ModalityField(name, spec, batch_key) for name, spec in specs.items()),
            ],
            setup_method_args=setup_args,
        )
        manager.register_fields(mdata, source_registry=source_registry)
        if source_registry is None:
            for remark in column_remarks(mdata, batch_key, labels_key, unlabeled_category):
                warnings.warn(remark, UserWarning, stacklevel=2)
        cls.register_manager(manager)

    @classmethod
    def register_manager(cls, adata_manager: Any) -> None:
        """Remember a set-up for as long as its data live."""
        forget_setup(cls)
        keep_with_data(adata_manager, cls.__qualname__)
        super().register_manager(adata_manager)

    def _register_manager_for_instance(self, adata_manager: Any) -> None:
        """Remember data of this model for as long as they and the model live."""
        forget_queries(self)
        keep_with_data(adata_manager, self.id)
        finalize(self, _release, ref(adata_manager.adata), self.id)
        super()._register_manager_for_instance(adata_manager)

    def _validate_anndata(self, adata: MuData | None = None, copy_if_view: bool = True) -> MuData:
        """Refuse views (their order cannot be trusted) and register new data with the model's set-up."""
        if adata is None:
            if self.adata is None:
                raise NotFittedError("The model was loaded without data: pass `mdata=`, or set `model.adata = mdata`.")
            adata = self.adata
        check_mudata(adata)
        refuse_view(adata)
        super()._validate_anndata(adata, copy_if_view=False)
        if self._components is not None and self._components[0].revision:
            self._components = None  # of values that were changed since
        return adata

    # ------------------------------------------------------------------ the data

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, in the order of set-up."""
        return [key[len(PREFIX) :] for key in self.registry_[FIELD_REGISTRIES] if key.startswith(PREFIX)]

    def state_of(self, modality: str) -> dict[str, Any]:
        """Return what the registry knows of a modality."""
        return self.registry_[FIELD_REGISTRIES][PREFIX + modality][STATE_REGISTRY]

    @property
    def label_categories(self) -> list[str]:
        """Names of the known labels; empty if the model was set up without labels."""
        state = self.registry_[FIELD_REGISTRIES][REGISTRY_KEYS.LABELS_KEY][STATE_REGISTRY]
        return [str(c) for c in state["categories"]] if state else []

    @property
    def batch_categories(self) -> list[str]:
        """Names of the batches; empty without a ``batch_key``."""
        state = self.registry_[FIELD_REGISTRIES][REGISTRY_KEYS.BATCH_KEY][STATE_REGISTRY]
        return [str(c) for c in state["categories"]] if state else []

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, list[str]]:
        """Return the names of the variables of every modality, as trained on."""
        return {name: [str(v) for v in self.state_of(name)["column_names"]] for name in self.modalities}

    def check_modality(self, name: str, what: str = "modality") -> str:
        """Return ``name`` if the model has such a modality, else raise ``ValueError`` listing them."""
        return check_choice(name, self.modalities, what)

    def iterate(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> Iterator[MosaicBatch]:
        """Yield minibatches on the model's device, in order, the network in evaluation mode without gradients.

        Parameters
        ----------
        mdata
            Data; those the model was trained on by default.
        indices
            Positions in ``mdata.obs_names``, or a boolean mask; all cells by default.
        batch_size
            Cells per batch.
        """
        self._check_if_trained(warn=True)
        mdata = self._validate_anndata(mdata)
        dataset = self.get_anndata_manager(mdata, required=True).create_torch_dataset(positions(mdata, indices))
        step = INFERENCE_BATCH if batch_size is None else check_count(batch_size, "batch_size")
        batches = [np.arange(start, min(start + step, len(dataset))) for start in range(0, len(dataset), step)]
        locality = Locality.of(dataset, step)
        window = 1 if locality is None else locality.batches
        self.module.eval()
        with torch.no_grad():
            for minibatch in StreamedBatches(dataset, batches, lambda: [window]):
                yield to_device(minibatch, self.module.device)

    def with_modality(
        self, mdata: MuData | None, modality: str, indices: Sequence[int] | NDArray[Any] | None = None
    ) -> NDArray[np.bool_]:
        """Return which of the cells were measured in ``modality``, boolean; raise if none was."""
        mdata = self._validate_anndata(mdata)
        manager = self.get_anndata_manager(mdata, required=True)
        here = manager.row_maps()[modality][positions(mdata, indices)] >= 0
        if not here.any():
            raise ValueError(f"None of the {len(here)} cells was measured in modality {modality!r}.")
        return here


def _release(data: ref[MuData], owner: str) -> None:
    mdata = data()
    if mdata is not None:
        release(mdata, owner)


def positions(mdata: MuData, indices: Sequence[int] | NDArray[Any] | None) -> NDArray[np.int64]:
    """Return the cells that ``indices`` mean (positions, a boolean mask, or ``None`` for all) as positions."""
    if indices is None:
        return np.arange(mdata.n_obs)
    if isinstance(indices, slice):
        return positions(mdata, np.arange(mdata.n_obs)[indices])
    at = np.asarray(indices)
    if at.ndim > 1:
        raise ValueError(f"Expected `indices` to be one row of positions, found {at.ndim} dimensions.")
    if at.dtype == bool:
        if at.shape != (mdata.n_obs,):
            raise ValueError(f"A boolean `indices` needs {mdata.n_obs} entries, found {at.size}.")
        at = np.flatnonzero(at)
    elif at.size and at.dtype.kind not in "iu":
        raise TypeError(f"Expected `indices` to be positions or a boolean mask, found {at.dtype}.")
    if at.size == 0:
        raise ValueError("`indices` names no cell, expected positions in `mdata.obs_names` or a boolean mask.")
    at = at.astype(np.int64).ravel()
    outside = at[(at < 0) | (at >= mdata.n_obs)]
    if outside.size:
        raise MosaicAlignmentError(f"`indices` must lie in 0..{mdata.n_obs - 1}, found {shorten(outside.tolist())}.")
    return at
