from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.metrics import nearest_neighbors
from smalti.tl._stability import HELD_OUT, _graph, neighbour_agreement


@pytest.fixture(scope="module")
def mdata():
    mdata = make_mosaic(pattern="mosaic", n_obs=160, n_features={"a": 25, "b": 12})
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    return mdata


@pytest.fixture(scope="module")
def found(mdata):
    return sm.tl.stability(
        sm.model.CLUE, mdata, 3, batch_key="batch", labels_key="label", train_kwargs={"max_epochs": 3}
    )


def test_agreement_is_the_overlap_of_lists_of_neighbours() -> None:
    rng = np.random.default_rng(0)
    latents = [rng.normal(size=(40, 3)) for _ in range(3)]
    lists = [nearest_neighbors(z, k=5).indices for z in latents]
    by_hand = [
        np.mean([len(set(lists[a][i]) & set(lists[b][i])) / 5 for a, b in combinations(range(3), 2)]) for i in range(40)
    ]
    np.testing.assert_allclose(neighbour_agreement([_graph(z, 5) for z in latents], 5), by_hand)


def test_a_rotation_keeps_all_neighbours_and_unrelated_latents_keep_the_share_of_chance() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 4))
    turned = z @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    np.testing.assert_allclose(neighbour_agreement([_graph(z, 10), _graph(turned, 10)], 10), 1)
    other = neighbour_agreement([_graph(z, 10), _graph(rng.normal(size=z.shape), 10)], 10)
    assert other.mean() == pytest.approx(10 / 399, abs=0.01)


def test_cells_without_a_latent_are_nobodys_neighbours() -> None:
    z = np.random.default_rng(0).normal(size=(30, 2))
    z[3] = np.nan
    graph = _graph(z, 5)
    assert graph[3].nnz == 0
    assert graph[:, [3]].nnz == 0


def test_every_score_and_every_cell_has_its_spread(mdata, found) -> None:
    assert found.seeds == (0, 1, 2)
    assert {"bio", "batch", "presence", "total"} <= set(found.scores)
    assert found.scores.notna().all(axis=None)
    assert list(found.neighbourhood) == ["joint", "aligned"]
    assert found.neighbourhood.index.equals(mdata.obs_names)
    assert found.neighbourhood.min(axis=None) >= 0
    assert found.neighbourhood.max(axis=None) <= 1
    spread = found.spread
    np.testing.assert_allclose(spread.loc["bio", "sd"], np.std(found.scores["bio"], ddof=1))
    assert (spread["max"] >= spread["min"]).all()
    assert found.scores["bio"].nunique() > 1 or found.neighbourhood["aligned"].mean() < 1  # seeds do differ
    text = repr(found)
    assert "CLUE, 3 seeds (0, 1, 2)" in text
    assert "unrelated latents" in text
    assert HELD_OUT not in found.scores  # too few validation pairs here


def test_the_picture_has_a_point_for_every_seed_and_the_null(found) -> None:
    figure = sm.pl.stability(found)
    points = {c.get_gid(): c.get_offsets() for c in figure.axes[0].collections if c.get_gid()}
    np.testing.assert_allclose(np.sort(np.asarray(points["bio"])[:, 0]), np.sort(found.scores["bio"]))
    assert figure.axes[1].lines[0].get_xdata()[0] == pytest.approx(15 / 159)
    with pytest.raises(ValueError, match="Expected 2 axes"):
        sm.pl.stability(found, ax=figure.axes[0])


def test_one_seed_is_refused(mdata) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        sm.tl.stability(sm.model.CLUE, mdata, 1)
