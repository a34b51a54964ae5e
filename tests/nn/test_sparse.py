from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from smalti.nn import SparseLinear, SparseRows, sparse_matmul

G, K = 9, 4


def rows_of(x) -> SparseRows:
    x = sp.csr_matrix(np.asarray(x))
    return SparseRows(
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int64)),
        torch.from_numpy(x.data.astype(np.float32)),
    )


def dense_of(rows: SparseRows, n_features: int = G) -> torch.Tensor:
    out = torch.zeros(rows.n_rows, n_features)
    return out.index_put((rows.row_index(), rows.indices), rows.values, accumulate=True)


def counts(n: int, seed: int = 0) -> torch.Tensor:
    """Counts whose first and last rows and one in the middle are empty, if there are that many."""
    x = np.random.default_rng(seed).poisson(0.6, (n, G)).astype(np.float32)
    x[[0, n // 2, -1] if n else []] = 0
    return torch.from_numpy(x)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_rows_know_their_number_index_and_sums(n):
    x = counts(n)
    rows = rows_of(x.reshape(n, G))
    assert rows.n_rows == n
    torch.testing.assert_close(rows.row_index(), torch.nonzero(x)[:, 0])
    torch.testing.assert_close(rows.row_sums(), x.sum(dim=1))


def test_row_sums_pass_gradients_to_values():
    rows = rows_of(counts(5))
    values = rows.values.clone().requires_grad_()
    (rows.map_values(values).row_sums() * torch.arange(5.0)).sum().backward()
    torch.testing.assert_close(values.grad, rows.row_index().float())


def test_mapping_values_keeps_the_pattern():
    rows = rows_of(counts(5))
    torch.testing.assert_close(dense_of(rows.map_values(rows.values * 3)), 3 * counts(5))


@pytest.mark.parametrize("keep", [[0, 1, 2, 3, 4], [1, 3], [2], []])
def test_dropping_empty_rows_keeps_the_others_in_order(keep):
    x = counts(5, seed=1)
    mask = torch.zeros(5, dtype=torch.bool)
    mask[keep] = True
    x[~mask] = 0
    kept = rows_of(x).drop_empty(mask)
    assert kept.n_rows == len(keep)
    torch.testing.assert_close(dense_of(kept), x[mask])


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_sparse_product_and_its_gradients_equal_the_dense_ones(n, generator):
    x = counts(n).reshape(n, G)
    upstream = torch.randn(n, K, generator=generator)
    rows = rows_of(x)
    values = rows.values.clone().requires_grad_()
    weight = torch.randn(G, K, generator=generator, requires_grad=True)
    dense_x, dense_weight = x.clone().requires_grad_(), weight.detach().clone().requires_grad_()
    found, expected = sparse_matmul(rows.map_values(values), weight), dense_x @ dense_weight
    torch.testing.assert_close(found, expected)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(weight.grad, dense_weight.grad)
    if n:
        torch.testing.assert_close(values.grad, dense_x.grad[rows.row_index(), rows.indices])


def test_rows_that_are_all_empty_give_zeros_and_a_zero_gradient():
    weight = torch.ones(G, K, requires_grad=True)
    out = sparse_matmul(rows_of(np.zeros((3, G))), weight)
    torch.testing.assert_close(out, torch.zeros(3, K))
    out.sum().backward()
    torch.testing.assert_close(weight.grad, torch.zeros(G, K))


def test_no_rows_still_reach_the_weight_so_that_distributed_training_finds_a_gradient():
    layer = SparseLinear(G, K)
    layer(rows_of(np.zeros((0, G)))).sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.zeros(G, K))


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_layer_gives_the_same_for_sparse_and_dense_rows(n):
    layer = SparseLinear(G, K)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(float(K)))
    x = counts(n).reshape(n, G)
    sparse, dense = layer(rows_of(x)), layer(x)
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(dense, torch.nn.functional.linear(x, layer.weight.T, layer.bias))


def test_explicit_zeros_and_repeated_columns_add_up():
    rows = SparseRows(torch.tensor([0, 3]), torch.tensor([2, 2, 5]), torch.tensor([1.0, 2.0, 0.0]))
    weight = torch.randn(G, K)
    torch.testing.assert_close(sparse_matmul(rows, weight), 3 * weight[[2]])


def test_the_first_layer_is_small_whatever_the_number_of_features():
    wide = SparseLinear(10_000, 8)
    assert float(wide.weight.abs().max()) <= 10_000**-0.5
    assert float(wide.bias.abs().max()) == 0


def test_rows_become_dense_with_absent_cells_as_zeros():
    x = counts(6)
    torch.testing.assert_close(rows_of(x).to_dense(G), x)
    torch.testing.assert_close(rows_of(x).drop_empty(x.sum(1) > 0).to_dense(G), x[x.sum(1) > 0])
    assert rows_of(x[:0]).to_dense(G).shape == (0, G)
