"""Names that are equal by accident are noticed, and so are counts far beyond all others."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import smalti as sm
from smalti._mudata import build_mudata


def paired(*, depth: str = "shared", donors: tuple[str, str] = ("A", "A"), n: int = 200):
    rng = np.random.default_rng(0)
    factor = {"shared": np.tile(rng.lognormal(0, 0.5, (n, 1)), (2, 1, 1)), "own": rng.lognormal(0, 0.5, (2, n, 1))}[
        depth
    ]
    cells = [f"c{i}" for i in range(n)]
    mods = {
        name: ad.AnnData(
            rng.poisson(2 * factor[i], (n, 20)).astype("float32"),
            obs=pd.DataFrame({"donor": donors[i], "depth": factor[i].ravel()}, index=cells),
            var=pd.DataFrame(index=[f"{name}{j}" for j in range(20)]),
        )
        for i, name in enumerate(("rna", "adt"))
    }
    return build_mudata(mods)


def notes(mdata) -> str:
    return "\n".join(sm.tl.describe_mosaic(mdata).notes)


def test_true_pairs_get_no_note():
    assert "donor" not in notes(paired())
    assert "Library sizes" not in notes(paired())
    assert "times the largest" not in notes(paired())


def test_contradicting_donors_are_told():
    assert "200 of 200 cells that 'rna' and 'adt' share by name have another 'donor'" in notes(
        paired(donors=("A", "B"))
    )


def test_donors_of_other_types_do_not_contradict():
    mdata = paired()
    mdata["rna"].obs["donor"], mdata["adt"].obs["donor"] = 1, 1.0
    assert "donor" not in notes(mdata)


def test_library_sizes_that_do_not_go_together_are_told():
    assert "Library sizes of 'rna' and 'adt' do not go together on the 1,000 cells" in notes(
        paired(depth="own", n=1000)
    )


@pytest.mark.parametrize("value", [5_000_000, 20_000])
def test_one_wild_count_is_told_with_cell_and_feature(value):
    mdata = paired()
    mdata["adt"].X[17, 3] = value
    assert f"first 'c17' with {value:,} of 'adt3'" in notes(mdata)


def test_a_modality_from_which_nothing_can_be_learned_is_a_problem():
    mdata = paired()
    mdata["adt"].X[:] = 0
    assert any("Modality 'adt' has the same values in all" in text for text in sm.tl.describe_mosaic(mdata).problems)
