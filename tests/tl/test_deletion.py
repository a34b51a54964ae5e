from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm


@pytest.fixture(scope="module")
def fitted():
    """Sixty features of which only the first half has signal: the others are counts of noise."""
    mdata = make_mosaic(pattern="paired", n_obs=300, n_features={"a": 60, "b": 30}, seed=1)
    noise = np.random.default_rng(0).poisson(3, (300, 30))
    x = mdata["a"].X.toarray()
    x[:, 30:] = noise
    mdata["a"].X = x
    sm.model.CLUE.setup_mudata(mdata, modalities=["a", "b"])
    model = sm.model.CLUE(mdata, n_latent=4, n_hidden=16)
    model.train(5, progress=False, train_size=0.7)
    return model


def test_deleting_what_carries_the_signal_costs_more_than_deleting_noise(fitted) -> None:
    names = fitted.adata.mod["a"].var_names
    found = sm.tl.deletion_test(fitted, "a", features=names[:25].tolist(), n_draws=4)
    assert found.matters
    assert found.intact < 0.35
    assert found.deleted > found.intact + 0.05
    assert found.random.max() < found.deleted
    assert "without as many others" in repr(found)
    noise = sm.tl.deletion_test(fitted, "a", features=names[35:55].tolist(), n_draws=4)
    assert not noise.matters


def test_what_cannot_be_tested_is_refused(fitted) -> None:
    names = fitted.adata.mod["a"].var_names.tolist()
    with pytest.raises(ValueError, match="as many others"):
        sm.tl.deletion_test(fitted, "a", features=names)
    with pytest.raises(KeyError, match="nothing"):
        sm.tl.deletion_test(fitted, "a", features=["nothing"])
    small = make_mosaic(pattern="paired", n_obs=60, n_features={"a": 20, "b": 12})
    sm.model.CLUE.setup_mudata(small, modalities=["a", "b"])
    model = sm.model.CLUE(small, n_latent=4, n_hidden=16)
    model.train(1, progress=False)
    with pytest.raises(ValueError, match="held out"):
        sm.tl.deletion_test(model, "a", features=["a_1", "a_2"] if "a_1" in names else names[:2])
