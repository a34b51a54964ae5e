"""The dimension of a continuum is found from short charts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from smalti import simulate
from smalti._errors import NotFittedError
from smalti._mudata import build_mudata
from smalti.model import ManifoldWeights, OverlapManifold
from smalti.model.manifold import _dimension
from smalti.model.manifold._dimension import _chosen, _enough, choose_dimension

SCALE = 0.02


def curve(n_obs: int = 300, n_burst: int = 20, seed: int = 0):
    """A line of which two devices see parts, one as a bent curve in space, the other as one in the plane."""
    rng = np.random.default_rng(seed)
    t, modalities = rng.random(n_obs), {}
    lenses = {
        "space": lambda t: np.stack([np.cos(2.5 * t), np.sin(2.5 * t), t**2], axis=-1),
        "plane": lambda t: np.stack([np.exp(t), np.sin(3 * t) + t], axis=-1),
    }
    for (name, lens), here in zip(lenses.items(), (t < 0.6, t > 0.4), strict=True):
        at = np.flatnonzero(here)
        x = lens(t[at])
        var = pd.DataFrame(index=[f"{name}_{j}" for j in range(x.shape[1])])
        adata = AnnData(x.astype(np.float32), obs=pd.DataFrame(index=[f"state_{i}" for i in at]), var=var)
        adata.obsm["burst"] = lens(t[at][:, None] + SCALE * rng.normal(size=(len(at), n_burst))).astype(np.float32)
        modalities[name] = adata
    return build_mudata(modalities)


def build(mdata, **changes):
    OverlapManifold.setup_mudata(mdata)
    arguments = {"bursts": "given", "burst_key": "burst", "options": {"burst_scale": SCALE}}
    return OverlapManifold(mdata, **(arguments | changes))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [SCALE, None])
@pytest.mark.parametrize("d", [1, 2])
def test_a_curve_has_one_dimension_and_a_square_two(d, scale) -> None:
    mdata = curve() if d == 1 else simulate.overlap_charts(300, n_burst=20)
    model = build(mdata, n_latent="auto", options={"burst_scale": scale})
    assert model.n_latent == d
    assert model.module.n_latent == d


def test_what_was_tried_is_kept_and_the_network_is_that_of_the_dimension(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_dimension, "N_STEPS", 3)
    mdata = simulate.overlap_charts(80, n_burst=6)
    model = build(mdata, n_latent="auto")
    table = model.dimension_table()
    assert table["n_latent"].tolist() == list(range(1, len(table) + 1))
    assert table["chosen"].sum() == 1
    same = build(mdata, n_latent=model.n_latent)
    for name, value in same.module.state_dict().items():
        np.testing.assert_array_equal(model.module.state_dict()[name], value, err_msg=name)
    model.train(1, progress=False, accelerator="cpu")
    model.save(tmp_path / "m")
    loaded = OverlapManifold.load(tmp_path / "m", mdata)
    pd.testing.assert_frame_equal(loaded.dimension_table(), table)
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-6)
    with pytest.raises(NotFittedError, match="n_latent='auto'"):
        same.dimension_table()


def test_the_dimension_cannot_be_found_without_the_white_term() -> None:
    with pytest.raises(ValueError, match="Without a white term"):
        build(simulate.overlap_charts(60, n_burst=6), n_latent="auto", weights=ManifoldWeights(white=0))


@pytest.mark.parametrize(
    ("rows", "found", "said"),
    [
        ([(1, 0.1, 0.40), (2, 0.1, 0.02), (3, 0.8, 0.01)], 2, ""),  # a third has no burst
        ([(1, 0.1, 0.40), (2, 0.1, 0.02), (3, 0.2, 0.015)], 2, ""),  # a third explains less than a hundredth
        ([(1, 0.1, 0.40), (2, 0.1, 0.385)], 1, ""),  # a second explains a twentieth of what is left
        ([(d, 0.1, 0.5 / d) for d in range(1, 6)], 5, "may have more"),
        ([(d, 0.9, 0.5 / d) for d in range(1, 6)], 1, "in no dimension"),
    ],
)
def test_the_smallest_dimension_is_taken_that_keeps_distances_and_lacks_nothing(rows, found, said, caplog) -> None:
    assert _chosen(rows) == found
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)
    assert _enough(*rows[-2:]) == (not said)


def test_dimensions_are_tried_until_one_is_enough(monkeypatch) -> None:
    judged = {1: (0.1, 0.4), 2: (0.1, 0.02), 3: (0.9, 0.01)}
    monkeypatch.setattr(_dimension, "N_STEPS", 1)
    monkeypatch.setattr(_dimension, "_judge", lambda module, cells: judged[module.n_latent])
    model = build(simulate.overlap_charts(60, n_burst=6))
    model.train(1, progress=False, accelerator="cpu")
    d, table = choose_dimension(lambda d: model._network(model.sizes_, d), model.module.bursts)
    assert (d, len(table)) == (2, 3)
