"""Losses of correlations get batches that are large enough by themselves."""

from __future__ import annotations

import pytest

from smalti import select, simulate
from smalti.model import CLUE, FusionClustering, UnpairedCCA
from smalti.model.base import _training
from smalti.select._cca_problem import CCAProblem


def views():
    return simulate.factor_views(200, n_features={"a": 30, "b": 20}, n_clusters=3)


class Stop(Exception):
    """The batch size is known."""


def planned(model, monkeypatch, **arguments) -> int:
    """Return the batch size with which a training would begin."""
    seen = []

    def splitter(*_, batch_size, **__):
        seen.append(batch_size)
        raise Stop

    monkeypatch.setattr(_training, "MosaicSplitter", splitter)
    with pytest.raises(Stop):
        model.train(1, progress=False, accelerator="cpu", **arguments)
    return seen[0]


@pytest.mark.parametrize(("cls", "width", "expected"), [(FusionClustering, 128, 640), (UnpairedCCA, 80, 800)])
def test_wide_latents_raise_the_batch_size(cls, width, expected, monkeypatch):
    mdata = views()
    cls.setup_mudata(mdata)
    assert planned(cls(mdata, n_latent=width), monkeypatch) == expected
    assert planned(cls(mdata, n_latent=width), monkeypatch, batch_size="auto") == expected
    assert planned(cls(mdata, n_latent=width), monkeypatch, batch_size=300) == 300
    assert planned(cls(mdata, n_latent=8), monkeypatch) == cls.default_batch_size


def test_models_without_correlations_keep_their_own(monkeypatch):
    mdata = views()
    CLUE.setup_mudata(mdata)
    assert planned(CLUE(mdata), monkeypatch, batch_size="auto") == CLUE.default_batch_size


@pytest.mark.parametrize(("n_cells", "n_outputs", "expected"), [(1000, 3, 1000), (6000, 3, 128), (6000, 30, 300)])
def test_sparse_cca_reads_all_cells_until_there_are_many(n_cells, n_outputs, expected):
    mdata = simulate.factor_views(n_cells, n_features={"a": 5, "b": 5})
    problem = CCAProblem(mdata, None, None, None, None, "auto", 0, n_outputs=n_outputs, hold_out=False)
    assert problem.batch_size == expected


def test_few_cells_per_pair_are_refused():
    with pytest.raises(ValueError, match="at least 100 cells"):
        select.sparse_dcca(views(), n_components=10, batch_size=64)
