"""Checkpoints are opened without running code, and only for the training that they belong to."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from smalti._errors import UnsafeFileError

from ._persistence import to_plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from smalti.train import MosaicSplitter, PlanOptions

    from ._host import MosaicHost


def training_identity(model: MosaicHost, splitter: MosaicSplitter, plan: PlanOptions) -> dict[str, str]:
    """Return what a checkpoint must have in common with a training that goes on from it, as text."""
    update = {key: value for key, value in asdict(plan).items() if key != "compile"}  # which changes no number
    told = [update, splitter.batch_size, splitter.paired_share]
    options = {key: value for key, value in model.config_.items() if key != "verdict"}  # which is a result
    config = json.dumps(to_plain(options), sort_keys=True)
    return {
        "model": type(model).__name__,
        "options of the model": _short(config),
        "options of training": _short(json.dumps(told, sort_keys=True)),
        "data": model.adata_manager.fingerprint().digest(),
        "validation cells": hashlib.sha256(splitter.val_idx.tobytes()).hexdigest(),
    }


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def safe_checkpoint(path: Path, identity: Mapping[str, str], max_epochs: int) -> Path:
    """Return the path of a checkpoint after looking into it.

    Parameters
    ----------
    path
        The file.
    identity
        What it must have in common with the training that goes on from it.
    max_epochs
        Epochs of that training.

    Raises
    ------
    UnsafeFileError
        If the file is damaged, or holds more than tensors and plain values.
    ValueError
        If it belongs to another model, to other options or other data, or has more epochs already.
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
    if state["epoch"] >= max_epochs:
        raise ValueError(
            f"The checkpoint {path} has {state['epoch'] + 1} epochs already, more than `max_epochs={max_epochs}`. "
            f"Ask for as many, or more. {again}"
        )
    return path
