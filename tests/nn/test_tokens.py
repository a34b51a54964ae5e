from __future__ import annotations

import pytest
import scipy.sparse as sp
import torch

from smalti.nn import LogNormalised, PatchTokens, SparseRows, activation_bytes, make_tokens

KINDS = ("patches", "columns", "vector")


def sparse(x: torch.Tensor, *, shuffle: bool = False) -> SparseRows:
    """Return rows in CSR form, the columns of a row in reverse order if ``shuffle``."""
    csr = sp.csr_matrix(x.numpy())
    indices, values = torch.from_numpy(csr.indices).long(), torch.from_numpy(csr.data)
    if shuffle:
        order = torch.cat([torch.arange(b - 1, a - 1, -1) for a, b in zip(csr.indptr, csr.indptr[1:], strict=False)])
        indices, values = indices[order], values[order]
    return SparseRows(torch.from_numpy(csr.indptr).long(), indices, values)


def counts(n: int = 6, g: int = 11) -> torch.Tensor:
    x = torch.poisson(torch.full((n, g), 0.8))
    x[2] = 0
    return x


@pytest.mark.parametrize("n_in", [1, 5, 7, 12])
@pytest.mark.parametrize("n_tokens", [1, 4, 20])
def test_a_patch_is_a_linear_map_of_its_own_columns(n_in, n_tokens):
    layer, x = PatchTokens(n_in, 3, n_tokens), torch.randn(5, n_in)
    assert layer.n_tokens == min(n_in, n_tokens)
    groups = torch.tensor_split(torch.arange(n_in), layer.n_tokens)
    assert sorted(len(g) for g in groups) == sorted(torch.bincount(layer.group).tolist())
    for token in range(layer.n_tokens):
        mine = torch.nonzero(layer.group == token).ravel()
        assert (mine.diff() == 1).all()
        expected = layer.bias[token] + sum(x[:, [j]] * layer.weight[token, k] for k, j in enumerate(mine.tolist()))
        torch.testing.assert_close(layer(x)[:, token], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_sparse_rows_give_the_tokens_and_gradients_of_dense_ones(kind, shuffle):
    layer, x = make_tokens(kind, 11, 8, n_tokens=4), counts()
    found = []
    for rows in (x, sparse(x, shuffle=shuffle)):
        layer.zero_grad()
        tokens = layer(rows)
        tokens.square().sum().backward()
        found.append([tokens.detach(), *(p.grad.clone() for p in layer.parameters())])
    assert found[0][0].shape == (6, layer.n_tokens, 8)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cell_gives_no_token_and_a_gradient_of_zero(kind):
    layer = make_tokens(kind, 11, 8, n_tokens=4)
    for rows in (torch.zeros(0, 11), SparseRows(torch.zeros(1).long(), torch.zeros(0).long(), torch.zeros(0))):
        layer.zero_grad()
        tokens = layer(rows)
        assert tokens.shape == (0, layer.n_tokens, 8)
        tokens.sum().backward()
        assert all((p.grad == 0).all() for p in layer.parameters())


def test_a_patch_counts_as_measured_if_one_of_its_columns_was():
    layer = make_tokens("patches", 6, 2, n_tokens=3)
    measured = torch.tensor([[1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    expected = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    assert torch.equal(layer.token_mask(measured), expected)
    assert torch.equal(make_tokens("columns", 6, 2).token_mask(measured), measured)
    assert make_tokens("vector", 6, 2).token_mask(measured).tolist() == [[True]] * 3


def test_every_column_has_a_token_that_depends_on_its_own_value_and_identity_alone():
    layer, x = make_tokens("columns", 4, 8), torch.randn(3, 4)
    other = x.clone()
    other[:, 2] += 1
    changed = (layer(x) - layer(other)).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [False, False, True, False]
    same = layer(torch.ones(1, 4))[0]
    torch.testing.assert_close(same - layer.identity, (same - layer.identity)[:1].expand(4, -1))


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_counts_are_log_normalised_and_reals_left_alone(form):
    x = counts()
    rows = x if form == "dense" else sparse(x)
    out = LogNormalised(counts=True)(rows)
    dense = out if form == "dense" else torch.zeros_like(x).index_put((out.row_index(), out.indices), out.values)
    torch.testing.assert_close(dense, torch.log1p(1e4 * x / x.sum(1, keepdim=True).clamp(min=1)))
    assert LogNormalised(counts=False)(rows) is rows


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="`tokens` to be one of 'patches', 'columns', 'vector', found 'words'"):
        make_tokens("words", 4, 2)


def test_memory_grows_with_tokens_width_layers_and_cells():
    base = activation_bytes(100, 64, 2, 8)
    for grown in ((200, 64, 2, 8), (100, 128, 2, 8), (100, 64, 4, 8), (100, 64, 2, 16)):
        assert activation_bytes(*grown) == 2 * base
