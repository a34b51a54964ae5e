from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from smalti.model.parts import LOG1P, NORMALIZED, RAW, Chunk, Translator, fit_pair
from smalti.model.parts._kernel_ridge import KernelFeatures, RidgeSolver, choose

N, N_HELD = 400, 80


@pytest.fixture
def inputs(rng):
    return rng.normal(size=(N, 5)).astype(np.float32), rng.normal(size=(N, 1)).astype(np.float32)


def fit(x, side, values, network, *, held=None, log_library=None, counts=None, measured=None, chunk=150):
    """Fit to dictionaries of ``(n, G)`` by form."""
    held = np.arange(len(x)) >= len(x) - N_HELD if held is None else held

    def stream(library):
        for start in range(0, len(x), chunk):
            rows = np.arange(start, min(start + chunk, len(x)))
            assert library(rows).shape == rows.shape
            yield Chunk(
                rows,
                {form: y[rows] for form, y in values.items()},
                {form: y[rows] for form, y in network.items()},
                None if counts is None else counts[rows],
                None if measured is None else measured[rows],
            )

    return fit_pair(
        x,
        side,
        log_library,
        sample=lambda rows: {form: y[rows] for form, y in values.items()},
        stream=stream,
        held=held,
        n_features=next(iter(values.values())).shape[1],
    )


# ------------------------------------------------------------------------- kernel ridge


def test_without_a_kernel_it_is_ridge(inputs, rng):
    x, side = inputs
    y = rng.normal(size=(N, 3))
    features = KernelFeatures.fit(x, side, width=0.0)
    phi = features(x, side).astype(float)
    found = phi @ RidgeSolver(phi).coefficients(phi.T @ y, 2.0)
    expected = Ridge(alpha=2.0).fit(phi[:, :-1], y).predict(phi[:, :-1])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_with_all_cells_as_landmarks_it_is_kernel_ridge(inputs, rng):
    x, side = (each[:120] for each in inputs)
    y = np.sin(2 * x[:, :2]) + 0.1 * rng.normal(size=(120, 2))
    features = KernelFeatures.fit(x, side, width=1.0)
    phi = features(x, side).astype(float)
    slopes = phi[:, :-1] - phi[:, :-1].mean(axis=0)
    expected = KernelRidge(alpha=1.0, kernel="precomputed").fit(slopes @ slopes.T, y - y.mean(axis=0))
    expected = expected.predict(slopes @ slopes.T) + y.mean(axis=0)
    np.testing.assert_allclose(phi @ RidgeSolver(phi).coefficients(phi.T @ y, 1.0), expected, atol=1e-3)


def test_residuals_of_cells_left_out_are_those_of_fits_without_them(inputs, rng):
    x, side = (each[:30] for each in inputs)
    y = rng.normal(size=(30, 2))
    phi = KernelFeatures.fit(x, side, width=0.0)(x, side).astype(float)
    found = RidgeSolver(phi).left_out(y, 3.0)
    for i in (0, 7, 29):
        others = np.delete(np.arange(30), i)
        ridge = Ridge(alpha=3.0).fit(phi[others, :-1], y[others])
        np.testing.assert_allclose(found[i], y[i] - ridge.predict(phi[i : i + 1, :-1])[0], atol=1e-4)


def test_a_line_gets_no_kernel_and_a_curve_gets_one(inputs, rng):
    x, side = inputs
    noise = 0.3 * rng.normal(size=(N, 2))
    assert choose(x, side, x[:, :2] + noise)[0] == 0.0
    assert choose(x, side, 2 * np.abs(x[:, :2]) + noise)[0] > 0


# --------------------------------------------------------------------------- translators


def test_the_network_is_used_as_far_as_validation_pairs_say(inputs, rng):
    x, side = inputs
    truth = rng.normal(size=(N, 4)).astype(np.float32)
    noise = rng.normal(size=(N, 4)).astype(np.float32)
    values = {RAW: truth + 0.1 * noise}
    assert fit(x, side, values, {RAW: truth}).share[RAW] == 1.0
    assert fit(x, side, {RAW: x[:, :4] + 0.1 * noise}, {RAW: noise[::-1].copy()}).share[RAW] == 0.0


def test_a_network_on_another_scale_is_calibrated(inputs, rng):
    x, side = inputs
    truth = rng.normal(size=(N, 4)).astype(np.float32)
    pair = fit(x, side, {RAW: truth}, {RAW: 3 * truth + 5})
    found = pair.predict(RAW, pair.columns(x, side), 3 * truth + 5)
    assert np.sqrt(((found - truth) ** 2).mean()) < 0.1 * truth.std()


def test_a_translator_is_never_worse_than_ridge_on_validation_pairs(inputs, rng):
    x, side = inputs
    held = np.arange(N) >= N - N_HELD
    y = np.where(held[:, None], x[:, :3], np.abs(x[:, :3])).astype(np.float32)  # what training says does not hold
    y += 0.1 * rng.normal(size=y.shape).astype(np.float32)
    pair = fit(x, side, {RAW: y}, {RAW: np.zeros_like(y)})
    features = KernelFeatures.fit(x[~held], side[~held], width=0.0)
    best = min(
        ((features(x[held], side[held]) @ _ridge(features(x[~held], side[~held]), y[~held], p) - y[held]) ** 2).mean()
        for p in (0.1, 30.0)
    )
    found = pair.predict(RAW, pair.columns(x[held], side[held]), np.zeros_like(y[held]))
    assert ((found - y[held]) ** 2).mean() <= 1.05 * best


def _ridge(phi, y, penalty):
    return RidgeSolver(phi).coefficients(phi.T.astype(float) @ y, penalty)


def test_means_of_counts_are_right(inputs, rng):
    x, side = inputs
    counts = rng.poisson(np.exp(0.5 * x[:, :4] + 1.5)).astype(np.float32)
    values = {NORMALIZED: np.log1p(counts), LOG1P: np.log1p(counts)}
    library = np.log(counts.sum(axis=1).clip(1)).astype(np.float32)
    zeros = dict.fromkeys(values, np.zeros_like(counts))
    pair = fit(x, side, values, zeros, log_library=library, counts=counts)
    fitted, columns = slice(0, N - N_HELD), pair.columns(x, side)
    found = np.expm1(np.maximum(pair.predict(NORMALIZED, columns, zeros[NORMALIZED]), 0)) * pair.rate_factor
    np.testing.assert_allclose(found[fitted].mean(axis=0), counts[fitted].mean(axis=0), rtol=1e-4)
    totals = pair.library_factor * np.exp(pair.log_library(columns))
    np.testing.assert_allclose(totals[fitted].mean(), np.exp(library[fitted]).mean(), rtol=1e-4)
    assert np.corrcoef(np.log(totals), library)[0, 1] > 0.5


def test_features_that_were_not_measured_are_not_learned_from(inputs, rng):
    x, side = inputs
    y = (x[:, :3] + 0.1 * rng.normal(size=(N, 3))).astype(np.float32)
    measured = np.ones((N, 3), dtype=bool)
    measured[::2, 1] = False
    masked = np.where(measured, y, 0).astype(np.float32)
    pair = fit(x, side, {RAW: masked}, {RAW: np.zeros_like(y)}, measured=measured)
    found = pair.predict(RAW, pair.columns(x, side), np.zeros_like(y))
    assert np.sqrt(((found - y)[:, 1] ** 2).mean()) < 0.2


def test_chunks_change_nothing(inputs, rng):
    x, side = inputs
    y, network = (rng.normal(size=(N, 3)).astype(np.float32) for _ in range(2))
    one, two = (fit(x, side, {RAW: y + x[:, :3]}, {RAW: network}, chunk=size) for size in (37, N))
    np.testing.assert_allclose(one.coefficients[RAW], two.coefficients[RAW], atol=1e-4)
    assert one.share == two.share


def test_a_stored_translator_predicts_the_same(inputs, rng):
    x, side = inputs
    y = (np.abs(x[:, :3]) + 0.1 * rng.normal(size=(N, 3))).astype(np.float32)
    before, after = Translator(), Translator()
    before.pairs["a", "b"] = fit(x, side, {RAW: y}, {RAW: np.zeros_like(y)})
    after.load_state_dict(before.state_dict())
    expected, found = (each.pairs["a", "b"] for each in (before, after))
    np.testing.assert_array_equal(
        found.predict(RAW, found.columns(x, side), None), expected.predict(RAW, expected.columns(x, side), None)
    )
    assert found.describe(RAW) == expected.describe(RAW)
    assert after.sources(["a", "c"], "b") == ["a"]
    after.load_state_dict(Translator().state_dict())
    assert not after.pairs
    assert all(isinstance(value, torch.Tensor) for value in before.state_dict().values())
