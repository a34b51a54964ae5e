from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from sklearn.metrics import silhouette_samples

from smalti.metrics import ilisi, kbet, mixing_asw, mixing_scores


@pytest.fixture
def blood(rng):
    """Two types of 150 cells and a rare one, three batches, of which one is apart in the first type."""
    types = np.repeat(["B", "T", "rare"], [150, 150, 8])
    batch = rng.choice(["x", "y", "z"], p=[0.5, 0.3, 0.2], size=len(types))
    x = rng.normal(size=(len(types), 4)) + 10 * (types == "T")[:, None]
    x[(types == "B") & (batch == "x")] += 1.5
    return x, batch, types


def test_asw_equals_its_definition(blood):
    x, batch, types = blood
    widths = [np.mean(1 - np.abs(silhouette_samples(x[types == t], batch[types == t]))) for t in ("B", "T")]
    assert mixing_asw(x, batch, types) == pytest.approx(np.mean(widths))


def test_kbet_equals_a_test_per_cell(blood):
    x, batch, types = blood
    shares = []
    for t in ("B", "T"):
        z, b = x[types == t], batch[types == t]
        distance = cdist(z, z)
        np.fill_diagonal(distance, np.inf)
        expected = [40 * (b == name).mean() for name in "xyz"]
        near = b[np.argsort(distance, axis=1)[:, :40]]
        p = [chisquare([(row == name).sum() for name in "xyz"], expected).pvalue for row in near]
        shares.append(np.mean(np.array(p) > 0.05))
    assert kbet(x, batch, types) == pytest.approx(np.mean(shares))


def test_random_batches_mix_and_islands_do_not(rng):
    types, batch = rng.integers(2, size=900), rng.integers(3, size=900)
    x = rng.normal(size=(900, 5)) + 20 * types[:, None]
    good = mixing_scores(x, batch, labels=types)
    assert min(good.ilisi, good.asw, good.kbet) > 0.8
    bad = mixing_scores(x + 8 * batch[:, None], batch, labels=types)
    assert max(bad.ilisi, bad.asw, bad.kbet) < 0.3


def test_types_that_only_some_batches_have_do_not_count_against_mixing(rng):
    types = np.repeat(["both", "first only"], [300, 300])
    batch = np.where(types == "first only", "first", rng.choice(["first", "second"], size=600))
    x = rng.normal(size=(600, 4)) + 50 * (types == "both")[:, None]
    found = mixing_scores(x, batch, labels=types)
    assert found.asw > 0.9
    assert found.kbet > 0.8


def test_the_mean_is_of_what_is_defined(blood):
    x, batch, types = blood
    found = mixing_scores(x, batch, labels=types)
    assert found.mean == pytest.approx(np.mean([found.ilisi, found.asw, found.kbet]))
    without = mixing_scores(x, batch, labels=types, use_kbet=False)
    assert (without.kbet, without.asw) == (None, found.asw)
    alone = mixing_scores(x, batch)
    assert (alone.asw, alone.kbet, alone.mean) == (None, None, alone.ilisi)
    assert alone.ilisi == ilisi(x, batch)
    few = mixing_scores(x, batch, labels=[f"type {i}" for i in range(len(x))])
    assert (few.asw, few.kbet) == (None, None)


def test_cells_without_a_label_count_for_ilisi_alone(blood):
    x, batch, types = blood
    more = np.vstack([x, x + 100]), np.tile(batch, 2), np.concatenate([types, np.full(len(types), "?")])
    assert mixing_asw(*more, exclude="?") == mixing_asw(x, batch, types)
    assert kbet(*more, exclude="?") == kbet(x, batch, types)


def test_bad_input_gets_one_clear_sentence(blood):
    x, batch, types = blood
    with pytest.raises(ValueError, match="`groups` to have at least 2 classes"):
        kbet(x, ["one"] * len(x), types)
    with pytest.raises(ValueError, match="`alpha` to be in interval"):
        kbet(x, batch, types, alpha=2)
