"""The scoring protocol and the data it runs on, found through ``SMALTI_DATA_DIR``."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

LABELS = {"snare_mop": "ident", "pbmc_mosaic": "celltype", "pbmc10k_cite": "cell_type"}


def data_dir() -> Path:
    """Folder of the real data sets."""
    root = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("SMALTI_DATA_DIR", root.parent / "shared" / "data"))
    if not path.is_dir():
        sys.exit(f"No data in {path}: set SMALTI_DATA_DIR to the folder with the .h5mu files.")
    return path


def protocol() -> ModuleType:
    """The protocol's own script, beside the data."""
    path = data_dir().parent / "bench" / "protocol.py"
    if not path.exists():
        sys.exit(f"The scoring protocol is not at {path}.")
    spec = importlib.util.spec_from_file_location("protocol", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["protocol"] = module
    spec.loader.exec_module(module)
    return module


def load(name: str):
    """A data set in the protocol's form."""
    return protocol().load(data_dir() / f"{name}.h5mu", LABELS.get(name, "cell_type"))
