"""Whether stored weights are those of the network that is to be built, found out before memory is spent on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from smalti._errors import UnsafeFileError
from smalti._validate import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye)


class LimitedMemory(TorchFunctionMode):
    """While it is active, no tensors are made that are much larger than the stored weights: sizes in a file may lie.

    Parameters
    ----------
    path
        Folder, for the message.
    weights
        The stored weights.
    """

    def __init__(self, path: Path, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.path = path
        self.left = 10_000_000 + 20 * sum(weight.numel() for weight in weights.values())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the entries of a new tensor before it is made."""
        if func in MAKERS and args:
            shape = args[0] if isinstance(args[0], tuple | list) else [n for n in args if isinstance(n, int)]
            self.left -= math.prod(shape)
            if self.left < 0:
                raise UnsafeFileError(
                    f"{self.path} describes a network that is much larger than the stored weights: they do not "
                    "belong together."
                )
        return func(*args, **(kwargs or {}))


def check_weights(path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise ``UnsafeFileError`` if stored weights are not those of the network that the registry describes.

    Parameters
    ----------
    path
        Folder, for the message.
    found, expected
        Stored weights, and those of the network (of any device; only shapes and types are looked at).
    """
    if set(found) != set(expected):
        names = sorted(set(found) ^ set(expected))
        raise UnsafeFileError(f"{path}: the weights are not those that its `model.json` describes: {shorten(names)}.")
    for name, weight in expected.items():
        stored = found[name]
        if stored.shape != weight.shape or stored.dtype != weight.dtype:
            raise UnsafeFileError(
                f"{path} has {name!r} as {stored.dtype} of shape {tuple(stored.shape)}, but its "
                f"`model.json` describes {weight.dtype} of shape {tuple(weight.shape)}: the two do not belong together."
            )
        if stored.is_floating_point() and bool(torch.isnan(stored).any()):
            raise UnsafeFileError(f"{path} has NaN in {name!r}: the model is of no use. Train it again.")
