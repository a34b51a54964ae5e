from __future__ import annotations

import numpy as np

from smalti.data import find_patterns


def test_patterns_come_with_most_modalities_then_most_cells_then_leftmost_first() -> None:
    here = np.array([[0, 1, 0]] * 2 + [[1, 0, 0]] * 2 + [[1, 1, 1]] + [[0, 1, 1]] * 3 + [[1, 1, 0]] * 2, dtype=bool)
    found = find_patterns(here)
    assert found.rows.astype(int).tolist() == [[1, 1, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert found.sizes.tolist() == [1, 3, 2, 2, 2]
    np.testing.assert_array_equal(found.rows[found.group], here)


def test_order_of_cells_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    here = rng.random((60, 4)) < 0.5
    order = rng.permutation(60)
    found, shuffled = find_patterns(here), find_patterns(here[order])
    np.testing.assert_array_equal(found.rows, shuffled.rows)
    np.testing.assert_array_equal(found.group[order], shuffled.group)
