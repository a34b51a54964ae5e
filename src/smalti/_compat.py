"""The only file that touches names of other packages that are not public (all checked on scvi-tools 1.4 and 1.5)."""

from __future__ import annotations

from typing import Any

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

__all__ = [
    "FIELD_REGISTRIES",
    "SETUP_ARGS",
    "SETUP_METHOD_NAME",
    "SETUP_PREFIX",
    "STATE_REGISTRY",
    "distributed_strategy",
    "resolve_device",
]


SETUP_PREFIX = _SCVI_UUID_KEY.removesuffix("_uuid")
"""What all names begin with that ``setup_mudata`` leaves in a MuData."""


def distributed_strategy(strategy: object) -> bool:
    """Return whether a Lightning strategy runs several processes."""
    return isinstance(strategy, str) and strategy.startswith("ddp")


def resolve_device(accelerator: str, device: int | str) -> Any:
    """Return the torch device that scvi-tools would choose."""
    return parse_device_args(accelerator=accelerator, devices=device, return_device="torch")[2]
