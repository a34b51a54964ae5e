"""Storing models as weights (safetensors) and plain JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from smalti._errors import UnsafeFileError
from smalti._files import check_writable, replacing, sha256, write_text
from smalti._storable import write_mudata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from mudata import MuData

FORMAT = "smalti-model"
FORMAT_VERSION = 2
"""Version 1 had no checksums."""
WEIGHTS, REGISTRY, DATA = "model.safetensors", "model.json", "mdata.h5mu"
RENAMED = "renamed_in_data"
"""Key of names that the file with the data has otherwise."""
NEW = ".new"
"""Ending of files that are complete, but not yet swapped in."""
CHECKSUM = '"checksum": "%s"'
BLANK = "0" * 64


def to_plain(value: Any) -> Any:
    """Turn nested dictionaries, arrays and tables into what JSON can hold; :func:`from_plain` is the inverse."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        kind = "str" if value.dtype.kind in "OUS" else str(value.dtype)
        return {"__array__": value.astype(str).tolist() if kind == "str" else value.tolist(), "dtype": kind}
    if isinstance(value, pd.DataFrame):
        return {
            "__table__": {column: to_plain(value[column].to_numpy()) for column in value},
            "index": list(value.index),
        }
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"A {type(value).__name__} cannot be stored as JSON.")


def from_plain(value: Any) -> Any:
    """Rebuild what :func:`to_plain` stored."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "__array__" in value:
        return np.asarray(value["__array__"], dtype=None if value["dtype"] == "str" else value["dtype"])
    if "__table__" in value:
        columns = {column: from_plain(item) for column, item in value["__table__"].items()}
        return pd.DataFrame(columns, index=value["index"])
    return {key: from_plain(item) for key, item in value.items()}


def write_model(
    path: Path, weights: Mapping[str, Any], registry: dict[str, Any], *, overwrite: bool, mdata: MuData | None = None
) -> None:
    """Write weights, registry and data into the folder ``path``; data of a model that was there are removed.

    Weights and data are written beside those of an earlier model. The registry, which holds their checksums, is swapped
    in one step, and this step decides which model the folder holds: whenever writing ends, ``read_model`` finds either
    the earlier model or the new one, whole.

    Raises
    ------
    FileExistsError
        If the folder holds a model and ``overwrite`` is false.
    OSError
        If something cannot be written; an earlier model is as it was.
    """
    if holds_model(path) and not overwrite:
        raise FileExistsError(f"{path} holds a model already. Pass `overwrite=True` to replace it.")
    body = to_plain(registry)
    check_writable(path, folder=True)
    # a copy each: parts of a network may share a weight, which the format does not know
    tensors = {name: w.detach().cpu().contiguous().clone() for name, w in weights.items()}
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    if holds_model(path):
        _finish(path)
    try:
        with replacing(path / (WEIGHTS + NEW)) as beside:
            _save_weights(tensors, beside)
        if mdata is not None:
            body[RENAMED] = to_plain(write_mudata(mdata, path / (DATA + NEW)))
        files = {name: sha256(path / (name + NEW)) for name in (WEIGHTS, DATA) if (path / (name + NEW)).exists()}
        if mdata is None:
            files.pop(DATA, None)
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "checksum": BLANK, "files": files}
        text = json.dumps({**head, **body}, indent=1)
        sealed = text.replace(CHECKSUM % BLANK, CHECKSUM % hashlib.sha256(text.encode()).hexdigest(), 1)
        write_text(path / REGISTRY, sealed)
    except BaseException:
        for name in (WEIGHTS, DATA):
            (path / (name + NEW)).unlink(missing_ok=True)
        if made and not any(path.iterdir()):
            path.rmdir()
        raise
    _finish(path)


def _save_weights(tensors: dict[str, torch.Tensor], file: Path) -> None:
    try:
        save_file(tensors, str(file))
    except SafetensorError as error:  # so does a full disk end
        raise OSError(str(error)) from error


def holds_model(path: Path) -> bool:
    """Return whether a folder holds the registry of a model."""
    file = path / REGISTRY
    return file.is_file() and file.stat().st_size > 0


def _finish(path: Path) -> None:
    """Give files that the registry knows by their checksum their names; remove what belongs to no model."""
    try:
        files = json.loads((path / REGISTRY).read_text()).get("files", {})
    except (ValueError, AttributeError):
        return
    for name in (WEIGHTS, DATA):
        new = path / (name + NEW)
        if new.exists() and name in files and sha256(new) == files[name]:
            os.replace(new, path / name)
        new.unlink(missing_ok=True)
    if DATA not in files:
        (path / DATA).unlink(missing_ok=True)


def _find(path: Path, name: str, expected: str | None) -> Path:
    """Return the file of a model, that which was about to be swapped in included; raise if none has the checksum."""
    files = [path / name, path / (name + NEW)]
    if expected is None:  # format version 1
        return files[0]
    for file in files:
        if file.exists() and sha256(file) == expected:
            return file
    if not files[0].exists():
        raise UnsafeFileError(f"{files[0]} is missing: the model was not copied whole. Copy or save it again.")
    raise UnsafeFileError(
        f"{files[0]} is not the file that the model was stored with (its checksum differs): it was damaged or "
        "exchanged. Copy or save the model again."
    )


def data_file(path: Path, registry: Mapping[str, Any]) -> Path | None:
    """Return the file with the data of a stored model, ``None`` if it was stored without."""
    files = registry.get("files")
    if files is None:  # format version 1
        return path / DATA if (path / DATA).exists() else None
    return _find(path, DATA, files[DATA]) if DATA in files else None


def read_model(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read weights and registry from the folder ``path``, checksums included.

    Raises
    ------
    FileNotFoundError
        If there is no model.
    UnsafeFileError
        If the folder holds a pickled model of another tool, or files that are not what they claim to be, or were
        damaged.
    """
    if not (path / REGISTRY).exists():
        pickled = sorted(p.name for p in path.glob("*.pt")) if path.is_dir() else []
        if pickled:
            raise UnsafeFileError(
                f"{path} holds {pickled[0]!r}, a pickled model, which can run any code when opened. smalti reads only "
                f"{WEIGHTS!r} with {REGISTRY!r}, as written by `model.save`."
            )
        raise FileNotFoundError(f"No smalti model in {path}: expected {REGISTRY!r} and {WEIGHTS!r}.")
    registry = _read_registry(path / REGISTRY)
    file = _find(path, WEIGHTS, registry["files"].get(WEIGHTS, "") if "files" in registry else None)
    try:
        weights = load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise UnsafeFileError(f"{file} is missing or not a safetensors file: {error}.") from error
    return weights, registry


def _read_registry(file: Path) -> dict[str, Any]:
    """Read ``model.json``, refusing what smalti did not write or what was changed since."""
    again = "Copy or save the model again."
    try:
        text = file.read_text(encoding="utf-8")
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnsafeFileError(f"{file} is not a JSON file: {error}. {again}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise UnsafeFileError(f"{file} was not written by smalti.")
    version, seal = plain.get("format_version"), plain.get("checksum")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UnsafeFileError(
            f"{file} has format version {version}, this smalti reads up to {FORMAT_VERSION}. Install a newer smalti."
        )
    if version >= 2 or "files" in plain or seal is not None:
        blank = text.replace(CHECKSUM % seal, CHECKSUM % BLANK, 1)
        if seal != hashlib.sha256(blank.encode()).hexdigest() or not isinstance(plain.get("files"), dict):
            raise UnsafeFileError(f"{file} was changed after it was written (its checksum differs). {again}")
    try:
        registry = from_plain(plain)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnsafeFileError(f"{file} holds a table that cannot be read: {error}. {again}") from error
    checked: dict[str, Any] = registry
    return checked
