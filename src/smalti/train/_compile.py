"""Compiled encoders and decoders for the length of a training."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from smalti.nn import Decoder, GaussianEncoder, SkipEncoder, WarmEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

ENCODERS = (GaussianEncoder, SkipEncoder, WarmEncoder)


def compilable(module: nn.Module) -> list[nn.Module]:
    """Return the encoders and the bodies of decoders of a network, none of them part of another."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for part in module.modules():
        if id(part) in inside:
            continue
        if isinstance(part, ENCODERS):
            found.append(part)
            inside.update(id(each) for each in part.modules())
        elif isinstance(part, Decoder):
            found.append(part.body)
    return found


@contextmanager
def compiled(module: nn.Module, how: bool | str) -> Iterator[None]:
    """Let encoders and decoders run compiled meanwhile; weights, their names and what is stored stay the same.

    Parameters
    ----------
    module
        The network.
    how
        Whether to, or the name of a backend of :func:`torch.compile`.
    """
    parts = compilable(module) if how else []
    backend = how if isinstance(how, str) else "inductor"
    for part in parts:
        # numbers of cells differ from batch to batch
        part.forward = torch.compile(part.forward, dynamic=True, backend=backend)
    try:
        yield
    finally:
        for part in parts:
            del part.forward  # that of the class is found again
