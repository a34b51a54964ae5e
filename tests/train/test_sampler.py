from __future__ import annotations

import numpy as np
import pytest

from smalti.train import MosaicBatchSampler, _sampler


def mask(n, n_paired):
    out = np.zeros(n, dtype=bool)
    out[np.random.default_rng(0).permutation(n)[:n_paired]] = True
    return out


def batches_of(sampler, n_epochs=1):
    return [batch for _ in range(n_epochs) for batch in sampler]


CASES = {
    "half": (100, 50, 16),
    "few pairs": (100, 3, 16),
    "one pair": (100, 1, 16),
    "few others": (100, 97, 16),
    "one other": (100, 99, 16),
    "all paired": (100, 100, 16),
    "none paired": (100, 0, 16),
    "smaller than a batch": (7, 3, 16),
    "one cell": (1, 1, 16),
    "two cells, one paired": (2, 1, 16),
    "batch of one": (10, 5, 1),
    "batch of two": (10, 5, 2),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_no_cell_repeats_inside_a_batch_and_all_batches_are_full(case):
    n, n_paired, size = case
    batches = batches_of(MosaicBatchSampler(mask(n, n_paired), size, seed=1), 3)
    for batch in batches:
        assert len(set(batch)) == len(batch)
        assert set(batch) <= set(range(n))
    assert {len(batch) for batch in batches} == {len(batches[0])}
    assert len(batches[0]) <= min(size, n)


def test_every_cell_is_visited_and_cells_of_a_kind_equally_often(case):
    n, n_paired, size = case
    paired, n_epochs = mask(n, n_paired), 200
    visits = np.bincount(np.concatenate(batches_of(MosaicBatchSampler(paired, size), n_epochs)), minlength=n)
    assert visits.min() > 0
    kinds = (paired, ~paired) if size > 1 else (np.ones(n, dtype=bool),)
    for kind in kinds:
        if kind.any():
            # epochs are independent and a cell's visits in one differ by at most one: six standard deviations
            assert np.ptp(visits[kind]) <= 2 * 6 * np.sqrt(n_epochs / 4)


def test_an_epoch_draws_as_many_cells_as_there_are(case):
    n, n_paired, size = case
    sampler = MosaicBatchSampler(mask(n, n_paired), size)
    batches = batches_of(sampler)
    assert len(batches) == len(sampler) == sampler.n_batches
    drawn = sum(map(len, batches))
    assert n <= drawn < n + len(batches[0])


@pytest.mark.parametrize(
    ("n_paired", "share", "expected"),
    [(50, 0.5, 10), (10, 0.5, 10), (10, 0.0, 2), (80, 0.5, 16), (10, 0.9, 10), (60, 1.0, 19), (4, 0.5, 4), (1, 0.0, 1)],
)
def test_each_batch_holds_the_share_of_pairs(n_paired, share, expected):
    paired = mask(100, n_paired)
    for batch in batches_of(MosaicBatchSampler(paired, 20, paired_share=share)):
        assert paired[batch].sum() == expected
        assert len(batch) == 20


def test_within_an_epoch_no_cell_comes_again_before_its_kind_is_exhausted():
    paired = mask(96, 48)
    batches = batches_of(MosaicBatchSampler(paired, 16, paired_share=0.5))
    assert len(batches) == 6
    assert sorted(np.concatenate(batches)) == list(range(96))


def test_epochs_differ_are_reproducible_and_can_be_entered_anywhere():
    def fresh(seed=3):
        return MosaicBatchSampler(mask(60, 30), 8, seed=seed)

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
def test_processes_draw_equally_many_batches_and_never_the_same_one(monkeypatch, case, world):
    n, n_paired, size = case
    drawn = []
    for rank in range(world):
        monkeypatch.setattr(_sampler, "rank_and_world", lambda rank=rank: (rank, world))
        sampler = MosaicBatchSampler(mask(n, n_paired), size, seed=5)
        drawn.append(list(sampler))
        assert len(sampler) == len(drawn[-1]) >= 1
    assert len({len(batches) for batches in drawn}) == 1
    monkeypatch.undo()
    alone = MosaicBatchSampler(mask(n, n_paired), size, seed=5)
    if alone.n_batches >= world:
        together = [batch for step in zip(*drawn, strict=True) for batch in step]
        assert together == list(alone)[: len(together)]  # what one process would have drawn, dealt out
        assert len(together) > alone.n_batches - world


def test_processes_share_cells_without_overlap_while_a_kind_lasts(monkeypatch):
    drawn = []
    for rank in range(2):
        monkeypatch.setattr(_sampler, "rank_and_world", lambda rank=rank: (rank, 2))
        drawn.append(set(np.concatenate(list(MosaicBatchSampler(mask(96, 48), 16, paired_share=0.5)))))
    assert drawn[0].isdisjoint(drawn[1])
    assert len(drawn[0]) == len(drawn[1]) == 48
