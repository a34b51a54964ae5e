from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from smalti.data import _values
from smalti.data._finite import check_finite
from smalti.data._values import (
    components_of,
    describe_bad_counts,
    looks_like_counts,
    matrix_of,
    mostly_ones,
    nonzero_share,
    stored_values,
)

KINDS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "dense": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_cells_with_bad_values_are_named(kind, bad):
    x = np.zeros((7, 5))
    x[1, 4] = x[5, 0] = x[5, 2] = bad
    x[0, 1] = x[6, 3] = 2.0
    names = np.array([f"cell_{i}" for i in range(7)])
    with pytest.raises(ValueError, match="'m' has 3 infinite values, first in cells 'cell_1', 'cell_5'\\."):
        check_finite(kind(x), "m", names)
    check_finite(kind(np.nan_to_num(x, posinf=9.0, neginf=-9.0)), "m", names)


def test_a_bad_value_beyond_the_first_block_is_found(monkeypatch):
    monkeypatch.setattr(_values, "BLOCK", 4)
    x = np.ones((5, 3))
    x[4, 2] = np.inf
    with pytest.raises(ValueError, match="has 1 infinite"):
        check_finite(x, "m", np.arange(5))
    x[4, 2] = 0.5
    assert not looks_like_counts(x)
    x[4, 2] = -1
    assert not looks_like_counts(x)


def test_values_that_are_no_numbers_are_refused_with_their_type():
    with pytest.raises(ValueError, match="'m' holds values of type object, expected numbers"):
        check_finite(np.array([["a", 1]], dtype=object), "m", np.arange(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint16, bool])
def test_whole_numbers_of_any_type_are_counts(kind, dtype):
    assert looks_like_counts(kind(np.array([[0, 1], [1, 0]], dtype=dtype)))


@pytest.mark.parametrize(("value", "word"), [(-1.0, "negative .minimum -1"), (0.5, "not integers .such as 0.5")])
def test_what_is_not_a_count_is_told_apart_and_described(kind, value, word):
    x = kind(np.array([[0.0, 3.0], [value, 0.0]]))
    assert not looks_like_counts(x)
    assert re.search(f"1 values are {word}", describe_bad_counts(x))


def test_negative_integers_are_not_counts():
    assert not looks_like_counts(np.array([[-1, 2]]))


def test_share_of_nonzero_does_not_count_stored_zeros():
    m = sp.csr_matrix((np.array([1.0, 0.0, 2.0]), np.array([0, 1, 0]), np.array([0, 2, 3])), shape=(2, 5))
    assert nonzero_share(m) == nonzero_share(m.toarray()) == pytest.approx(0.2)
    assert nonzero_share(np.zeros((0, 4))) == 0


def test_mostly_ones_looks_at_nonzero_values_only(kind):
    x = np.zeros((10, 10))
    x[:, 0] = 1
    assert mostly_ones(kind(x))
    x[:2, 0] = 2
    assert not mostly_ones(kind(x))
    assert not mostly_ones(kind(np.zeros((3, 3))))


def test_looking_at_values_copies_nothing():
    x = np.arange(12.0).reshape(3, 4)
    for stored in (x, np.asfortranarray(x)):
        assert np.shares_memory(stored_values(stored), stored)
    m = sp.csc_matrix(x)
    assert np.shares_memory(stored_values(m), m.data)


def test_a_missing_layer_is_refused_with_those_that_exist():
    adata = ad.AnnData(np.ones((2, 2)), layers={"raw": np.zeros((2, 2))})
    assert matrix_of(adata, "raw", "m") is adata.layers["raw"]
    with pytest.raises(KeyError, match="'m' has no layer 'counts'; available: 'raw'. Use `layer=None`"):
        matrix_of(adata, "counts", "m")
    with pytest.raises(ValueError, match="'m' has no values in `.X`"):
        matrix_of(ad.AnnData(obs=pd.DataFrame(index=["x"]), var=pd.DataFrame(index=["g"])), None, "m")


def with_components(z):
    adata = ad.AnnData(np.ones((4, 2)), obs=pd.DataFrame(index=list("wxyz")))
    adata.obsm["z"] = z
    return adata


def test_given_components_may_be_an_array_or_a_table():
    z = np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(components_of(with_components(z), "z", "m"), z)
    np.testing.assert_array_equal(components_of(with_components(pd.DataFrame(z, index=list("wxyz"))), "z", "m"), z)


@pytest.mark.parametrize(
    "z", [sp.csr_matrix(np.ones((4, 2))), np.empty((4, 0)), pd.DataFrame({"a": list("abcd")}, index=list("wxyz"))]
)
def test_components_that_are_no_table_of_numbers_are_refused(z):
    with pytest.raises(ValueError, match=r"modality 'm' \(`.obsm`\): expected 'z' to be a dense table of numbers"):
        components_of(with_components(z), "z", "m")


def test_components_with_nan_are_refused_with_the_cells():
    z = np.ones((4, 2))
    z[2, 1] = np.nan
    with pytest.raises(ValueError, match="modality 'm'.*'z' has NaN or infinite values in 1 cells, first 'y'"):
        components_of(with_components(z), "z", "m")
