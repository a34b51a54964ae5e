"""Pictures of gates show what was written."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _planted import factors, mosaic

from smalti import pl, select


@pytest.fixture
def mdata():
    mdata = mosaic(a=factors(200, 20), b=np.random.default_rng(0).standard_normal((200, 3)))
    select.dufs(mdata, "a", options={"n_steps": 40})
    return mdata


def test_the_path_and_the_widest_gates_are_drawn(mdata) -> None:
    figure = pl.gates(mdata, "a", n_top=7)
    path, top = figure.axes
    assert len(top.patches) == 7
    widest = mdata["a"].var["gate_prob"].sort_values(ascending=False)
    assert top.patches[-1].get_width() == pytest.approx(widest.iloc[0])
    assert path.lines[0].get_ydata()[0] == mdata["a"].uns["gates"]["path"]["n_a"].iloc[0]


def test_local_gates_are_drawn_by_category(mdata) -> None:
    rates = np.random.default_rng(0).random((50, 3))
    mdata["a"].varm["gate_by_type"] = pd.DataFrame(rates, mdata["a"].var_names, ["x", "y", "z"])
    figure = pl.gates(mdata, "a", groupby="type", n_top=5)
    image = figure.axes[2].images[0].get_array()
    assert image.shape == (5, 3)
    assert np.ptp(image[0]) == pytest.approx(np.ptp(rates, axis=1).max())
    with pytest.raises(KeyError, match="batch"):
        pl.gates(mdata, "a", groupby="batch")


def test_a_modality_without_gates_is_refused(mdata) -> None:
    with pytest.raises(KeyError, match="gate"):
        pl.gates(mdata, "b")
