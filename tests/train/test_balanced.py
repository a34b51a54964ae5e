from __future__ import annotations

import numpy as np
import pytest

from smalti.train import BalancedBatchSampler, _sampler


def diagonal(*sizes):
    """Return presence of ``sizes`` cells with one modality each."""
    return np.repeat(np.eye(len(sizes), dtype=bool), sizes, axis=0)


def unlabelled(presence):
    return np.full(len(presence), -1)


def batches_of(sampler, n_epochs=1):
    return [batch for _ in range(n_epochs) for batch in sampler]


@pytest.mark.parametrize(("sizes", "batch_size", "each"), [((40, 40), 16, 8), ((90, 20, 33), 24, 8), ((50, 9), 16, 8)])
def test_every_batch_holds_as_many_cells_of_every_modality(sizes, batch_size, each):
    presence = diagonal(*sizes)
    for batch in batches_of(BalancedBatchSampler(presence, unlabelled(presence), batch_size), 3):
        assert presence[batch].sum(axis=0).tolist() == [each] * len(sizes)
        assert len(batch) == each * len(sizes)


def test_an_epoch_goes_through_the_largest_modality_once_and_no_cell_is_left_out():
    presence = diagonal(64, 10)
    sampler = BalancedBatchSampler(presence, unlabelled(presence), 16)
    batches = batches_of(sampler)
    assert len(batches) == len(sampler) == sampler.n_batches == 8
    visits = np.bincount(np.concatenate(batches), minlength=74)
    assert (visits[:64] == 1).all()
    assert visits[64:].sum() == 64
    assert np.ptp(visits[64:]) <= 1  # used up before any is drawn again


@pytest.mark.parametrize("n", [1, 3])
def test_a_modality_smaller_than_its_share_is_in_every_batch_as_a_whole(n):
    presence = diagonal(50, n)
    for batch in batches_of(BalancedBatchSampler(presence, unlabelled(presence), 16)):
        assert presence[batch].sum(axis=0).tolist() == [8, n]


def test_a_modality_that_no_cell_has_takes_no_share():
    presence = np.column_stack([diagonal(30, 30), np.zeros(60, bool)])
    for batch in batches_of(BalancedBatchSampler(presence, unlabelled(presence), 16)):
        assert presence[batch].sum(axis=0).tolist() == [8, 8, 0]


def test_paired_cells_are_drawn_for_each_of_their_modalities():
    presence = np.ones((24, 2), dtype=bool)
    batches = batches_of(BalancedBatchSampler(presence, unlabelled(presence), 8))
    assert np.bincount(np.concatenate(batches), minlength=24).tolist() == [2] * 24


def with_labels(presence, rng):
    """A class of half the cells, one of a few, one of a single cell per modality; most cells without a label."""
    labels = unlabelled(presence)
    for column in presence.T:
        cells = rng.permutation(np.flatnonzero(column))
        labels[cells[:30]], labels[cells[30:34]], labels[cells[34]] = 0, 1, 2
    return labels


def test_labelled_cells_are_appended_in_which_classes_are_equally_frequent(rng):
    presence = diagonal(100, 60)
    labels = with_labels(presence, rng)
    sampler = BalancedBatchSampler(presence, labels, 32, labelled_share=0.5)
    extra = []
    for batch in batches_of(sampler, 60):
        assert len(batch) == 32 + 2 * 8
        extra.append(batch[32:])
        assert (labels[extra[-1]] >= 0).all()
        assert presence[extra[-1]].sum(axis=0).tolist() == [8, 8]
    counts = np.bincount(labels[np.concatenate(extra)], minlength=3)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.03)


@pytest.mark.parametrize("balance", [0, 0.5])
def test_without_full_balance_large_classes_are_drawn_more_often(balance, rng):
    presence = diagonal(100)
    labels = with_labels(presence, rng)
    sampler = BalancedBatchSampler(presence, labels, 32, labelled_share=0.5, balance=balance)
    drawn = [batch[32:] for batch in batches_of(sampler, 60)]
    counts = np.bincount(labels[np.concatenate(drawn)], minlength=3)
    expected = np.array([30, 4, 1]) ** (1 - balance)
    np.testing.assert_allclose(counts / counts.sum(), expected / expected.sum(), atol=0.03)


def test_a_modality_without_labels_gets_none_appended(rng):
    presence = diagonal(40, 40)
    labels = np.where(np.arange(80) < 40, 0, -1)
    for batch in batches_of(BalancedBatchSampler(presence, labels, 16, labelled_share=0.5)):
        assert presence[batch].sum(axis=0).tolist() == [8 + 4, 8]


def test_epochs_differ_are_reproducible_and_can_be_entered_anywhere(rng):
    presence = diagonal(40, 25)
    labels = with_labels(diagonal(65), rng)

    def fresh(seed=3):
        return BalancedBatchSampler(presence, labels, 16, seed=seed)

    sampler = fresh()
    epochs = [list(sampler) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    again = fresh()
    assert [list(again) for _ in range(3)] == epochs
    resumed = fresh()
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]
    assert list(fresh(seed=4)) != epochs[0]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_deal_out_the_batches_that_one_would_draw(monkeypatch, world, rng):
    presence = diagonal(80, 25)
    labels = with_labels(diagonal(105), rng)
    drawn = []
    for rank in range(world):
        monkeypatch.setattr(_sampler, "rank_and_world", lambda rank=rank: (rank, world))
        sampler = BalancedBatchSampler(presence, labels, 16, seed=5)
        drawn.append(list(sampler))
        assert len(sampler) == len(drawn[-1]) >= 1
    assert len({len(batches) for batches in drawn}) == 1
    monkeypatch.undo()
    alone = BalancedBatchSampler(presence, labels, 16, seed=5)
    together = [batch for step in zip(*drawn, strict=True) for batch in step]
    assert len(together) > alone.n_batches - world
    for shared, own in zip(together, alone, strict=False):
        assert set(shared[:16]) <= set(range(105))
        assert len(shared) == len(own)
        assert shared == own


def test_more_processes_than_batches_still_get_one_each(monkeypatch):
    presence = diagonal(6, 6)
    for rank in range(3):
        monkeypatch.setattr(_sampler, "rank_and_world", lambda rank=rank: (rank, 3))
        sampler = BalancedBatchSampler(presence, unlabelled(presence), 12)
        assert len(sampler) == len(list(sampler)) == 1


@pytest.mark.parametrize(("options", "name"), [({"batch_size": 0}, "batch_size"), ({"balance": 1.5}, "balance")])
def test_impossible_options_are_refused(options, name):
    presence = diagonal(4, 4)
    with pytest.raises(ValueError, match=f"`{name}`"):
        BalancedBatchSampler(presence, unlabelled(presence), **{"batch_size": 4, **options})
