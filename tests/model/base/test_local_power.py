"""What local gates are worth: planted tables in which the answer is known, and a model."""

from __future__ import annotations

import numpy as np
import pytest
from _clue import build_clue, train
from _factories import make_mosaic

from smalti.model.base._local_power import local_power, power_sentence


def planted(n: int = 600, d: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Four groups, each told by two features of its own."""
    rng = np.random.default_rng(0)
    group = rng.integers(4, size=n)
    x = rng.standard_normal((n, d))
    for g in range(4):
        x[:, 2 * g : 2 * g + 2] += 2.5 * (group == g)[:, None]
    return x, group


def test_local_features_of_each_group_beat_as_many_shared_ones_and_random_ones() -> None:
    x, group = planted()
    gates = np.zeros_like(x)
    for g in range(4):
        gates[group == g, 2 * g : 2 * g + 2] = 1
    table = local_power(x, gates, group.astype(str))
    score = table["score"]
    assert score["local"] > score["global"] > score["random"]
    assert score["pattern"] == pytest.approx(1.0), "gates that name the group do so without values, and it is shown"
    assert table.loc["local", "n_features"] == 2
    assert "pattern of open gates alone 1.00" in power_sentence("a", table, "the type")


def test_gates_that_are_the_same_for_all_cells_have_no_pattern_and_equal_the_shared_ones() -> None:
    x, group = planted()
    gates = np.zeros_like(x)
    gates[:, :8] = 1
    score = local_power(x, gates, group)["score"]
    assert score["local"] == pytest.approx(score["global"])
    assert score["pattern"] == pytest.approx(0.25, abs=0.01)
    coordinates = local_power(x, gates, x[:, :2])["score"]
    assert coordinates["global"] > 0.95 > coordinates["random"]
    assert coordinates["pattern"] < 0.05


def test_a_model_reports_it_beside_its_local_gates_only() -> None:
    mdata = make_mosaic(n_obs=96)
    model = train(
        build_clue(mdata, {"a": {"encoder_input": "pca", "gate": "global"}, "b": None, "c": {"gate": "local"}})
    )
    model.write_gates(groupby="label")
    table = mdata["c"].uns["gates"]["local_power"]
    assert list(table.index) == ["local", "global", "random", "pattern"]
    assert table["score"].iloc[:3].between(0, 1).all()
    assert "local_power" not in mdata["a"].uns["gates"]
    assert list(model.local_gate_power("c").columns) == ["n_features", "score"]
    with pytest.raises(ValueError, match="same for all cells"):
        model.local_gate_power("a")
    with pytest.raises(KeyError, match="nothing"):
        model.local_gate_power("c", groupby="nothing")
