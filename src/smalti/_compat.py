"""The only file that touches names of other packages that are not public (all checked on scvi-tools 1.4 and 1.5)."""

from __future__ import annotations

import copyreg
import inspect
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, finalize

from mudata._core.file_backing import MuDataFileManager
from scvi.data._constants import (
    _FIELD_REGISTRIES_KEY as FIELD_REGISTRIES,
)
from scvi.data._constants import (
    _SCVI_UUID_KEY,
)
from scvi.data._constants import (
    _SETUP_ARGS_KEY as SETUP_ARGS,
)
from scvi.data._constants import (
    _SETUP_METHOD_NAME as SETUP_METHOD_NAME,
)
from scvi.data._constants import (
    _STATE_REGISTRY_KEY as STATE_REGISTRY,
)
from scvi.model._utils import parse_device_args
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch.strategies import DDPStrategy
    from scvi.data import AnnDataManager
    from scvi.model.base import BaseModelClass
    from torch.nn import Module

__all__ = [
    "FIELD_REGISTRIES",
    "SETUP_ARGS",
    "SETUP_METHOD_NAME",
    "SETUP_PREFIX",
    "STATE_REGISTRY",
    "forget_queries",
    "forget_setup",
    "keep_with_data",
    "leave_to_us",
    "prepare_ddp",
    "release",
    "resolve_device",
    "runs_elsewhere",
    "send_mudata_whole",
]


SETUP_PREFIX = _SCVI_UUID_KEY.removesuffix("_uuid")
"""What all names begin with that ``setup_mudata`` leaves in a MuData."""


class Managers(dict[str, Any]):
    """Managers of a MuData by who registered them; kept on the object, so that they live as long as it does.

    scvi-tools keeps them on model classes, and with them all data that were ever used. Copies start empty.
    """

    def __reduce__(self) -> Any:
        return Managers, ()


def keep_with_data(manager: AnnDataManager, owner: str) -> None:
    """Let a manager live as long as its data; a later one of the same owner takes its place."""
    vars(manager.adata).setdefault("_smalti_managers", Managers())[owner] = manager


def forget_setup(cls: type[BaseModelClass]) -> None:
    """Let scvi-tools' store of set-ups of a model class forget data that nobody else holds."""
    if not isinstance(cls._setup_adata_manager_store, WeakValueDictionary):
        cls._setup_adata_manager_store = WeakValueDictionary(cls._setup_adata_manager_store)


def forget_queries(model: BaseModelClass) -> None:
    """Let scvi-tools' store of the data of a model forget those that nobody else holds, and the model when it dies."""
    store = type(model)._per_instance_manager_store
    if model.id not in store:
        store[model.id] = WeakValueDictionary()
        finalize(model, store.pop, model.id, None)


@contextmanager
def without_announcements() -> Iterator[None]:
    """Keep scvi-tools from announcing that the data of a query are set up; it speaks of an AnnData."""
    teller = logging.getLogger("scvi.model.base._base_model")
    before = teller.level
    teller.setLevel(logging.WARNING)
    try:
        yield
    finally:
        teller.setLevel(before)


def release(data: Any, owner: str) -> None:
    """Remove what an owner left with some data."""
    vars(data).get("_smalti_managers", {}).pop(owner, None)


def prepare_ddp(strategy: DDPStrategy) -> DDPStrategy:
    """Let a strategy look for parameters without a gradient in each step, and never share buffers by itself."""
    forward = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    options = {"find_unused_parameters": True, "forward_sync_buffers" if forward else "broadcast_buffers": False}
    strategy._ddp_kwargs.update(options)
    return strategy


def runs_elsewhere(strategy: object) -> bool:
    """Return whether a strategy leaves the starting process waiting while others train."""
    return getattr(strategy, "_start_method", "popen") != "popen"


def send_mudata_whole() -> None:
    """Let processes be given a MuData: what it knows of files cannot be pickled, although no file is open."""
    copyreg.pickle(MuDataFileManager, _reduce_files)


def _reduce_files(files: MuDataFileManager) -> Any:
    return MuDataFileManager, (files.filename, files._filemode)


def leave_to_us(module: Module, names: list[str]) -> None:
    """Let distributed data parallel leave the gradients of some parameters of a module alone."""
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def resolve_device(accelerator: str, device: int | str) -> Any:
    """Return the torch device that scvi-tools would choose."""
    return parse_device_args(accelerator=accelerator, devices=device, return_device="torch")[2]


def umap_key(obsm: Any) -> str | None:
    """Return the key under which scanpy wrote a UMAP; its coming preset drops the prefix. ``None`` if there is none."""
    return next((key for key in ("X_umap", "umap") if key in obsm), None)
