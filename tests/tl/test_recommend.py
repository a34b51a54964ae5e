from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from smalti.tl._feature_links import FeatureLink
from smalti.tl._recommend import pairs_hint, recommend

LINK = FeatureLink("a", "b", "gene", 12)


def cells(*rows: tuple[int, ...], n: int = 100) -> np.ndarray:
    """Return presence with ``n`` cells of every row."""
    return np.repeat(np.array(rows, dtype=bool), n, axis=0)


def labels(*rows: tuple[int, ...], names: str = "ab") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(names))


def test_a_partly_paired_mosaic_gets_clue_and_its_share_of_pairs() -> None:
    found = recommend(cells((1, 1), (1, 0), (0, 1), (0, 1)), ["a", "b"], None)
    assert found.model == "CLUE"
    assert "100 of 400 cells (25%)" in found.reasons[0]
    assert "CLUE.setup_mudata" in found.code


def test_the_code_that_is_recommended_is_python_and_names_arguments() -> None:
    code = recommend(cells((1, 1)), ["a", "b"], None, modalities={"a": "'nb'"}, batch_key="donor").code
    compile(code, "recommended", "exec")
    assert code.count("batch_key='donor'") == 2
    assert "modalities={'a': 'nb'}" in code


def test_without_pairs_labels_come_before_links_and_links_before_nothing() -> None:
    here = cells((1, 0), (0, 1))
    found = recommend(here, ["a", "b"], labels((50, 40), (50, 0), (0, 60)), labels_key="kind", links=[LINK])
    assert found.model == "MODIS"
    assert any("1 of 3 labels" in reason for reason in found.reasons)
    assert "labels_key='kind'" in found.code
    assert found.alternatives[0].startswith("UnpairedCCA if cells are to be matched one by one")
    found = recommend(here, ["a", "b"], None, links=[LINK])
    assert found.model == "UnpairedCCA"
    assert any("12 features of 'a' and 'b' linked by the column 'gene' of 'b'" in reason for reason in found.reasons)
    assert "UnpairedCCA(mdata, links=links)" in found.code


@pytest.mark.parametrize("table", [None, labels((50, 0), (0, 60))])
def test_without_pairs_labels_or_links_no_model_is_recommended_and_it_is_said_what_is_missing(table) -> None:
    found = recommend(cells((1, 0), (0, 1)), ["a", "b"], table)
    assert (found.model, found.code) == ("none", None)
    assert "no method can tell a right match from a wrong one" in found.reasons[1]
    assert all(word in found.reasons[2] for word in ("links", "labels", "cells measured in both"))


def test_one_shared_cell_links_nothing() -> None:
    here = np.concatenate([cells((1, 0), (0, 1)), cells((1, 1), n=1)])
    found = recommend(here, ["a", "b"], None)
    assert found.model == "none"
    assert "at most one cell" in found.reasons[0]
    assert found.pairs == ""
    assert recommend(np.concatenate([here, cells((1, 1), n=1)]), ["a", "b"], None).model == "CLUE"


def test_three_modalities_need_links_or_labels_that_reach_all_of_them() -> None:
    here = cells((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert recommend(here, list("abc"), None, links=[LINK]).model == "none"
    chain = [LINK, FeatureLink("b", "c", None, 7)]
    found = recommend(here, list("abc"), None, links=chain)
    assert found.model == "UnpairedCCA"
    assert "pd.concat([links, more])" in found.code
    assert recommend(here, list("abc"), labels((5, 5, 0), (0, 0, 5), names="abc")).model == "none"
    assert recommend(here, list("abc"), labels((5, 5, 0), (0, 5, 5), names="abc")).model == "MODIS"


def test_few_pairs_have_a_model_that_takes_more_than_pairs_as_another_choice() -> None:
    few, many = (recommend(cells((1, 1), n=n), ["a", "b"], labels((5, 5))) for n in (49, 50))
    assert few.alternatives[0].startswith("UnpairedCCA")
    assert many.alternatives == ()


def test_many_modalities_mostly_missing_get_mca() -> None:
    rows = [tuple(int(i in pair) for i in range(5)) for pair in itertools.combinations(range(5), 2)]
    found = recommend(cells(*rows), list("abcde"), None)
    assert found.model == "MCA"
    assert "MCA.setup_mudata" in found.code
    assert "X_mca" in found.code
    assert any("5 modalities, and only 40%" in reason for reason in found.reasons)


def test_a_chain_of_pairs_is_enough() -> None:
    found = recommend(cells((1, 1, 0), (0, 1, 1)), list("abc"), None)
    assert found.model == "CLUE"
    assert any("chains of pairs" in reason for reason in found.reasons)


def test_groups_of_modalities_without_a_link_are_named_with_what_clue_can_do() -> None:
    found = recommend(cells((1, 1, 0), (0, 0, 1)), list("abc"), None)
    assert found.model == "none"
    assert "a + b with c" in found.reasons[0]
    assert "modalities=['a', 'b']" in found.reasons[-1]


def test_one_modality_is_nothing_to_integrate() -> None:
    found = recommend(cells((1,)), ["a"], None)
    assert found.model == "none"
    assert "'a'" in found.reasons[0]
    assert recommend(np.zeros((3, 0), dtype=bool), [], None).model == "none"


def test_other_choices_depend_on_labels() -> None:
    here = cells((1, 1))
    assert "FusionClustering" in recommend(here, ["a", "b"], None).alternatives[0]
    assert "OverlapManifold" in recommend(here, ["a", "b"], labels((5, 0), (5, 5))).alternatives[0]
    assert recommend(here, ["a", "b"], labels((5, 5))).alternatives == ()


@pytest.mark.parametrize(("n", "word"), [(20, "too few"), (100, "cell types over"), (500, "still"), (5000, "plenty")])
def test_the_hint_grows_with_the_number_of_pairs(n: int, word: str) -> None:
    hint = pairs_hint(np.array([[0, n], [n, 0]]), ["a", "b"])
    assert f"{n:,} pairs of a and b" in hint
    assert word in hint


def test_the_hint_judges_the_weakest_link_of_the_strongest_chain() -> None:
    both = np.array([[0, 900, 3], [900, 0, 60], [3, 60, 0]])
    assert pairs_hint(both, list("abc")).startswith("60 pairs of b and c (the weakest link)")
