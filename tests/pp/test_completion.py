from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from smalti._errors import NotFittedError
from smalti.pp import Completion


def planted(rng, n=400, names=("a", "b")):
    shared = rng.normal(size=(n, 3))
    return {m: (shared @ rng.normal(size=(3, 5)) + 0.3 * rng.normal(size=(n, 5))).astype(np.float32) for m in names}


def test_two_modalities_agree_with_ridge_regression(rng):
    x = planted(rng)
    maps = {"a": np.arange(400), "b": np.where(np.arange(400) < 300, np.arange(400), -1)}
    found = Completion(ridge=0.01).fit(x, maps).transform(x, maps)["b"][300:]
    a, b = x["a"][:300].astype(float), x["b"][:300]
    alpha = 0.01 * a.var(axis=0).sum() / 5 * 300
    np.testing.assert_allclose(found, Ridge(alpha=alpha).fit(a, b).predict(x["a"][300:]), atol=1e-3)


def test_measured_values_stay_as_they_are(rng):
    x = planted(rng)
    maps = {"a": np.arange(400), "b": np.where(np.arange(400) < 300, np.arange(400), -1)}
    found = Completion().fit(x, maps).transform(x, maps)
    np.testing.assert_array_equal(found["a"], x["a"])
    np.testing.assert_array_equal(found["b"][:300], x["b"][:300])


def test_a_pattern_that_no_training_cell_has_is_completed_from_all_it_has(rng):
    x = planted(rng, names=("a", "b", "c"))
    n = np.arange(400)
    maps = {"a": np.where(n < 300, n, -1), "b": np.where((n < 150) | (n >= 300), n, -1), "c": np.where(n >= 150, n, -1)}
    completion = Completion().fit(x, maps)
    new = {"a": x["a"][:50], "b": x["b"][:50]}
    both = completion.transform(new, {m: np.arange(50) for m in new})["c"]
    one = completion.transform({"a": new["a"]}, {"a": np.arange(50)})["c"]
    truth = x["c"][:50]
    assert ((both - truth) ** 2).mean() < ((one - truth) ** 2).mean() < ((truth - truth.mean(0)) ** 2).mean()


def test_without_common_cells_the_mean_is_filled_in(rng):
    x = planted(rng)
    n = np.arange(400)
    maps = {"a": np.where(n < 200, n, -1), "b": np.where(n >= 200, n, -1)}
    found = Completion().fit(x, maps).transform(x, maps)["b"][:200]
    np.testing.assert_allclose(found, np.tile(x["b"][200:].mean(0), (200, 1)), atol=1e-4)


def test_a_cell_without_any_modality_is_nan(rng):
    x = planted(rng)
    maps = {m: np.r_[np.arange(399), -1] for m in x}
    found = Completion().fit(x, maps).transform(x, maps)
    assert all(np.isnan(z[-1]).all() and np.isfinite(z[:-1]).all() for z in found.values())


def test_the_state_is_the_whole_object_and_is_needed(rng):
    x = planted(rng)
    maps = {"a": np.arange(400), "b": np.where(np.arange(400) < 300, np.arange(400), -1)}
    completion = Completion().fit(x, maps)
    again = Completion.from_state(completion.state())
    np.testing.assert_array_equal(again.transform(x, maps)["b"], completion.transform(x, maps)["b"])
    with pytest.raises(NotFittedError):
        Completion().transform(x, maps)
    with pytest.raises(NotFittedError):
        Completion().state()
