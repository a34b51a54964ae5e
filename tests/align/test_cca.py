"""Correlation under a plan: classical under the true one, high under any, in a common latent for three."""

from __future__ import annotations

import numpy as np
from align._planted import planted
from sklearn.cross_decomposition import CCA

from smalti.align import SoftCCA, make_view
from smalti.metrics import foscttm


def test_under_the_true_pairs_it_is_canonical_correlation_analysis():
    data = planted()
    views = {name: make_view(x) for name, x in zip("ab", data.components, strict=True)}
    found = SoftCCA.fit(views, {("a", "b"): np.eye(240) / 240}, n_latent=3, ridge=1e-8)
    u, v = CCA(3, max_iter=5000, tol=1e-12).fit_transform(*data.components)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(found.correlations, expected, atol=1e-4)
    latents = found.transform(dict(zip("ab", data.components, strict=True)))
    assert foscttm(latents["a"], latents["b"]) < 0.05


def test_the_correlation_is_high_under_a_wrong_plan_too_so_it_is_no_evidence():
    data = planted(60, seed=1)
    views = {name: make_view(x) for name, x in zip("ab", data.components, strict=True)}
    wrong = np.eye(60)[np.random.default_rng(0).permutation(60)] / 60
    assert SoftCCA.fit(views, {("a", "b"): wrong}, n_latent=3, ridge=1e-8).correlations[0] > 0.5


def test_latents_of_landmarks_are_those_of_their_cells():
    data = planted()
    views = {name: make_view(x) for name, x in zip("ab", data.components, strict=True)}
    found = SoftCCA.fit(views, {("a", "b"): np.eye(240) / 240}, n_latent=4)
    for name, x in zip("ab", data.components, strict=True):
        np.testing.assert_allclose(found.at_landmarks(views[name], name), found.transform({name: x})[name], atol=1e-10)


def test_columns_of_constant_components_are_ignored():
    data = planted()
    x = np.column_stack([data.components[0], np.ones(240)])
    views = {"a": make_view(x), "b": make_view(data.components[1])}
    found = SoftCCA.fit(views, {("a", "b"): np.eye(240) / 240}, n_latent=3)
    assert np.isfinite(found.axes["a"]).all()
    assert not found.axes["a"][-1].any()


def test_two_modalities_that_share_a_third_one_meet_in_a_common_latent():
    data = planted(n_modalities=3)
    views = {name: make_view(x) for name, x in zip("abc", data.components, strict=True)}
    eye = np.eye(240) / 240
    found = SoftCCA.fit(views, {("a", "b"): eye, ("b", "c"): eye}, n_latent=4)
    z = found.transform(dict(zip("abc", data.components, strict=True)))
    assert foscttm(z["a"], z["c"]) < 0.05
