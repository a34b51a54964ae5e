"""What is said of models is one table, and the code that it prints runs."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti import model, simulate
from smalti._mudata import build_mudata
from smalti.model.base import MosaicModel
from smalti.tl._catalogue import MODELS, NO_MODEL, NOTHING_LINKS, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "user_guide" / "which_model.md"
TWO = {"n_features": {"a": 30, "b": 20}, "likelihood": "nb", "n_obs": 120}


def test_every_model_of_the_package_has_one_entry_and_code() -> None:
    classes = {
        name
        for name in model.__all__
        if isinstance(found := getattr(model, name), type) and issubclass(found, MosaicModel)
    }
    assert classes - {"MosaicModel"} == {e.name for e in MODELS if e.available}
    for e in MODELS:
        assert e.available == bool(e.code), e.name
        assert not e.available or any(f"sm.model.{e.name}(mdata" in line for line in e.code)
        assert not e.available or f"X_{e.command}" in e.code[-1]


def test_the_guide_says_what_the_table_says() -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    for e in MODELS:
        if e.available:
            assert rows[e.when] == f"{{class}}`smalti.model.{e.name}`"
    assert rows[NOTHING_LINKS] == f"none: {NO_MODEL}"


# ------------------------------------------------------------------ situations


def named_alike(mdata: MuData) -> MuData:
    """Give the features of all modalities the same names, as far as there are as many."""
    for adata in mdata.mod.values():
        adata.var_names = [f"gene_{i}" for i in range(adata.n_vars)]
    return build_mudata(dict(mdata.mod), obs=mdata.obs)


def linked_by_column(mdata: MuData) -> MuData:
    """Let a column of the last modality name features of the first."""
    mdata["b"].var["gene"] = mdata["a"].var_names[: mdata["b"].n_vars].to_numpy()
    return mdata


def with_pairs(n: int) -> MuData:
    """Two modalities that ``n`` cells have both of, without labels."""
    paired = make_mosaic(**TWO, pattern="paired", labels=False)
    keep = np.zeros((paired.n_obs, 2), dtype=bool)
    keep[::2, 0] = keep[1::2, 1] = keep[:n] = True
    return simulate.drop(paired, keep)


def with_gaps() -> MuData:
    """Five modalities of which every cell has two."""
    whole = make_mosaic(pattern="paired", n_obs=200, n_features=dict.fromkeys("abcde", 12), likelihood="nb")
    pairs = np.array([[i in pair for i in range(5)] for pair in combinations(range(5), 2)])
    return simulate.drop(whole, pairs[np.arange(whole.n_obs) % len(pairs)])


SITUATIONS: dict[str, tuple[Callable[[], MuData], str]] = {
    "paired": (lambda: make_mosaic(**TWO, pattern="paired"), "CLUE"),
    "mosaic": (lambda: make_mosaic(pattern="every"), "CLUE"),
    "a chain of pairs": (lambda: make_mosaic(pattern="indirect", n_obs=120), "CLUE"),
    "two pairs": (lambda: with_pairs(2), "CLUE"),
    "many modalities": (with_gaps, "MCA"),
    "diagonal with labels": (lambda: make_mosaic(**TWO, pattern="diagonal"), "MODIS"),
    "labels of some cells": (lambda: make_mosaic(**TWO, pattern="diagonal", unlabeled=0.7), "MODIS"),
    "features named alike": (lambda: named_alike(make_mosaic(**TWO, pattern="diagonal", labels=False)), "UnpairedCCA"),
    "three modalities named alike": (
        lambda: named_alike(make_mosaic(pattern="diagonal", n_obs=120, labels=False)),
        "UnpairedCCA",
    ),
    "a column with genes": (
        lambda: linked_by_column(make_mosaic(**TWO, pattern="diagonal", labels=False)),
        "UnpairedCCA",
    ),
    "paired bulk": (
        lambda: make_mosaic(**TWO | {"likelihood": "gaussian", "n_obs": 60}, pattern="paired", n_batches=1),
        "CLUE",
    ),
    "unpaired bulk with labels": (
        lambda: make_mosaic(**TWO | {"likelihood": "gaussian", "n_obs": 60}, pattern="diagonal"),
        "MODIS",
    ),
}


@pytest.mark.parametrize("batches", [False, True], ids=["alone", "batches"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_the_printed_code_runs(name: str, batches: bool) -> None:
    make, expected = SITUATIONS[name]
    mdata = make()
    keys = {"batch_key": "batch"} if batches else {}
    labels = {"labels_key": "label"} if "label" in mdata.obs else {}
    found = sm.tl.describe_mosaic(mdata, **keys, **labels).recommendation
    assert found.model == expected
    assert max(map(len, found.code.splitlines())) <= 100
    quick = found.code.replace("model.train()", "model.train(2, progress=False, accelerator='cpu')")
    assert quick != found.code
    if expected == "UnpairedCCA":  # the verdict takes twenty alignments
        quick = quick.replace("links=links)", "links=links, options={'n_permutations': 2})")
    exec(quick, {"sm": sm, "mdata": mdata})
    z = mdata.obsm[f"X_{entry(expected).command}"]
    assert len(z) == mdata.n_obs
    assert np.isfinite(z).all()


@pytest.mark.parametrize("n", [0, 1])
def test_without_pairs_links_and_labels_nothing_is_recommended(n: int) -> None:
    text = repr(sm.tl.describe_mosaic(with_pairs(n)))
    assert "Recommended: none" in text
    assert "linear_cca" not in text
    assert NO_MODEL in " ".join(text.split())
