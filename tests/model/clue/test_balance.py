from __future__ import annotations

import numpy as np
import pytest
from _clue import build_clue, options, train
from _factories import make_mosaic

from smalti import simulate
from smalti.data import row_maps
from smalti.model import CLUEWeights
from smalti.model.clue._balance import balancing_weights

MODALITIES = {"a": "nb", "b": "poisson", "c": "gaussian"}


def test_populations_that_a_modality_lacks_weigh_less_in_the_game():
    mdata = simulate.factor_views(
        400, n_features=(60, 50), n_shared=6, n_private=0, n_clusters=4, cluster_share=0.97, noise=0.3
    )
    lonely = (mdata.obs["label"] == "label_3").to_numpy()
    keep = np.ones((400, 2), dtype=bool)
    keep[lonely, 1] = False
    order = np.random.default_rng(0).permutation(np.flatnonzero(~lonely))
    keep[order[:80], 0] = False
    keep[order[80:160], 1] = False
    mdata = simulate.drop(mdata, keep)
    model = build_clue(mdata, weights=CLUEWeights(adversarial=0.1))
    table = balancing_weights(model.cell_components(), model.modalities, 0).numpy()
    assert table.shape == (400, 2)
    lonely = (mdata.obs["label"] == "label_3").to_numpy()
    for i, name in enumerate("ab"):
        here = row_maps(mdata, [name])[name] >= 0
        assert table[here, i].mean() == pytest.approx(1, rel=1e-4)
        assert (table[~here, i] == 1).all()
        assert (table[here, i] >= 0).all()
    in_a = row_maps(mdata, ["a"])["a"] >= 0
    assert table[in_a & lonely, 0].mean() < 0.3 * table[in_a & ~lonely, 0].mean()


def test_training_uses_the_balancing_weights_unless_told_otherwise():
    for balance in (True, False):
        weights = CLUEWeights(adversarial=0.1)
        model = build_clue(make_mosaic(n_obs=210), MODALITIES, weights=weights, options=options(balance=balance))
        train(model, max_epochs=1)
        assert (model.module.balance is not None) is balance


def test_without_pairs_nothing_is_balanced():
    weights = CLUEWeights(contrastive=0, adversarial=0.1)
    model = build_clue(make_mosaic(n_obs=90, pattern="diagonal"), MODALITIES, weights=weights)
    assert balancing_weights(model.cell_components(), model.modalities, 0) is None
