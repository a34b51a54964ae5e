from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from smalti.data import CSRReader, DenseReader, make_reader
from smalti.nn import SparseRows

ROWS = np.array([3, -1, 0, 3, 5, -1])


def dense(block, n_features):
    if not isinstance(block, SparseRows):
        return block.numpy()
    csr = (block.values.numpy(), block.indices.numpy(), block.indptr.numpy())
    return sp.csr_matrix(csr, shape=(block.n_rows, n_features)).toarray()


def expected(x, rows):
    out = np.asarray(x, dtype=np.float32)[np.maximum(rows, 0)]
    out[rows < 0] = 0
    return out


@pytest.fixture
def x(rng):
    return rng.poisson(0.7, (8, 5)).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint32, bool])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.csc_array, sp.coo_matrix, np.asarray])
def test_rows_are_those_asked_for_in_their_order(x, kind, dtype):
    x = x.astype(dtype)
    block = make_reader(kind(x)).read(ROWS)
    np.testing.assert_array_equal(dense(block, 5), expected(x, ROWS))
    assert (block.values if isinstance(block, SparseRows) else block).dtype == torch.float32


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_indices_of_any_width_are_read(x, index_dtype):
    m = sp.csr_matrix(x)
    m.indices, m.indptr = m.indices.astype(index_dtype), m.indptr.astype(index_dtype)
    block = CSRReader(m).read(ROWS)
    assert block.indptr.dtype == block.indices.dtype == torch.int64
    np.testing.assert_array_equal(dense(block, 5), expected(x, ROWS))


@pytest.mark.parametrize("kind", [sp.csr_matrix, np.asarray])
@pytest.mark.parametrize("rows", [[], [2], [-1], [-1, -1, -1]])
def test_empty_single_and_absent_selections_have_their_shape(x, kind, rows):
    rows = np.array(rows, dtype=np.int64)
    block = make_reader(kind(x)).read(rows)
    assert (block.n_rows if isinstance(block, SparseRows) else len(block)) == len(rows)
    np.testing.assert_array_equal(dense(block, 5), expected(x, rows).reshape(len(rows), 5))


def test_absent_rows_store_nothing(x):
    block = CSRReader(sp.csr_matrix(x)).read(ROWS)
    lengths = np.diff(block.indptr)
    assert (lengths[ROWS < 0] == 0).all()
    assert len(block.values) == np.count_nonzero(expected(x, ROWS))


def test_values_of_absent_rows_cannot_leak_even_if_they_are_nan():
    x = np.array([[np.nan, 1.0], [2.0, 3.0]])
    for kind in (sp.csr_matrix, np.asarray):
        np.testing.assert_array_equal(dense(make_reader(kind(x)).read(np.array([-1, 1])), 2), [[0, 0], [2, 3]])


def test_explicit_zeros_duplicates_and_unsorted_columns_do_not_change_values():
    m = sp.csr_matrix(
        (np.array([1.0, 2.0, 0.0, 4.0, 5.0]), np.array([2, 0, 1, 3, 3]), np.array([0, 3, 3, 5])), shape=(3, 4)
    )
    before = [part.copy() for part in (m.data, m.indices, m.indptr)]
    np.testing.assert_array_equal(dense(CSRReader(m).read(np.arange(3)), 4), [[2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 9]])
    for part, old in zip((m.data, m.indices, m.indptr), before, strict=True):
        np.testing.assert_array_equal(part, old)  # the user's matrix stays as it was


def test_rows_without_any_value_are_read_from_an_empty_matrix():
    block = CSRReader(sp.csr_matrix((4, 3))).read(np.array([0, 3]))
    np.testing.assert_array_equal(dense(block, 3), np.zeros((2, 3)))


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array])
def test_csr_values_are_used_where_they_lie(x, kind):
    m = kind(x)
    reader = CSRReader(m)
    assert np.shares_memory(reader.data, m.data)
    assert np.shares_memory(reader.indices, m.indices)


def test_dense_values_are_used_where_they_lie_and_what_is_read_is_a_copy(x):
    reader = DenseReader(x)
    assert np.shares_memory(reader.x, x)
    block = reader.read(np.array([1]))
    block += 1
    np.testing.assert_array_equal(reader.read(np.array([1])).numpy(), block.numpy() - 1)


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_a_matrix_too_large_to_be_dense_is_read(kind):
    n, g = 2_000_000, 2_000_000  # 16 TB if it were dense
    at = np.array([0, 7, n - 1])
    m = sp.coo_matrix((np.array([1.0, 2.0, 3.0], np.float32), (at, at)), shape=(n, g)).asformat(kind)
    block = make_reader(m).read(at)
    assert block.indices.tolist() == at.tolist()
    assert block.values.tolist() == [1, 2, 3]
