"""Bad command lines: each must end with one line that names what is wrong, and write nothing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import anndata as ad
import mudata
import numpy as np
from _factories import make_mosaic

from smalti._mudata import no_pull
from smalti.model import CLUE, UnpairedCCA

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
    (folder / "links.tsv").write_text("x\ty\n1\t2\n")
    (folder / "picture.tsv").write_bytes(b"\x89PNG\xff\x00" * 30)
    (folder / "page_mqc.json").write_text("{}")
    _store_model(good, folder)
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
    found += [[*fit, "--epochs", "1", *more] for more in _outputs(folder)]
    return found + _with_model(good, folder)


def _outputs(folder: Path) -> list[list[str]]:
    """Return options of ``fit`` that ask for outputs that would harm, that nobody sees, or that cannot be."""
    good, model = folder / "good.h5mu", ["--model", "unpairedcca"]
    return [
        ["--report", str(folder / "r.pdf")],
        ["--report", str(folder / "page.html")],
        ["--stability", "2"],
        ["--stability", "1", "--report", str(folder / "r.html")],
        ["--latents", str(good), "--overwrite"],
        ["--plot", str(good), "--overwrite"],
        ["--report", str(folder / "r.html"), "--latents", str(folder / "r.html")],
        ["--seed", "-1"],
        ["--seed", str(10**20)],
        ["--links", str(folder / "links.tsv")],
        [*model, "--links", str(folder / "links.tsv")],
        [*model, "--links", str(folder / "none.tsv")],
        [*model, "--links", str(folder / "picture.tsv")],
        [*model, "--links", str(folder / "taken")],
        ["--layers", "a"],
        ["--layers", "c=counts"],
    ]


def _store_model(good: Path, folder: Path) -> None:
    """Store one model with a decoder and one without."""
    with no_pull(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = mudata.read_h5mu(good)
        quick = {"progress": False, "accelerator": "cpu"}
        for cls in (CLUE, UnpairedCCA):
            cls.setup_mudata(mdata, batch_key="batch")
            model = cls(mdata, n_latent=2, n_hidden=4) if cls is CLUE else cls(mdata, options={"n_permutations": 0})
            model.train(1, **quick)
            model.save(folder / cls.__name__)
    mdata["a"].write_h5ad(folder / "a.h5ad")


def _with_model(good: Path, folder: Path) -> list[list[str]]:
    """Return bad arguments of the commands that need a stored model."""
    model, plain, one = str(folder / "CLUE"), str(folder / "UnpairedCCA"), str(folder / "a.h5ad")
    query, at = ["query", model, str(good), "-o", str(folder / "q.h5mu")], str(good)
    to, match = ["--to", "b"], ["--from", "a", "--to", "b"]
    return [
        ["query", str(good), model, "-o", str(folder / "q.h5mu")],
        ["query", str(folder), at, "-o", str(folder / "q.h5mu")],
        ["query", model, at, "-o", str(folder / "CLUE" / "model.json"), "--overwrite"],
        ["query", model, one, "-o", str(folder / "q.h5mu")],
        ["query", model, one, "-o", str(folder / "q.h5mu"), "--modality", "b"],
        ["query", model, one, "-o", str(folder / "q.h5mu"), "--modality", "z"],
        ["query", model, at, "-o", str(folder / "q.h5mu"), "--modality", "a"],
        [*query, "--update", "nonsense"],
        [*query, "--labels-key", "label"],
        [*query, "--reference", at],
        [*query, "--reference", at, "--labels-key", "nonsense"],
        [*query, "--reference", str(folder / "none.h5mu"), "--labels-key", "label"],
        [*query, "--batch-key", "batch"],
        ["translate", model, at, "-o", str(folder / "t.h5ad")],
        ["translate", model, at, "-o", str(folder / "t.csv"), *to],
        ["translate", model, at, "-o", str(folder / "t.h5ad"), "--to", "z"],
        ["translate", model, at, "-o", str(folder / "t.h5ad"), *to, "--from", "z"],
        ["translate", model, at, "-o", str(folder / "t.h5ad"), *to, "--scale", "z"],
        ["translate", plain, at, "-o", str(folder / "t.h5ad"), *to],
        ["translate", model, "a=" + one, "-o", one, *to, "--overwrite"],
        ["match", model, at, "-o", at, *match, "--overwrite"],
        ["match", model, at, "-o", str(folder / "m.tsv"), "--from", "a", "--to", "a"],
        ["match", model, at, "-o", str(folder / "m.tsv"), *match, "--within", "z"],
        ["report", model, at, "-o", str(folder / "r.txt")],
        ["report", model, at, "-o", str(folder / "page.html")],
        ["report", model, at, "-o", str(folder / "r.html"), "--labels-key", "z"],
        ["report", model, at, "-o", str(folder / "r.html"), "--stability", "1"],
    ]


def verdict(exit_code: int, output: str) -> str:
    """Return an empty text if a command line was refused clearly, or what is wrong."""
    if exit_code == 0:
        return "accepted"
    if "Traceback" in output:
        return "traceback"
    said = [line for line in output.splitlines() if "Error" in line]
    return "" if said else f"no error line: {output[-200:]}"
