from __future__ import annotations

import itertools
import types

import numpy as np
import pandas as pd
import pytest

from smalti import model
from smalti.tl import _recommend
from smalti.tl._recommend import pairs_hint, recommend


def cells(*rows: tuple[int, ...], n: int = 100) -> np.ndarray:
    """Return presence with ``n`` cells of every row."""
    return np.repeat(np.array(rows, dtype=bool), n, axis=0)


def labels(*rows: tuple[int, ...], names: str = "ab") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(names))


def test_a_partly_paired_mosaic_gets_clue_and_its_share_of_pairs() -> None:
    found = recommend(cells((1, 1), (1, 0), (0, 1), (0, 1)), ["a", "b"], None)
    assert (found.model, found.available, found.meanwhile) == ("CLUE", True, None)
    assert "100 of 400 cells (25%)" in found.reasons[0]
    assert "CLUE.setup_mudata" in found.code


def test_the_code_that_is_recommended_is_python_and_names_arguments() -> None:
    code = recommend(cells((1, 1)), ["a", "b"], None, arguments=", batch_key='donor'", batch_key="donor").code
    compile(code, "recommended", "exec")
    assert code.count("batch_key='donor'") == 2


def test_without_pairs_labels_decide_between_modis_and_unpaired_cca() -> None:
    here = cells((1, 0), (0, 1))
    assert recommend(here, ["a", "b"], None).model == "UnpairedCCA"
    found = recommend(here, ["a", "b"], labels((50, 40), (50, 0), (0, 60)))
    assert found.model == "MODIS"
    assert any("1 of 3 labels" in reason for reason in found.reasons)


@pytest.mark.parametrize("name", ["UnpairedCCA", "MODIS"])
def test_a_planned_model_is_said_to_be_missing_with_what_to_do_instead(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_recommend, "model", types.SimpleNamespace(CLUE=model.CLUE))
    table = labels((5, 5)) if name == "MODIS" else None
    found = recommend(cells((1, 0), (0, 1)), ["a", "b"], table)
    assert (found.model, found.available, found.code) == (name, False, None)
    assert "Nothing in this version" in found.meanwhile


def test_a_model_is_recommended_with_code_once_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recommend, "model", types.SimpleNamespace(CLUE=model.CLUE, MODIS=object))
    found = recommend(cells((1, 0), (0, 1)), ["a", "b"], labels((5, 5)))
    assert (found.model, found.available, found.meanwhile) == ("MODIS", True, None)
    assert "sm.model.MODIS(mdata)" in found.code
    assert "X_modis" in found.code


def test_what_the_readme_calls_available_is_recommended_with_code() -> None:
    here = cells((1, 0), (0, 1))
    found = recommend(here, ["a", "b"], labels((5, 5)), arguments=", labels_key='kind'")
    assert (found.model, found.available, found.meanwhile) == ("MODIS", True, None)
    compile(found.code, "recommended", "exec")
    assert "MODIS.setup_mudata" in found.code
    rows = [tuple(int(i in pair) for i in range(5)) for pair in itertools.combinations(range(5), 2)]
    found = recommend(cells(*rows), list("abcde"), None)
    assert (found.model, found.available) == ("MCA", True)


def test_a_chain_of_pairs_is_enough() -> None:
    found = recommend(cells((1, 1, 0), (0, 1, 1)), list("abc"), None)
    assert found.model == "CLUE"
    assert any("chains of pairs" in reason for reason in found.reasons)


def test_groups_of_modalities_without_a_link_are_named_with_what_clue_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recommend, "model", types.SimpleNamespace(CLUE=model.CLUE))
    found = recommend(cells((1, 1, 0), (0, 0, 1)), list("abc"), None)
    assert found.model == "UnpairedCCA"
    assert "a + b with c" in found.reasons[0]
    assert "modalities=['a', 'b']" in found.meanwhile


def test_many_modalities_mostly_missing_get_mca_and_clue_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recommend, "model", types.SimpleNamespace(CLUE=model.CLUE))
    rows = [tuple(int(i in pair) for i in range(5)) for pair in itertools.combinations(range(5), 2)]
    found = recommend(cells(*rows), list("abcde"), None)
    assert (found.model, found.available) == ("MCA", False)
    assert "CLUE" in found.meanwhile
    assert "CLUE.setup_mudata" in found.code


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
