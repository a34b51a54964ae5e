from __future__ import annotations

import numpy as np
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti.train import MosaicSplitter, _splitter


@pytest.fixture(scope="module")
def manager():
    mdata = make_mosaic(n_obs=210)  # thirty cells of each of the seven patterns
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch", labels_key="label")
    return sm.model.CLUE._get_most_recent_anndata_manager(mdata)


def patterns(presence):
    return presence @ (1 << np.arange(presence.shape[1]))


@pytest.mark.parametrize(("train_size", "held_out"), [(0.9, 3), (0.5, 15), (0.98, 1)])
def test_the_same_share_of_every_pattern_is_held_out(manager, train_size, held_out):
    splitter = MosaicSplitter(manager, train_size=train_size)
    _, counts = np.unique(patterns(splitter.presence[splitter.val_idx]), return_counts=True)
    assert counts.tolist() == [held_out] * 7


def test_training_and_validation_cells_share_nothing_and_miss_nothing(manager):
    splitter = MosaicSplitter(manager, train_size=0.8)
    assert set(splitter.train_idx).isdisjoint(splitter.val_idx)
    assert sorted([*splitter.train_idx, *splitter.val_idx]) == list(range(210))
    assert (splitter.n_train, splitter.n_val) == (len(splitter.train_idx), len(splitter.val_idx))


def test_the_split_depends_on_the_seed_alone(manager):
    one, same, other = (MosaicSplitter(manager, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.val_idx, same.val_idx)
    assert set(one.val_idx) != set(other.val_idx)


def test_nothing_is_held_out_at_a_train_size_of_one(manager):
    splitter = MosaicSplitter(manager, train_size=1)
    assert splitter.n_val == 0
    assert splitter.val_dataloader() == []
    assert splitter.n_validation_pairs == 0
    np.testing.assert_array_equal(splitter.train_idx, np.arange(210))


def test_chosen_cells_are_held_out_as_positions_or_mask(manager):
    chosen = [200, 7, 7, 31]
    mask = np.zeros(210, dtype=bool)
    mask[chosen] = True
    for given in (chosen, np.array(chosen), mask):
        assert MosaicSplitter(manager, validation_indices=given).val_idx.tolist() == [7, 31, 200]


def test_validation_pairs_are_counted(manager):
    splitter = MosaicSplitter(manager)
    expected = (splitter.presence[splitter.val_idx].sum(axis=1) >= 2).sum()
    assert splitter.n_validation_pairs == expected == 4 * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_indices": [3, 210, -1]}, r"must lie in 0..209, found -1, 210"),
        ({"validation_indices": [True, False]}, "boolean `validation_indices` needs 210 entries, found 2"),
        ({"validation_indices": np.arange(210)}, "No cell is left for training"),
        ({"train_size": 0}, "`train_size`"),
        ({"train_size": 1.5}, "`train_size`"),
        ({"paired_share": -0.1}, "`paired_share`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_impossible_splits_are_refused(manager, options, message):
    with pytest.raises(ValueError, match=message):
        MosaicSplitter(manager, **options)


def test_training_batches_hold_training_cells_and_the_asked_share_of_pairs(manager):
    splitter = MosaicSplitter(manager, batch_size=40, paired_share=0.8)
    loader = splitter.train_dataloader()
    seen = []
    for batch in loader:
        seen.append(batch["index"].numpy())
        assert len(seen[-1]) == 40
        assert (batch["present"].sum(dim=1) >= 2).sum() == 32
        np.testing.assert_array_equal(batch["present"].numpy(), splitter.presence[seen[-1]])
    assert len(seen) == len(loader) == splitter.sampler.n_batches
    assert set(np.concatenate(seen)) <= set(splitter.train_idx)


def test_validation_visits_each_held_out_cell_once_in_the_same_batches(manager, monkeypatch):
    monkeypatch.setattr(_splitter, "VALIDATION_BATCH", 16)
    splitter = MosaicSplitter(manager, train_size=0.7, batch_size=8)
    passes = [[batch["index"].tolist() for batch in splitter.val_dataloader()] for _ in range(2)]
    assert passes[0] == passes[1]
    assert len(passes[0]) == int(np.ceil(63 / 16))
    assert sorted(sum(passes[0], [])) == splitter.val_idx.tolist()
    assert np.ptp([len(batch) for batch in passes[0]]) <= 1


def test_the_same_share_of_given_strata_is_held_out_and_nothing_of_negative_ones(manager):
    strata = np.repeat([0, 7, -1, -5], [100, 50, 40, 20])
    splitter = MosaicSplitter(manager, train_size=0.8, strata=strata)
    assert np.unique(strata[splitter.val_idx], return_counts=True)[1].tolist() == [20, 10]
    assert set(strata[splitter.val_idx]) == {0, 7}
    assert set(np.flatnonzero(strata < 0)) <= set(splitter.train_idx)


def test_if_all_strata_are_negative_nothing_is_held_out(manager):
    splitter = MosaicSplitter(manager, strata=np.full(210, -1))
    assert splitter.n_val == 0
    assert len(splitter.train_idx) == 210


def test_another_sampler_gets_the_training_cells_and_draws_positions_among_them(manager):
    given = []

    def make(cells):
        given.append(cells)
        return [[0, 1], [5, len(cells) - 1]]

    splitter = MosaicSplitter(manager, train_size=0.7, make_sampler=make)
    np.testing.assert_array_equal(given[0], splitter.train_idx)
    drawn = [batch["index"].tolist() for batch in splitter.train_dataloader()]
    assert drawn == [splitter.train_idx[[0, 1]].tolist(), splitter.train_idx[[5, -1]].tolist()]


@pytest.mark.parametrize(("size", "shared"), [(10, True), (210, False)])
def test_processes_share_validation_batches_unless_there_are_too_few(manager, monkeypatch, size, shared):
    monkeypatch.setattr(_splitter, "VALIDATION_BATCH", size)
    splitter = MosaicSplitter(manager, train_size=0.5, batch_size=10)
    alone = [batch["index"].tolist() for batch in splitter.val_dataloader()]
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(_splitter, "rank_and_world", lambda rank=rank: (rank, 2))
        parts.append([batch["index"].tolist() for batch in splitter.val_dataloader()])
    assert parts == ([alone[0::2], alone[1::2]] if shared else [alone, alone])
