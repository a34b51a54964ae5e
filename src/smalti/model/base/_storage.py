"""``save`` and ``load`` of all models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from mudata import read_h5mu

from smalti._compat import FIELD_REGISTRIES, SETUP_ARGS, resolve_device
from smalti._errors import NotFittedError, UnsafeFileError
from smalti._mudata import no_pull
from smalti._storable_names import restore_names
from smalti._validate import check_path, shorten
from smalti.model.parts import MosaicSizes
from smalti.train import rank_and_world

from ._host import MosaicHost
from ._persistence import RENAMED, data_file, read_model, write_model
from ._weights import LimitedMemory, check_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData


class StorageMixin(MosaicHost):
    """Models in a folder of weights and plain JSON."""

    def save(
        self,
        dir_path: str | Path,
        *,
        overwrite: bool = False,
        save_anndata: bool = False,
    ) -> None:
        """Write the model to a folder: weights as safetensors, all else as JSON, with checksums of all files.

        Whenever writing fails, a model that was there before is still there, whole. Of several processes that trained
        together the first one writes.

        Parameters
        ----------
        dir_path
            Folder.
        overwrite
            Replace a model that is there.
        save_anndata
            Write the MuData beside it, so that ``load`` needs no data.

        Raises
        ------
        FileExistsError
            If there is a model and ``overwrite`` is false.
        NotFittedError
            If the data are wanted, but the model has none.
        OSError
            If the folder cannot be written to.
        """
        path = check_path(dir_path, "dir_path")
        if save_anndata and self.adata is None:
            raise NotFittedError("The model has no data to save: it was loaded without.")
        if save_anndata:
            self._validate_anndata()  # or what is stored together would not fit together
        if rank_and_world()[0]:
            return
        keep = {key: value for key, value in self.registry_.items() if key != FIELD_REGISTRIES}
        registry = {
            "model": type(self).__name__,
            "config": self.config_,
            "sizes": self.sizes_.to_dict(),
            "registry": {**keep, FIELD_REGISTRIES: dict(self.registry_[FIELD_REGISTRIES])},
            "is_trained": self.is_trained_,
            "history": self.history_ or {},
            "train_indices": self.train_indices_,
            "validation_indices": self.validation_indices_,
        }
        mdata = self.adata if save_anndata else None
        write_model(path, self.module.state_dict(), registry, overwrite=overwrite, mdata=mdata)

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: MuData | None = None,
        *,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """Read a model that :meth:`save` wrote.

        Parameters
        ----------
        dir_path
            Folder.
        adata
            MuData to attach, with the same variables; it may lack modalities. By default the stored one, if any;
            without data the model can be given some later (``model.adata = mdata``).
        accelerator, device
            Where to put the network.

        Raises
        ------
        FileNotFoundError
            If there is no model.
        UnsafeFileError
            If the folder holds a pickle, a file of unknown origin, or one that was changed since it was stored.
        ValueError
            If the stored model is of another class, or the data do not fit.
        """
        path = check_path(dir_path, "dir_path")
        weights, state = read_model(path)
        parts = ("model", "config", "sizes", "registry", "is_trained", "history", "train_indices", "validation_indices")
        if missing := [key for key in parts if key not in state]:
            raise UnsafeFileError(f"{path} holds a model without {shorten(missing)}. Copy or save it again.")
        if state["model"] != cls.__name__:
            raise ValueError(f"{path} holds a {state['model']}; call `smalti.model.{state['model']}.load`.")
        if adata is None and (file := data_file(path, state)) is not None:
            with no_pull():
                adata = read_h5mu(file)
                restore_names(adata, state.get(RENAMED, []))
        registry = state["registry"]
        if adata is not None:
            cls.setup_mudata(adata, source_registry=registry, **registry[SETUP_ARGS])
        construct: Callable[..., Self] = cls  # subclasses take `sizes` and their own configuration
        try:
            config = {"sizes": MosaicSizes.from_dict(state["sizes"]), **state["config"]}
            with LimitedMemory(path, weights):
                model = construct(adata, registry=None if adata is not None else registry, **config)
        except (KeyError, TypeError, AttributeError) as error:
            raise UnsafeFileError(f"{path} holds a model that this smalti cannot build: {error}.") from error
        fitted = model.module.fitted_parts()
        check_weights(path, {n: w for n, w in weights.items() if not n.startswith(fitted)}, model.module.state_dict())
        model.module.load_state_dict(weights)
        model.is_trained_ = state["is_trained"]
        model.history_ = state["history"] or None
        model.train_indices_, model.validation_indices_ = state["train_indices"], state["validation_indices"]
        model.to_device(resolve_device(accelerator, device))
        model.module.eval()
        return model
