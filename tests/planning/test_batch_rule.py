from __future__ import annotations

import pytest

from smalti.planning import recommended_batch_size


def test_few_cells_are_one_batch():
    assert recommended_batch_size(10, 4000) == 4000


def test_ten_cells_per_output_and_five_with_running_covariances():
    assert recommended_batch_size(32, 10_000) == 320
    assert recommended_batch_size(32, 10_000, running=True) == 160


def test_a_batch_has_128_cells_however_few_the_outputs():
    assert recommended_batch_size(1, 10_000) == 128


def test_without_full_batches_small_data_follow_the_same_rule_but_no_more_cells_than_there_are():
    assert recommended_batch_size(10, 4000, allow_full=False) == 128
    assert recommended_batch_size(10, 60, allow_full=False) == 60


def test_fewer_than_two_cells_per_output_are_refused():
    with pytest.raises(ValueError, match="at least 40 cells"):
        recommended_batch_size(20, 39)
