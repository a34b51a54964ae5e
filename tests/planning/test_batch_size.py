from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smalti.planning import batch_size
from smalti.planning._batch_size import _noise, _quickest
from smalti.simulate import factor_views


class Toy:
    """A model whose latent is the truth plus noise that falls with the batch size."""

    trained: list[dict] = []

    def __init__(self, mdata, **options):
        self.mdata, self.options = mdata, options

    @classmethod
    def setup_mudata(cls, mdata, batch_key=None):
        cls.batch_key = batch_key

    def train(self, *, max_epochs, batch_size, progress):
        assert progress is False
        self.batch_size = batch_size
        self.history = {"train_loss": pd.DataFrame({"train_loss": np.linspace(2, 1, max_epochs)})}
        Toy.trained.append({"cells": set(self.mdata.obs_names), "epochs": max_epochs, "size": batch_size})

    def get_latent_representation(self, mdata, *, modality):
        rng = np.random.default_rng([len(modality), self.batch_size])
        return mdata.obsm["shared"] + 8 / self.batch_size**0.5 * rng.normal(size=mdata.obsm["shared"].shape)


@pytest.fixture
def mdata():
    Toy.trained.clear()
    return factor_views(200, n_features={"rna": 10, "protein": 10}, n_shared=4)


def test_held_out_cells_are_not_trained_on_and_every_size_gets_equal_steps(mdata):
    found = batch_size(Toy, mdata, sizes=(16, 64), n_steps=80, n_seeds=1)
    assert all(len(run["cells"]) == 160 for run in Toy.trained)
    assert [run["epochs"] for run in Toy.trained] == [8, 32]
    assert set(found.table["steps"]) == {80, 64}


def test_equal_epochs_on_demand(mdata):
    batch_size(Toy, mdata, sizes=(16, 64), n_steps=None, max_epochs=5, n_seeds=1)
    assert [run["epochs"] for run in Toy.trained] == [5, 5]


def test_the_size_with_the_better_latent_is_recommended(mdata):
    found = batch_size(Toy, mdata, sizes=(16, 128), n_steps=10, n_seeds=2, n_outputs=4)
    assert found.recommended == 128
    assert found.sentence.startswith("Batches of 128 cells")
    assert "40" not in found.sentence
    assert found.rule == 160  # all training cells, which are few


def test_the_quickest_of_equally_good_sizes_is_taken():
    table = pd.DataFrame({"batch_size": [32, 64, 128], "score": [0.050, 0.051, 0.060], "seconds": [9.0, 4.0, 1.0]})
    assert _quickest(table, "foscttm", 0.03) == 64
    assert _quickest(table, "labels", 0.03) == 128


def test_a_loss_that_falls_evenly_is_not_noisy():
    assert _noise(np.linspace(2, 1, 20)) == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    assert _noise(1 + 0.1 * rng.standard_normal(4000)) == pytest.approx(0.1, rel=0.1)


def test_sizes_beyond_the_cells_are_left_out_and_none_is_an_error(mdata):
    assert set(batch_size(Toy, mdata, sizes=(32, 1000), n_steps=5, n_seeds=1).table["batch_size"]) == {32}
    with pytest.raises(ValueError, match="at most 160"):
        batch_size(Toy, mdata, sizes=(1000,))
