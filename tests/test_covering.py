from __future__ import annotations

from itertools import combinations, product

from _covering import covering_rows


def test_every_pair_of_values_meets_in_few_rows():
    factors = {"a": [1, 2, 3], "b": "xy", "c": [True, False], "d": [None, 0, 1, 2], "e": [0.0, 1.0]}
    rows = covering_rows(factors)
    for p, q in combinations(factors, 2):
        assert {(row[p], row[q]) for row in rows} == set(product(factors[p], factors[q]))
    assert 12 <= len(rows) <= 16
    assert rows == covering_rows(factors)
