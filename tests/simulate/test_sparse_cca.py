from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from smalti.simulate import sparse_cca

SHAPES = ("identity", "toeplitz", "precision")


def truth(mdata, what="canonical"):
    return [mdata[name].varm[what] for name in mdata.mod]


def values(mdata):
    return [np.asarray(mdata[name].X, dtype=float) for name in mdata.mod]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_covariance_between_modalities_is_that_of_the_model(shape):
    mdata = sparse_cca(200_000, n_features=(12, 9), n_active=3, correlations=0.8, covariance=shape)
    x, y = values(mdata)
    load_x, load_y = truth(mdata, "canonical_loading")
    # Four standard errors of a covariance of 200,000 cells with unit variances.
    np.testing.assert_allclose(x.T @ y / len(x), 0.8 * load_x @ load_y.T, atol=4 / np.sqrt(len(x)))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_modality_has_the_covariance_that_was_asked_for(shape):
    mdata = sparse_cca(200_000, n_features=(10, 10), n_active=2, correlations=0.9, covariance=shape)
    if shape == "identity":
        expected = np.eye(10)
    elif shape == "toeplitz":
        expected = 0.3 ** np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    else:
        omega = np.eye(10) + 0.5 * (np.eye(10, k=1) + np.eye(10, k=-1)) + 0.4 * (np.eye(10, k=2) + np.eye(10, k=-2))
        inverse = np.linalg.inv(omega)
        expected = inverse / np.sqrt(np.outer(np.diag(inverse), np.diag(inverse)))
    for x in values(mdata):
        np.testing.assert_allclose(x.T @ x / len(x), expected, atol=0.015)


@pytest.mark.parametrize("shape", SHAPES)
def test_classical_cca_of_many_cells_finds_the_vectors_and_the_correlations(shape):
    rho = [0.9, 0.6]
    mdata = sparse_cca(100_000, n_features=(14, 10), n_active=2, correlations=rho, covariance=shape, random_state=3)
    x, y = values(mdata)
    whiten = [np.linalg.inv(np.linalg.cholesky(z.T @ z / len(z))) for z in (x, y)]
    u, s, vt = np.linalg.svd(whiten[0] @ (x.T @ y / len(x)) @ whiten[1].T)
    np.testing.assert_allclose(s[:2], rho, atol=0.01)
    assert s[2] < 0.03
    for found, vectors in ((whiten[0].T @ u[:, :2], truth(mdata)[0]), (whiten[1].T @ vt[:2].T, truth(mdata)[1])):
        cosine = np.abs((found * vectors).sum(0)) / np.linalg.norm(found, axis=0) / np.linalg.norm(vectors, axis=0)
        assert (cosine > 0.995).all()


def test_entries_are_one_over_the_root_of_their_number():
    vectors = truth(sparse_cca(5, n_features=(50, 40), n_active={"x": 4, "y": 9}))
    for vector, k in zip(vectors, (4, 9), strict=True):
        assert (vector != 0).sum() == k
        np.testing.assert_allclose(vector[vector != 0], 1 / np.sqrt(k))


def test_canonical_variables_are_those_of_the_values():
    mdata = sparse_cca(50, n_features=(20, 30), correlations=[0.9, 0.5], covariance="toeplitz")
    for name in mdata.mod:
        adata = mdata[name]
        np.testing.assert_allclose(adata.X @ adata.varm["canonical"], adata.obsm["canonical"], atol=1e-5)


def test_components_have_no_feature_in_common():
    for vectors in truth(sparse_cca(5, n_features=(40, 40), n_active=5, correlations=[0.9, 0.8, 0.7])):
        assert ((vectors != 0).sum(axis=1) <= 1).all()


def test_the_truth_does_not_depend_on_the_number_of_cells_and_rows_are_drawn_in_order():
    few, many = sparse_cca(10), sparse_cca(25)
    for a, b in zip(truth(few), truth(many), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(truth(sparse_cca(10, random_state=1))[0], truth(few)[0])


def test_nonlinear_values_are_those_functions_of_the_gaussian_ones():
    plain = sparse_cca(30)["x"].X
    np.testing.assert_allclose(sparse_cca(30, observed="sine")["x"].X, plain + 0.5 * np.sin(2 * plain), atol=1e-5)
    power = sparse_cca(30, observed={"x": "power", "y": "gaussian"})
    np.testing.assert_allclose(power["x"].X, np.sign(plain) * np.abs(plain) ** 1.5, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(power["y"].X, sparse_cca(30)["y"].X)


def test_counts_have_the_depth_and_rise_with_the_gaussian_value():
    mdata = sparse_cca(2000, n_features=(60, 60), observed="poisson", depth=500.0)
    x = mdata["x"].X
    assert sp.issparse(x)
    assert (x.data == np.round(x.data)).all()
    assert 440 < x.sum() / 2000 < 560
    hidden = sparse_cca(2000, n_features=(60, 60))["x"].X
    often = np.asarray(x.mean(0)).ravel() > 5
    slope = [np.corrcoef(np.log1p(x[:, [j]].toarray().ravel()), hidden[:, j])[0, 1] for j in np.flatnonzero(often)]
    assert min(slope) > 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": (10, 10, 10)}, "two modalities"),
        ({"n_features": (10, 10), "n_active": 11}, "at most 10"),
        ({"n_features": (10, 10), "n_active": 4, "correlations": [0.9, 0.8, 0.7]}, "at most 3"),
        ({"correlations": [0.5, 0.9]}, "not to increase"),
        ({"correlations": 1.2}, "correlations"),
        ({"covariance": "diagonal"}, "covariance"),
        ({"observed": "binary"}, "observed"),
    ],
)
def test_what_cannot_be_simulated_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparse_cca(10, **arguments)
