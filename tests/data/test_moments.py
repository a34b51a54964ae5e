from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from smalti.data import _moments
from smalti.data._moments import fit_scaled
from smalti.nn import ScaledInput

G = 7


@pytest.fixture
def panel(rng):
    """Counts of two batches of different size; the last feature is constant, batch 1 did not measure two."""
    x = rng.poisson(3.0, (50, G)).astype(np.float32)
    batch = np.where(np.arange(50) % 5 == 0, 1, 0)
    x[batch == 1] += rng.poisson(2.0, (10, G))
    mask = np.ones((2, G), dtype=bool)
    mask[1, [0, 3]] = False
    return x, batch, mask


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_means_of_batches_and_the_common_deviation_are_those_of_numpy(panel, monkeypatch, storage, masked, log):
    monkeypatch.setattr(_moments, "BLOCK_VALUES", 6 * G)  # six cells at once
    x, batch, mask = panel
    mask = mask if masked else None
    measured = np.ones(x.shape, bool) if mask is None else mask[batch]
    y = np.where(measured, x, 0).astype(float)
    y = np.log1p(1e4 * y / y.sum(1, keepdims=True)) if log else y
    means = np.stack([y[batch == b].mean(0) for b in (0, 1)])
    if masked:
        means[1, [0, 3]] = means[0, [0, 3]]  # the mean over those that measured it
    residual = np.where(measured, y - means[batch], 0)
    sd = np.sqrt((residual**2).sum(0) / measured.sum(0))

    layer = fit_scaled(ScaledInput(G, 2, log=log, masked=masked), storage(x), batch, mask)
    np.testing.assert_allclose(layer.centre[:2], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.centre[2], means.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.scale, 1 / sd, rtol=1e-4)
    z = layer(torch.from_numpy(x), torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(z, residual / sd, atol=1e-4)
    np.testing.assert_allclose((z**2).sum(0) / measured.sum(0), 1, rtol=1e-3)


def test_a_constant_feature_is_zero_and_never_divided_by():
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    x[:, 1] = 5.0
    layer = fit_scaled(ScaledInput(3, 1, log=False), x, np.zeros(20, dtype=np.int64))
    assert layer.scale[1] == 0
    assert (layer(torch.from_numpy(x), torch.zeros(20, dtype=torch.int64))[:, 1] == 0).all()


def test_a_batch_without_cells_gets_the_mean_of_the_others(rng):
    x = rng.normal(size=(30, 4)).astype(np.float32)
    batch = np.array([0, 2] * 15)
    layer = fit_scaled(ScaledInput(4, 3, log=False), x, batch)
    np.testing.assert_allclose(layer.centre[1], (layer.centre[0] + layer.centre[2]) / 2, rtol=1e-5)
    torch.testing.assert_close(layer.centre[1], layer.centre[3])


def test_a_large_offset_costs_no_precision(rng):
    x = rng.normal(size=(200, 2)) + 1e4
    layer = fit_scaled(ScaledInput(2, 1, log=False), x.astype(np.float32), np.zeros(200, dtype=np.int64))
    np.testing.assert_allclose(1 / layer.scale, x.astype(np.float32).astype(float).std(0), rtol=1e-4)
