"""Nested state of fitted parts as named tensors, so that it is stored and moved with the weights of a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ABOUT = "about"
"""Entry that holds everything but arrays, as JSON."""


def to_tensors(state: Any) -> dict[str, torch.Tensor]:
    """Return nested dictionaries and lists of arrays and plain values as tensors by name."""
    arrays: dict[str, NDArray[Any]] = {}
    about = _split(state, arrays)
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8).copy()
    return {
        name: torch.from_numpy(np.ascontiguousarray(value).copy()) for name, value in {ABOUT: text, **arrays}.items()
    }


def from_tensors(state_dict: Mapping[str, torch.Tensor], prefix: str) -> Any:
    """Return what :func:`to_tensors` took apart, from the entries that begin with ``prefix``; ``None`` if none do."""
    own = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    if ABOUT not in own:
        return None
    about = json.loads(bytes(own.pop(ABOUT).cpu().numpy()).decode())
    return _join(about, {name: value.cpu().numpy() for name, value in own.items()})


def _split(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return nested dictionaries and lists with references in place of arrays, which are collected."""
    if isinstance(value, dict):
        return {str(key): _split(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_split(item, arrays) for item in value]
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"__array__": name}
    return value.item() if isinstance(value, np.generic) else value


def _join(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return what :func:`_split` took apart."""
    if isinstance(value, dict):
        if set(value) == {"__array__"}:
            return arrays[value["__array__"]]
        return {key: _join(item, arrays) for key, item in value.items()}
    return [_join(item, arrays) for item in value] if isinstance(value, list) else value
