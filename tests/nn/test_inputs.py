from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from smalti.data import CSRReader
from smalti.nn import ByModality, CountsInput, DenseInput, ScaledInput, SparseRows

AWKWARD = [
    "a.b",
    "a_dot_b",
    "a%2Eb",
    "items",
    "keys",
    "values",
    "forward",
    "members",
    "training",
    "",
    " ",
    "RNA 2.0",
    "é",
]


def rows_of(x) -> SparseRows:
    x = sp.csr_matrix(x)
    return SparseRows(
        torch.from_numpy(x.indptr.astype(np.int64)),
        torch.from_numpy(x.indices.astype(np.int64)),
        torch.from_numpy(x.data.astype(np.float32)),
    )


def by_awkward_names():
    return ByModality({name: nn.Linear(1, i + 1) for i, name in enumerate(AWKWARD)})


def test_any_name_finds_its_own_module():
    modules = by_awkward_names()
    assert list(modules) == AWKWARD
    assert [module.out_features for _, module in modules.items()] == list(range(1, len(AWKWARD) + 1))
    assert all(modules[name].out_features == i + 1 for i, name in enumerate(AWKWARD))
    with pytest.raises(KeyError):
        modules["b"]


def test_all_modules_are_registered_and_survive_storage_and_copies():
    modules = by_awkward_names()
    assert len(list(modules.parameters())) == 2 * len(AWKWARD)
    other = by_awkward_names()
    other.load_state_dict(modules.state_dict())
    for again in (other, copy.deepcopy(modules)):
        for name in AWKWARD:
            torch.testing.assert_close(again[name].weight, modules[name].weight)


@pytest.mark.parametrize("log", [True, False])
def test_counts_give_the_same_sparse_or_dense_whatever_else_is_in_the_batch(rng, log):
    x = rng.poisson(0.8, (6, 9)).astype(np.float32)
    x[2] = 0
    layer = CountsInput(9, 4, log=log)
    batch = torch.zeros(6, dtype=torch.int64)
    dense, sparse = layer(torch.from_numpy(x), batch), layer(rows_of(x), batch)
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(layer(rows_of(x[[4]]), batch[:1]), dense[[4]])
    assert layer(rows_of(x[:0]), batch[:0]).shape == (0, 4)


def test_counts_are_normalised_to_ten_thousand_and_logged(rng):
    x = rng.poisson(2.0, (5, 9)).astype(np.float32)
    layer = CountsInput(9, 4, log=True)
    z = torch.from_numpy(np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)))
    torch.testing.assert_close(layer(rows_of(x), None), z @ layer.linear.weight + layer.linear.bias)
    torch.testing.assert_close(layer(rows_of(7 * x), None), layer(rows_of(x), None))


def test_reals_are_taken_as_they_are(rng):
    x = torch.from_numpy(rng.normal(size=(5, 9)).astype(np.float32))
    layer = CountsInput(9, 4, log=False)
    torch.testing.assert_close(layer(x, None), x @ layer.linear.weight + layer.linear.bias)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_profile_of_zeros_is_finite_with_a_finite_gradient(sparse):
    layer = CountsInput(3, 2, log=True)
    x = np.zeros((2, 3), np.float32)
    out = layer(rows_of(x) if sparse else torch.from_numpy(x), None)
    torch.testing.assert_close(out, layer.linear.bias.expand(2, 2))
    out.sum().backward()
    assert torch.isfinite(layer.linear.weight.grad).all()


def test_given_components_are_centred_on_their_batch_and_an_average_one_on_the_last_row():
    layer = DenseInput(3, n_batch=2)
    layer.centre.copy_(torch.tensor([[1.0, 1, 1], [2, 2, 2], [1.5, 1.5, 1.5]]))
    layer.scale.fill_(2)
    out = layer(torch.full((3, 3), 3.0), torch.tensor([0, 1, -1]))
    torch.testing.assert_close(out[:, 0], torch.tensor([4.0, 2.0, 3.0]))
    assert list(layer.state_dict()) == ["centre", "scale"]
    assert list(layer.parameters()) == []


# --------------------------------------------------------------- standardised features


def standardised(x, batch, *, log, mask=None, n_batch=2):
    """``ScaledInput`` in numpy: standard deviations from the mean of the batch, zero where not measured."""
    measured = np.ones(x.shape, bool) if mask is None else mask[batch]
    x = np.where(measured, x, 0).astype(np.float64)
    if log:
        x = np.log1p(1e4 * x / np.maximum(x.sum(axis=1, keepdims=True), 1e-8))
    table = np.full((n_batch, x.shape[1]), np.nan)
    for b in range(n_batch):
        here = batch == b
        if here.any():
            table[b] = np.where(measured[here].all(axis=0), x[here].mean(axis=0), np.nan)
    overall = np.nanmean(table, axis=0)
    table = np.where(np.isnan(table), overall, table)
    residual = np.where(measured, x - table[batch], 0)
    sd = np.sqrt((residual**2).sum(axis=0) / measured.sum(axis=0))
    scale = np.divide(1, sd, out=np.zeros_like(sd), where=sd > 1e-8)
    return table, overall, scale, np.where(measured, (x - table[batch]) * scale, 0)


@pytest.fixture
def panel(rng):
    """Counts of two batches, the last feature constant, of which batch 1 did not measure two."""
    x = rng.poisson(3.0, (40, 7)).astype(np.float32)
    x[:, -1] = 0
    batch = np.arange(40) % 2
    x[batch == 1] += rng.poisson(1.0, (20, 7)) * np.r_[np.ones(6), 0]
    mask = np.ones((2, 7), dtype=bool)
    mask[1, [0, 3]] = False
    return x, batch, mask


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_features_are_standardised_as_by_numpy(panel, log, masked, sparse):
    x, batch, mask = panel
    table, overall, scale, expected = standardised(x, batch, log=log, mask=mask if masked else None)
    layer = ScaledInput(7, 2, log=log, masked=masked)
    layer.centre.copy_(torch.from_numpy(np.vstack([table, overall])))
    layer.scale.copy_(torch.from_numpy(scale))
    if masked:
        layer.feature_mask.copy_(torch.from_numpy(np.vstack([mask, mask.any(axis=0)])))
    given = rows_of(x) if sparse else torch.from_numpy(x)
    found = layer(given, torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert (found[:, -1] == 0).all()
    if masked:
        assert (found[batch == 1][:, [0, 3]] == 0).all()


def test_what_was_not_measured_does_not_count_towards_the_sum_of_a_profile(panel):
    x, batch, mask = panel
    layer = ScaledInput(7, 2, log=True, masked=True)
    layer.feature_mask.copy_(torch.from_numpy(np.vstack([mask, mask.any(axis=0)])))
    other = x.copy()
    other[np.ix_(batch == 1, [0, 3])] = 999
    codes = torch.from_numpy(batch)
    torch.testing.assert_close(layer(torch.from_numpy(other), codes), layer(torch.from_numpy(x), codes))
    torch.testing.assert_close(layer(rows_of(other), codes), layer(torch.from_numpy(x), codes))


def test_cells_of_unknown_batch_are_centred_on_the_last_row():
    layer = ScaledInput(2, 2, log=False)
    layer.centre.copy_(torch.tensor([[1.0, 1], [3, 3], [2, 2]]))
    layer.scale.copy_(torch.tensor([1.0, 10.0]))
    out = layer(torch.full((3, 2), 4.0), torch.tensor([0, 1, -1]))
    torch.testing.assert_close(out, torch.tensor([[3.0, 30], [1, 10], [2, 20]]))
    assert not list(layer.parameters())
    assert "feature_mask" not in layer.state_dict()


def test_empty_profiles_and_empty_batches_are_finite():
    layer = ScaledInput(3, 1, log=True)
    assert torch.isfinite(layer(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))).all()
    assert layer(rows_of(np.zeros((0, 3))), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


@pytest.mark.parametrize("log", [True, False])
def test_some_scaled_features_are_those_of_all(log, rng):
    layer = ScaledInput(6, 2, log=log, masked=True)
    layer.centre.copy_(torch.from_numpy(rng.normal(size=(3, 6))))
    layer.scale.copy_(torch.from_numpy(rng.uniform(0.5, 2, 6)))
    layer.feature_mask.copy_(torch.from_numpy(rng.random((3, 6)) < 0.7))
    x, batch = rng.poisson(1.0, (5, 6)).astype(np.float32), torch.tensor([0, 1, -1, 0, 1])
    columns = torch.tensor([4, 1, 5])
    rows = CSRReader(sp.csr_matrix(x)).read(np.arange(5))
    whole = layer(torch.from_numpy(x), batch)
    torch.testing.assert_close(layer(rows, batch), whole)
    for given in (rows, torch.from_numpy(x)):
        torch.testing.assert_close(layer.some(given, batch, columns), whole[:, columns])
