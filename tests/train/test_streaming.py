"""Training on data on disk: the order is random enough, reads are few, and the numbers are those in memory."""

from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

from smalti._storable import write_mudata
from smalti.data import MosaicManager, open_mosaic
from smalti.model import CLUE
from smalti.train import BalancedBatchSampler, Locality, MosaicBatchSampler, MosaicSplitter, StreamedBatches, _sampler

N, SIZE = 6000, 50


def paired(share):
    """Patterns lie one after the other, as in files that were joined."""
    return np.arange(N) < share * N


def local(share=0.5, *, run=20, batches=8, seed=0, **kwargs):
    sampler = MosaicBatchSampler(paired(share), SIZE, seed=seed, **kwargs)
    sampler.locality = Locality(run=run, batches=batches)
    return sampler


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0, 0.0])
def test_an_epoch_visits_every_cell_once(share):
    sampler = local(share, paired_share=0.0)
    visits = np.bincount(np.concatenate(list(sampler)), minlength=N)
    assert visits.tolist() == [1] * N


def test_what_a_pass_leaves_over_is_visited_first_in_the_next():
    sampler = MosaicBatchSampler(np.ones(107, dtype=bool), 10)
    sampler.locality = Locality(run=3, batches=4)
    for _ in range(5):
        batches = list(sampler)
        assert all(len(set(batch)) == 10 for batch in batches)
        assert np.bincount(np.concatenate(batches), minlength=107).min() == 1


def test_batches_hold_their_share_of_pairs_and_cells_of_a_kind_are_visited_equally_often():
    sampler = local(0.2)  # pairs come more often than others
    in_memory = MosaicBatchSampler(paired(0.2), SIZE)
    for batches in (list(sampler), list(in_memory)):
        assert all(paired(0.2)[batch].mean() == 0.5 for batch in batches)
        assert all(len(set(batch)) == SIZE for batch in batches)
        visits = np.bincount(np.concatenate(batches), minlength=N)
        assert np.ptp(visits[paired(0.2)]) <= 1


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_batches_are_mixed_from_many_runs_that_lie_anywhere(share):
    run, window = 20, 8
    batches = list(local(share, run=run, batches=window, paired_share=0.0))
    runs_in_window = window * SIZE / run
    distinct = np.array([len(np.unique(np.asarray(batch) // run)) for batch in batches])
    expected = runs_in_window * (1 - (1 - 1 / runs_in_window) ** SIZE)  # of cells drawn at random from the window
    assert distinct.mean() > 0.9 * expected
    place = np.array([np.mean(batch) for batch in batches])
    spread = np.std(np.arange(N)) / np.sqrt(SIZE)  # of means of batches drawn from all cells
    assert abs(np.corrcoef(place, np.arange(len(place)))[0, 1]) < 0.3
    # a window is a sample of runs, so that its mean strays by the square root of (cells of a run) more at most
    assert place.std() < 2 * spread * np.sqrt(1 + SIZE * run / (window * SIZE))


def test_windows_need_few_reads():
    sampler = local(0.5, run=20, batches=8, paired_share=0.0)
    batches = iter(list(sampler))
    for size in sampler.windows():
        cells = np.unique(np.concatenate([next(batches) for _ in range(size)]))
        assert 1 + np.count_nonzero(np.diff(cells) > 1) <= 1.2 * len(cells) / 20 + 4


def test_seeds_and_epochs_have_streams_of_their_own():
    sampler = local(seed=3)
    first, second = list(sampler), list(sampler)
    assert first != second
    assert list(local(seed=3)) == first
    assert list(local(seed=4)) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_in_memory_nothing_changes():
    sampler = MosaicBatchSampler(paired(0.3), SIZE, seed=1)
    rng = np.random.default_rng((1, 0))
    cells = np.flatnonzero(paired(0.3))
    first = rng.permutation(cells)[: len(cells) // 25 * 25].reshape(-1, 25)
    np.testing.assert_array_equal([batch[:25] for batch in sampler][: len(first)], first)


def test_processes_share_the_batches_of_a_window(monkeypatch):
    whole = [set(batch) for batch in local()]
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr(_sampler, "rank_and_world", lambda rank=rank: (rank, 2))
        drawn.append([set(batch) for batch in local()])
    assert len(drawn[0]) == len(drawn[1]) == len(whole) // 2
    first = local().windows()[0]
    cells = np.array(sorted(set().union(*drawn[0][:first], *drawn[1][:first])))
    assert len(cells) == 2 * first * SIZE
    assert 1 + np.count_nonzero(np.diff(cells) > 1) <= 1.2 * len(cells) / 20 + 4


def test_the_balanced_sampler_stays_balanced():
    presence = np.stack([np.arange(N) < 4000, np.arange(N) >= 3000], axis=1)
    sampler = BalancedBatchSampler(presence, np.where(np.arange(N) % 50, -1, 0), 40)
    sampler.locality = Locality(run=10, batches=8)
    batches = list(sampler)
    assert {len(batch) for batch in batches} == {50}
    visits = np.bincount(np.concatenate([batch[:20] for batch in batches]), minlength=N)
    assert np.ptp(visits[:4000]) <= 1


@pytest.mark.parametrize("world", [1, 2])
def test_windows_of_an_epoch_are_of_one_size(world):
    for n_batches in (2, 14, 16, 18, 100, 102):
        sizes = np.diff(Locality(run=1, batches=8).ends(n_batches, world), prepend=0)
        assert sizes.sum() == n_batches
        assert np.ptp(sizes) <= world
        assert sizes.max() <= 12 * world


# ------------------------------------------------------------------ with data


@pytest.fixture
def both(tmp_path):
    """The same mosaic in memory and on disk."""
    mdata = make_mosaic(n_obs=600)
    write_mudata(mdata, tmp_path / "x.h5mu")
    out = mdata, open_mosaic(tmp_path / "x.h5mu")
    for data in out:
        CLUE.setup_mudata(data, {"a": "nb", "b": "poisson", "c": "gaussian"}, batch_key="batch")
    return out


def manager(mdata):
    return CLUE._get_most_recent_anndata_manager(mdata)


def test_every_window_is_read_once_and_ahead(both, monkeypatch):
    dataset = manager(both[1]).create_torch_dataset()
    loads = []
    original = type(dataset).loaded
    monkeypatch.setattr(type(dataset), "loaded", lambda self, at: loads.append(len(at)) or original(self, at))
    batches = np.array_split(np.random.default_rng(0).permutation(600), 12)
    found = [batch["index"].tolist() for batch in StreamedBatches(dataset, batches, lambda: [4])]
    assert found == [batch.tolist() for batch in batches]
    assert loads == [200] * 3


def test_errors_of_reading_reach_the_caller(both, monkeypatch):
    dataset = manager(both[1]).create_torch_dataset()
    monkeypatch.setattr(type(dataset), "loaded", lambda self, at: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(StreamedBatches(dataset, [[1, 2]], lambda: [4]))


def test_the_same_sampler_gives_the_same_losses(both, monkeypatch):
    monkeypatch.setattr(MosaicManager, "on_disk", True)
    monkeypatch.setattr(Locality, "of", lambda *_: Locality(run=5, batches=3))
    histories = []
    for data in both:
        model = CLUE(data, n_latent=4, n_components=5)
        model.train(2, batch_size=60, progress=False)
        histories.append(model.history)
    assert histories[0].keys() == histories[1].keys()
    for name, table in histories[0].items():
        np.testing.assert_allclose(table, histories[1][name], rtol=2e-3, atol=1e-5, err_msg=name)


def test_whole_runs_are_held_out_of_every_pattern(both):
    splitter = MosaicSplitter(manager(both[1]), train_size=0.8)
    held = splitter.val_idx
    for code in np.unique(splitter.strata):
        share = np.isin(np.flatnonzero(splitter.strata == code), held).mean()
        assert share == pytest.approx(0.2, abs=0.02)
    batches = list(splitter.val_dataloader())
    assert sorted(np.concatenate([batch["index"] for batch in batches])) == held.tolist()


def test_loader_processes_are_refused(both):
    with pytest.raises(ValueError, match="`num_workers` to be 0"):
        MosaicSplitter(manager(both[1]), num_workers=2)
