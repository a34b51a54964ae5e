"""Storing models as weights (safetensors) and plain JSON; nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from smalti._errors import UnsafeFileError

FORMAT = "smalti-model"
FORMAT_VERSION = 1
WEIGHTS, REGISTRY, DATA = "model.safetensors", "model.json", "mdata.h5mu"


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


def write_model(path: Path, weights: dict[str, Any], registry: dict[str, Any], *, overwrite: bool) -> None:
    """Write weights and registry into the folder ``path``; data of a model that was there are removed.

    Raises
    ------
    FileExistsError
        If the folder holds a model and ``overwrite`` is false.
    """
    if (path / REGISTRY).exists() and not overwrite:
        raise FileExistsError(f"{path} holds a model already. Pass `overwrite=True` to replace it.")
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    text = json.dumps(to_plain({**head, **registry}), indent=1)
    path.mkdir(parents=True, exist_ok=True)
    (path / DATA).unlink(missing_ok=True)
    save_file({name: w.detach().cpu().contiguous() for name, w in weights.items()}, str(path / WEIGHTS))
    (path / REGISTRY).write_text(text)


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read weights and registry from the folder ``path``.

    Raises
    ------
    FileNotFoundError
        If there is no model.
    UnsafeFileError
        If the folder holds a pickled model of another tool, or files that are not what they claim to be.
    """
    path = Path(path)
    if not (path / REGISTRY).exists():
        pickled = sorted(p.name for p in path.glob("*.pt")) if path.is_dir() else []
        if pickled:
            raise UnsafeFileError(
                f"{path} holds {pickled[0]!r}, a pickled model, which can run any code when opened. smalti reads only "
                f"{WEIGHTS!r} with {REGISTRY!r}, as written by `model.save`."
            )
        raise FileNotFoundError(f"No smalti model in {path}: expected {REGISTRY!r} and {WEIGHTS!r}.")
    try:
        registry = from_plain(json.loads((path / REGISTRY).read_text()))
    except (ValueError, RecursionError) as error:
        raise UnsafeFileError(f"{path / REGISTRY} is not a JSON file: {error}.") from error
    if not isinstance(registry, dict) or registry.get("format") != FORMAT:
        raise UnsafeFileError(f"{path / REGISTRY} was not written by smalti.")
    if registry["format_version"] > FORMAT_VERSION:
        raise UnsafeFileError(
            f"{path / REGISTRY} has format version {registry['format_version']}, this smalti reads up to "
            f"{FORMAT_VERSION}. Install a newer smalti."
        )
    try:
        weights = load_file(str(path / WEIGHTS))
    except (SafetensorError, FileNotFoundError) as error:
        raise UnsafeFileError(f"{path / WEIGHTS} is missing or not a safetensors file: {error}.") from error
    return weights, registry
