"""Bad command lines: each must end with one line that names what is wrong, and write nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import mudata
import numpy as np
from _factories import make_mosaic

from smalti._mudata import no_pull

if TYPE_CHECKING:
    from pathlib import Path


def lines(folder: Path) -> list[list[str]]:
    """Return the arguments of ``smalti``, on files in a folder."""
    good, out = folder / "good.h5mu", folder / "out.h5mu"
    with no_pull():
        make_mosaic(n_obs=60, pattern="paired", n_features={"a": 12, "b": 8}).write(good)
        alone = mudata.MuData({"a": ad.AnnData(np.ones((4, 3), np.float32))})
        alone.write(folder / "alone.h5mu")
    (folder / "text.h5mu").write_text("text")
    (folder / "empty.h5mu").write_bytes(b"")
    (folder / "half.h5mu").write_bytes(good.read_bytes()[:3000])
    (folder / "table.csv").write_text("a,b\n1,2\n")
    (folder / "[x].h5mu").write_text("text")
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").write_text("mine")
    (folder / "old.h5mu").write_text("old")
    bad_files = [
        "none.h5mu",
        "text.h5mu",
        "empty.h5mu",
        "half.h5mu",
        "table.csv",
        "[x].h5mu",
        "[/x].h5mu",
        "taken",
        "alone.h5mu",
    ]
    found = [["describe", str(folder / name)] for name in bad_files if name != "alone.h5mu"]
    found += [["fit", str(folder / name), "-o", str(out)] for name in bad_files]
    fit = ["fit", str(good), "-o", str(out)]
    found += [
        [*fit, *more]
        for more in (
            ["--model", "nonsense"],
            ["--model", ""],
            ["--model", "[/x]"],
            ["--modalities", "nonsense"],
            ["--modalities", "a"],
            ["--modalities", "a=nonsense,b"],
            ["--modalities", "a=nb,a"],
            ["--modalities", "a=,c="],
            ["--modalities", "="],
            ["--batch-key", "nonsense"],
            ["--labels-key", "nonsense"],
            ["--batch-key", "[/x]"],
            ["--batch-key", ""],
            ["--epochs", "0"],
            ["--epochs", "-3"],
            ["--epochs", "ten"],
            ["--epochs", "1.5"],
            ["--seed", "x"],
            ["--plot", str(folder / "taken")],
            ["--plot", str(folder / "old.h5mu" / "p.png")],
            ["--plot", str(folder / "p.nonsense")],
            ["--save-model", str(folder / "old.h5mu")],
            ["--nonsense"],
            ["more"],
        )
    ]
    found += [
        ["fit", str(good)],
        ["fit"],
        ["describe"],
        ["nonsense"],
        ["demo", "--epochs", "0"],
        ["demo", "--out", str(folder / "old.h5mu")],
        ["fit", str(good), "-o", str(folder / "old.h5mu")],
        ["fit", str(good), "-o", str(folder / "taken")],
        ["fit", str(good), "-o", str(folder / "old.h5mu" / "x.h5mu")],
        ["fit", str(good), "-o", str(folder / "out.csv")],
        ["describe", str(good), "--batch-key", "nonsense"],
        ["describe", str(good), "--plot", str(folder / "taken")],
    ]
    return found


def verdict(exit_code: int, output: str) -> str:
    """Return an empty text if a command line was refused clearly, or what is wrong."""
    if exit_code == 0:
        return "accepted"
    if "Traceback" in output:
        return "traceback"
    said = [line for line in output.splitlines() if "Error" in line]
    return "" if said else f"no error line: {output[-200:]}"
