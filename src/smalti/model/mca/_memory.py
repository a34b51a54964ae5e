"""How much memory there is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from smalti.nn import activation_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


def available_memory() -> int | None:
    """Return the bytes of memory of the GPU that training would use, or of the machine; ``None`` if unknown."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return None


def check_memory(tokens: Mapping[str, int], n_other: int, *, width: int, n_layers: int, batch_size: int) -> None:
    """Raise ``ValueError`` if a training batch of a transformer cannot fit into memory.

    Parameters
    ----------
    tokens
        Tokens of a cell by modality.
    n_other
        Its other tokens.
    width, n_layers, batch_size
        Of the transformer, and cells per batch.
    """
    n_tokens = sum(tokens.values()) + n_other
    size, available = activation_bytes(n_tokens, width, n_layers, batch_size), available_memory()
    if available is not None and size > available:
        widest = max(tokens, key=lambda name: tokens[name])
        raise ValueError(
            f"A batch of {batch_size} cells with {n_tokens:,} tokens each needs about {size / 1e9:.1f} GB of memory, "
            f"there are {available / 1e9:.1f} GB; modality {widest!r} has {tokens[widest]:,} tokens. Use "
            "`tokens='patches'`, fewer `n_tokens`, or a smaller `batch_size`."
        )
