from __future__ import annotations

import numpy as np
import pytest

from smalti.pp._median import streamed_median


@pytest.mark.parametrize("n", [1, 2, 999, 1000])
def test_it_is_the_median_of_the_positive_numbers(n, rng):
    x = np.exp(rng.normal(scale=5, size=n))
    parts = [*np.array_split(x, 3), np.zeros(5), -x]
    assert streamed_median(lambda: parts) == pytest.approx(np.median(x), rel=1e-6)


def test_equal_numbers_and_none_at_all():
    assert streamed_median(lambda: [np.full(10, 0.25)]) == 0.25
    assert streamed_median(lambda: [np.zeros(3), np.empty(0)]) == 0.0
