from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from _factories import STORAGES, as_storage, make_mosaic

from smalti._mudata import build_mudata, no_pull
from smalti.tl._facts import panel_gaps, read_modality, read_presence

NAMES = ["b0", "b1", "b2"]


def panel(rng: np.random.Generator, lacking: dict[int, list[int]]) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return counts of 300 cells by 8 features in three batches, of which some lack features."""
    x = rng.poisson(2.0, size=(300, 8)).astype(np.float32)
    codes = np.arange(300) % 3
    for batch, features in lacking.items():
        x[np.ix_(codes == batch, features)] = 0
    return sp.csr_matrix(x), codes


@pytest.mark.parametrize("storage", ["csr", "csc", "csr_array", "dense"])
def test_features_that_only_one_batch_never_shows_are_remarked_on(storage: str, rng: np.random.Generator) -> None:
    x, codes = panel(rng, {1: [0, 5]})
    x = {"csr": x, "csc": x.tocsc(), "csr_array": sp.csr_array(x), "dense": x.toarray()}[storage]
    found = panel_gaps(x, codes, NAMES, "adt")
    assert len(found) == 1
    assert "'b1'" in found[0]
    assert "2 of 8 features of 'adt'" in found[0]
    assert "feature_mask" in found[0]


def test_explicit_zeros_are_zeros(rng: np.random.Generator) -> None:
    x, codes = panel(rng, {2: [3]})
    dense = x.toarray()
    stored = sp.csr_matrix((dense.ravel(), np.tile(np.arange(8), 300), np.arange(0, 2401, 8)), shape=(300, 8))
    assert panel_gaps(stored, codes, NAMES, "adt") == panel_gaps(x, codes, NAMES, "adt") != []


def test_rare_features_and_features_that_no_batch_shows_are_not_remarked_on(rng: np.random.Generator) -> None:
    x, codes = panel(rng, {0: [4], 1: [4], 2: [4]})
    rare = x.toarray()
    rare[:, 6] = 0
    rare[np.flatnonzero(codes == 0)[:10], 6] = 1  # ten cells, all in one batch: could be chance
    assert panel_gaps(sp.csr_matrix(rare), codes, NAMES, "adt") == []


def test_cells_of_unknown_batch_count_for_none(rng: np.random.Generator) -> None:
    x, codes = panel(rng, {1: [0]})
    codes = np.where(codes == 2, -1, codes)
    assert len(panel_gaps(x, codes, NAMES, "adt")) == 1


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_read_does_not_depend_on_storage(storage: str) -> None:
    mdata = make_mosaic(pattern="every", likelihood={"a": "nb", "b": "bernoulli", "c": "poisson"})
    stored = as_storage(mdata, storage)
    for name in mdata.mod:
        expected, found = read_modality(mdata, name), read_modality(stored, name)
        assert found == expected
    assert [read_modality(mdata, m)[0].likelihood for m in mdata.mod] == ["nb", "bernoulli", "nb"]


def test_sizes_and_totals_are_those_of_numpy() -> None:
    mdata = make_mosaic(pattern="every")
    x = mdata["a"].X.toarray()
    facts = read_modality(mdata, "a")[0]
    assert (facts.n_obs, facts.n_vars) == x.shape
    assert facts.nonzero == pytest.approx((x != 0).mean())
    assert facts.median_total == pytest.approx(np.median(x.sum(axis=1)))
    assert read_modality(mdata, "c")[0].median_total is None


def test_counts_in_a_layer_are_found_when_x_has_none() -> None:
    mdata = make_mosaic()
    counts = mdata["a"].X.copy()
    mdata["a"].layers["scaled"] = counts * 0.3
    mdata["a"].layers["raw"] = counts
    mdata["a"].X = np.log1p(counts)
    facts, problems, notes = read_modality(mdata, "a")
    assert (facts.layer, facts.likelihood, problems) == ("raw", "nb", [])
    assert any("layer 'raw'" in note for note in notes)


def test_normalised_counts_are_recognised_and_standardised_values_are_not() -> None:
    mdata = make_mosaic(likelihood={"a": "nb", "b": "poisson", "c": "gaussian"})
    mdata["b"].X = np.log1p(mdata["b"].X * 0.7)
    assert any("raw" in note for note in read_modality(mdata, "b")[2])
    assert read_modality(mdata, "c")[2] == []


def test_cells_and_features_with_only_zeros_are_counted() -> None:
    mdata = make_mosaic(empty=("a",))
    x = mdata["a"].X.tolil()
    x[:, 3] = 0
    mdata["a"].X = x.tocsr()
    notes = read_modality(mdata, "a")[2]
    assert any(note.startswith("1 cells have only zeros in 'a'") for note in notes)
    assert any(note.startswith("1 of 30 features of 'a'") for note in notes)


def test_unusable_values_are_a_problem_that_names_cells() -> None:
    mdata = make_mosaic()
    mdata["c"].X[2, 1] = np.inf
    facts, problems, _ = read_modality(mdata, "c")
    assert facts.likelihood is None
    assert len(problems) == 1
    assert mdata["c"].obs_names[2] in problems[0]


def test_a_modality_without_cells_is_a_problem() -> None:
    mdata = build_mudata({"a": make_mosaic()["a"], "b": ad.AnnData(np.ones((0, 4), np.float32))})
    assert "'b' has no cell" in read_modality(mdata, "b")[1][0]


def test_presence_of_a_stale_map_comes_from_names_and_is_a_problem() -> None:
    mdata = make_mosaic(pattern="every")
    with no_pull():
        changed = mdata.copy()
    kept = changed["b"].obs_names[5:]
    changed.mod["b"] = changed["b"][5:].copy()
    here, problems = read_presence(changed)
    assert len(problems) == 1
    assert "'b'" in problems[0]
    assert "mdata.update()" in problems[0]
    np.testing.assert_array_equal(here[:, 1], changed.obs_names.isin(kept))
    np.testing.assert_array_equal(here[:, [0, 2]], read_presence(mdata)[0][:, [0, 2]])
