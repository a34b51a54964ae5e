from __future__ import annotations

import numpy as np
import pytest
import torch

from smalti._errors import NotFittedError
from smalti.model.parts import JointReadout


@pytest.fixture
def mosaic(rng):
    shared = rng.normal(size=(300, 3))
    inputs = {m: (shared @ rng.normal(size=(3, 8)) + rng.normal(size=(300, 8))).astype(np.float32) for m in ("a", "b")}
    maps = {
        "a": np.where(np.arange(300) < 250, np.arange(300), -1),
        "b": np.where(np.arange(300) > 49, np.arange(300), -1),
    }
    return inputs, maps, np.where(np.arange(300) % 2, "x", "y")


def test_it_travels_as_weights_and_gives_the_same_latent(mosaic):
    inputs, maps, batch = mosaic
    first, second = JointReadout(), JointReadout()
    first.fit(inputs, maps, batch)
    state = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    second.load_state_dict({key: value.clone() for key, value in state.items()})
    np.testing.assert_array_equal(second.transform(inputs, maps, batch), first.transform(inputs, maps, batch))


def test_before_the_fit_it_has_no_state_and_says_so(mosaic):
    readout = JointReadout()
    assert not readout.ready
    assert not readout.state_dict()
    with pytest.raises(NotFittedError, match="no joint latent before `train`"):
        readout.transform(*mosaic)
    fitted = JointReadout()
    fitted.fit(*mosaic)
    fitted.load_state_dict(readout.state_dict())
    assert not fitted.ready


def test_wide_inputs_enter_by_their_leading_components(rng):
    wide = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 400)) + rng.normal(size=(200, 400))
    inputs, maps = {"a": wide.astype(np.float32)}, {"a": np.arange(200)}
    readout = JointReadout()
    readout.fit(inputs, maps, np.full(200, "x"))
    assert readout.transform(inputs, maps, np.full(200, "x")).shape[1] <= 30


def test_cells_without_any_input_are_left_out_of_the_fit_and_have_no_latent(mosaic):
    inputs, maps, batch = mosaic
    maps = {name: np.where(np.arange(300) < 10, -1, rows) for name, rows in maps.items()}
    readout = JointReadout()
    readout.fit(inputs, maps, batch)
    z = readout.transform(inputs, maps, batch)
    assert np.isnan(z[:10]).all()
    assert np.isfinite(z[10:]).all()


def test_without_mixing_batches_stay_where_they_lie(mosaic):
    inputs, maps, batch = mosaic
    moved = {name: x + 2 * (batch == "x")[:, None].astype(np.float32) for name, x in inputs.items()}
    readout = JointReadout()
    readout.fit(moved, maps, batch)
    z, plain = (readout.transform(moved, maps, batch, mix=mix) for mix in (True, False))

    def apart(values):
        gap = values[batch == "x"].mean(0) - values[batch == "y"].mean(0)
        return float(np.linalg.norm(gap) / values.std())

    assert apart(z) < 0.5 * apart(plain)
