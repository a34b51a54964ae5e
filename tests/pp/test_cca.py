from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA as SklearnCCA

from smalti._errors import NotFittedError
from smalti.pp import LinearCCA
from smalti.pp._gram import canonical_axes, check_inputs, grams, paired_cells, stacked


def planted(rng, n=600, sizes=None, n_shared=3, noise=1.0):
    """Views of shared factors of falling strength, plus noise."""
    sizes = sizes or {"a": 8, "b": 6}
    factors = rng.normal(size=(n, n_shared)) * np.linspace(2, 1, n_shared)
    return {m: factors @ rng.normal(size=(n_shared, k)) + noise * rng.normal(size=(n, k)) for m, k in sizes.items()}


def paired_maps(inputs):
    return {m: np.arange(len(z)) for m, z in inputs.items()}


def closed_form(x, y, ridge):
    """Ridge CCA of two views from its textbook eigenproblem."""
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)
    cxx, cyy, cxy = x.T @ x / n, y.T @ y / n, x.T @ y / n
    cxx = cxx + ridge * np.trace(cxx) / len(cxx) * np.eye(len(cxx))
    cyy = cyy + ridge * np.trace(cyy) / len(cyy) * np.eye(len(cyy))
    values, w = np.linalg.eig(np.linalg.solve(cxx, cxy) @ np.linalg.solve(cyy, cxy.T))
    order = np.argsort(-values.real)
    w = w[:, order].real
    return w / np.sqrt(np.einsum("ik,ij,jk->k", w, cxx, w)), np.sqrt(np.clip(values.real[order], 0, None))


def up_to_sign(a, b):
    return a * np.sign(np.sum(a * b, axis=0))


@pytest.mark.parametrize("ridge", [0.0, 0.01, 0.5])
def test_two_modalities_give_textbook_ridge_cca(ridge, rng):
    inputs = planted(rng)
    cca = LinearCCA(ridge=ridge).fit(inputs, paired_maps(inputs))
    w, rho = closed_form(inputs["a"], inputs["b"], ridge)
    np.testing.assert_allclose(cca.fitted_correlations, rho[:6], atol=1e-8)
    np.testing.assert_allclose(up_to_sign(cca.axes["a"], w[:, :6]), w[:, :6], atol=1e-6)


def test_two_modalities_without_ridge_agree_with_scikit_learn(rng):
    inputs = planted(rng)
    cca = LinearCCA(3, ridge=0.0).fit(inputs, paired_maps(inputs))
    x, y = SklearnCCA(3, max_iter=5000, tol=1e-12).fit_transform(inputs["a"], inputs["b"])
    for name, expected in (("a", x), ("b", y)):
        z = (inputs[name] - cca.means[name]) @ cca.axes[name]
        found = np.abs(np.diag(np.corrcoef(z.T, expected.T)[:3, 3:]))
        np.testing.assert_allclose(found, 1, atol=1e-4)


def test_axes_have_unit_regularised_variance_and_are_uncorrelated(rng):
    inputs = planted(rng)
    cca = LinearCCA(ridge=0.0).fit(inputs, paired_maps(inputs))
    for name, z in inputs.items():
        np.testing.assert_allclose(np.cov((z @ cca.axes[name]).T, bias=True), np.eye(6), atol=1e-8)


def test_three_modalities_solve_the_generalised_eigenproblem(rng):
    inputs = planted(rng, sizes={"a": 5, "b": 4, "c": 6})
    cca = LinearCCA(ridge=0.0).fit(inputs, paired_maps(inputs))
    z = np.hstack([x - x.mean(0) for x in inputs.values()])
    c = z.T @ z / len(z)
    d = np.zeros_like(c)
    for start, stop in ((0, 5), (5, 9), (9, 15)):
        d[start:stop, start:stop] = c[start:stop, start:stop]
    w = np.vstack([cca.axes[m] for m in inputs])
    np.testing.assert_allclose(c @ w, d @ w * (1 + 2 * cca.fitted_correlations), atol=1e-7)


def test_the_cells_without_a_partner_do_not_move_the_axes(rng):
    inputs = planted(rng)
    maps = {"a": np.r_[np.arange(600), np.full(50, -1)], "b": np.r_[np.arange(600), np.arange(600, 650)]}
    more = {"a": inputs["a"], "b": np.vstack([inputs["b"], rng.normal(size=(50, 6)) * 100])}
    alone = LinearCCA().fit(inputs, paired_maps(inputs))
    mosaic = LinearCCA().fit(more, maps)
    for name in inputs:
        np.testing.assert_allclose(mosaic.axes[name], alone.axes[name])
    assert mosaic.transform(more)["b"].shape == (650, 6)
    np.testing.assert_array_equal(mosaic.transform(more)["b"][:600], alone.transform(inputs)["b"])


def test_results_follow_row_maps_and_not_positions(rng):
    inputs = planted(rng)
    maps = paired_maps(inputs)
    expected = LinearCCA().fit(inputs, maps).joint(inputs, maps)
    order = rng.permutation(600)
    shuffled, shuffled_maps = {**inputs, "b": inputs["b"][order]}, {**maps, "b": np.argsort(order)}
    found = LinearCCA().fit(shuffled, shuffled_maps).joint(shuffled, shuffled_maps)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_joint_is_the_mean_over_present_modalities(rng):
    inputs = planted(rng, n=60)
    maps = {"a": np.r_[np.arange(50), np.full(10, -1), -1], "b": np.r_[np.arange(40), np.full(10, -1), 40:50, -1]}
    cca = LinearCCA().fit(inputs, maps)
    z, joint = cca.transform(inputs), cca.joint(inputs, maps)
    np.testing.assert_allclose(joint[:40], (z["a"][:40] + z["b"][:40]) / 2, atol=1e-6)
    np.testing.assert_allclose(joint[40:50], z["a"][40:50], atol=1e-6)
    np.testing.assert_allclose(joint[50:60], z["b"][40:50], atol=1e-6)
    assert np.isnan(joint[60]).all()


def test_a_chain_of_pairs_aligns_modalities_that_are_never_measured_together(rng):
    inputs = planted(rng, n=1200, sizes={"a": 6, "b": 7, "c": 5}, noise=0.3)
    rows = np.arange(1200)
    maps = {
        "a": np.where(rows < 500, rows, -1),
        "b": np.where(rows < 1000, rows, -1),
        "c": np.where(rows >= 500, rows, -1),
    }
    z = LinearCCA(3).fit(inputs, maps).transform(inputs)
    held = rows >= 1000  # neither pair was seen
    unit = {m: v[held] / np.linalg.norm(v[held], axis=1, keepdims=True) for m, v in z.items()}
    similarity = unit["a"] @ unit["c"].T
    assert (similarity > np.diag(similarity)[:, None]).mean() < 0.05


def test_a_pair_without_cells_is_completed_as_if_independent_given_the_others(rng):
    inputs = planted(rng, n=900, sizes={"a": 4, "b": 4, "c": 4})
    rows = np.arange(900)
    maps = {"a": np.where(rows < 450, rows, -1), "b": rows, "c": np.where(rows >= 450, rows, -1)}
    arrays, checked = check_inputs(inputs, maps)
    cells = paired_cells(checked)
    (gram,) = grams(arrays, stacked(arrays, checked, cells), [np.arange(len(cells))])
    _, found = canonical_axes(gram, 0.0, 12)

    def whiten(c):
        values, vectors = np.linalg.eigh(c)
        return vectors / np.sqrt(values) @ vectors.T

    a, b, c = (inputs[m][maps[m] >= 0] for m in "abc")
    wa, wb, wc = (whiten(np.cov(x.T, bias=True)) for x in (a, b, c))
    kab = wa @ np.cov(a.T, b[:450].T, bias=True)[:4, 4:] @ wb
    kbc = wb @ np.cov(b[450:].T, c.T, bias=True)[:4, 4:] @ wc
    eye = np.eye(4)
    whole = np.block([[eye, kab, kab @ kbc], [kab.T, eye, kbc], [(kab @ kbc).T, kbc.T, eye]])
    np.testing.assert_allclose(found, (np.linalg.eigvalsh(whole)[::-1] - 1) / 2, atol=1e-8)


def test_axes_are_scaled_by_the_correlation_they_keep_on_held_out_cells(rng):
    inputs = planted(rng, n=120, sizes={"a": 30, "b": 30}, n_shared=2, noise=0.5)
    cca = LinearCCA().fit(inputs, paired_maps(inputs))
    assert cca.fitted_correlations[5] > 0.5  # noise that was fitted
    assert cca.correlations[:2].min() > 0.7
    assert cca.correlations[5:].max() < 0.2
    assert (np.diff(cca.correlations) <= 0).all()
    z = (inputs["a"] - cca.means["a"]) @ cca.axes["a"]
    np.testing.assert_allclose(cca.transform(inputs)["a"], z * cca.correlations, rtol=1e-4, atol=1e-5)
    fresh = planted(np.random.default_rng(0), n=120, sizes={"a": 30, "b": 30}, n_shared=2, noise=0.5)
    assert np.array_equal(fresh["a"], inputs["a"])


def test_held_out_correlations_are_those_of_new_cells(rng):
    whole = planted(rng, n=20_300, sizes={"a": 10, "b": 10}, n_shared=4, noise=3.0)
    train, new = ({m: z[part] for m, z in whole.items()} for part in (slice(300), slice(300, None)))
    cca = LinearCCA().fit(train, paired_maps(train))
    z = {m: (x - cca.means[m]) @ cca.axes[m] for m, x in new.items()}
    true = np.array([np.corrcoef(z["a"][:, k], z["b"][:, k])[0, 1] for k in range(10)])
    np.testing.assert_allclose(cca.correlations[:3], true[:3], atol=0.12)
    assert np.abs(cca.correlations - true).mean() < np.abs(cca.fitted_correlations - true).mean() / 2


def test_modalities_without_relation_stay_finite_and_uncorrelated(rng):
    n = 200
    inputs = {"a": rng.normal(size=(n, 3)), "b": rng.normal(size=(n, 3))}
    cca = LinearCCA().fit(inputs, paired_maps(inputs))
    assert cca.correlations.max() < 0.25
    assert np.isfinite(cca.joint(inputs, paired_maps(inputs))).all()


def test_few_pairs_are_scaled_as_fitted_with_a_warning(rng, caplog):
    inputs = planted(rng, n=15)
    cca = LinearCCA().fit(inputs, paired_maps(inputs))
    assert "15 paired cells are too few to hold some out" in caplog.text
    np.testing.assert_allclose(cca.correlations, np.clip(cca.fitted_correlations, 0, 1))


def test_constant_components_do_no_harm(rng):
    inputs = planted(rng)
    inputs["a"][:, 3] = 5.0
    inputs["b"] = np.hstack([inputs["b"], inputs["b"][:, :1]])
    for ridge in (0.0, 0.01):
        z = LinearCCA(ridge=ridge).fit(inputs, paired_maps(inputs)).transform(inputs)
        assert all(np.isfinite(v).all() and np.abs(v).max() < 20 for v in z.values())


def test_state_round_trip(rng):
    inputs = planted(rng)
    cca = LinearCCA(4).fit(inputs, paired_maps(inputs))
    copy = LinearCCA.from_state(cca.state())
    np.testing.assert_array_equal(copy.transform(inputs)["a"], cca.transform(inputs)["a"])
    assert repr(copy) == repr(cca)


def test_modalities_that_no_cell_links_are_named(rng):
    inputs = planted(rng, n=40, sizes={"a": 3, "b": 3, "c": 3, "d": 3})
    rows = np.arange(40)
    maps = {m: np.where(rows < 20, rows, -1) for m in "ab"} | {m: np.where(rows >= 20, rows, -1) for m in "cd"}
    with pytest.raises(ValueError, match="No cells link 'c', 'd' to 'a', 'b'"):
        LinearCCA().fit(inputs, maps)


def test_bad_input_is_refused(rng):
    inputs = planted(rng, n=40)
    maps = paired_maps(inputs)
    with pytest.raises(NotFittedError, match="was not fitted"):
        LinearCCA().transform(inputs)
    with pytest.raises(ValueError, match="at least two modalities, found 'a'"):
        LinearCCA().fit({"a": inputs["a"]}, maps)
    with pytest.raises(KeyError, match="Row map of modality: 'b' not found"):
        LinearCCA().fit(inputs, {"a": maps["a"]})
    with pytest.raises(ValueError, match="Row map of modality 'b' does not fit"):
        LinearCCA().fit({**inputs, "b": inputs["b"][:30]}, maps)
    with pytest.raises(ValueError, match="finite components .* of modality 'a'"):
        LinearCCA().fit({**inputs, "a": np.full((40, 3), np.nan)}, maps)
    with pytest.raises(ValueError, match="`ridge` to be a finite number >= 0"):
        LinearCCA(ridge=-1)
    fitted = LinearCCA().fit(inputs, maps)
    with pytest.raises(ValueError, match="Expected 8 components of modality 'a'"):
        fitted.transform({"a": inputs["a"][:, :5]})
