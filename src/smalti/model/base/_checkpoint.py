"""Checkpoints are opened without running code, and only for the training that they belong to."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import torch

from smalti._errors import UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def safe_checkpoint(path: Path, identity: Mapping[str, str]) -> Path:
    """Return the path of a checkpoint after looking into it.

    Parameters
    ----------
    path
        The file.
    identity
        What it must have in common with the training that goes on from it.

    Raises
    ------
    UnsafeFileError
        If the file is damaged, or holds more than tensors and plain values.
    ValueError
        If it belongs to another model, to other options or other data.
    """
    again = "Delete it, or name another file, to train from the start."
    try:
        whole = zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip() is None
    except (zipfile.BadZipFile, OSError):
        whole = False
    if not whole and zipfile.is_zipfile(path):
        raise UnsafeFileError(f"The checkpoint {path} is damaged: its checksums differ. {again}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not whole:
            raise UnsafeFileError(
                f"The checkpoint {path} is damaged or no checkpoint: it is not whole. {again}"
            ) from error
        raise UnsafeFileError(
            f"The checkpoint {path} holds more than tensors and plain values, so it is not opened: {error}"
        ) from error
    stored = state.get("callbacks", {}).get("WriteCheckpoint") if isinstance(state, dict) else None
    if stored is None:
        raise UnsafeFileError(f"The checkpoint {path} was not written by `train(checkpoint=...)`. {again}")
    differ = [what for what, value in identity.items() if stored.get(what) != value]
    if differ and stored:
        raise ValueError(f"The checkpoint {path} is of another training: {', '.join(differ)} differ. {again}")
    return path
