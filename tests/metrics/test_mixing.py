from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from smalti.metrics import cell_type_asw, modality_mixing, silhouette_mixing


def brute_mixing(x, modality, k):
    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    scores = []
    for name in np.unique(modality):
        rows = np.flatnonzero(modality == name)
        expected = (modality != name).sum() / (len(x) - 1)
        shares = [(modality[np.argsort(distance[i])[:k]] != name).mean() for i in rows]
        scores.append(min(1, np.mean(shares) / expected))
    return np.mean(scores)


@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize("gap", [0.0, 1.0, 2.0])
def test_mixing_equals_its_formula(k, gap, rng):
    modality = rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=150)
    x = rng.normal(size=(150, 3)) + gap * (modality == "a")[:, None]
    assert modality_mixing(x, modality, k=k) == pytest.approx(brute_mixing(x, modality, k), abs=1e-12)


def test_a_random_mixture_scores_nearly_one_whatever_the_sizes(rng):
    modality = rng.choice(["a", "b"], p=[0.9, 0.1], size=2000)
    assert modality_mixing(rng.normal(size=(2000, 4)), modality) > 0.95


def test_modalities_that_never_meet_score_zero(rng):
    modality = np.repeat([0, 1], 100)
    x = rng.normal(size=(200, 4)) + 100 * modality[:, None]
    assert modality_mixing(x, modality, k=30) == 0
    assert silhouette_mixing(x, modality) < 0.05


def test_mixing_falls_as_modalities_part(rng):
    modality = np.repeat([0, 1], 200)
    noise = rng.normal(size=(400, 4))
    scores = [modality_mixing(noise + gap * modality[:, None], modality) for gap in (0, 1, 2, 4)]
    assert all(a > b for a, b in zip(scores, scores[1:], strict=False))


def test_a_small_modality_counts_as_much_as_a_large_one(rng):
    modality = np.array(["large"] * 200 + ["middle"] * 200 + ["small"] * 20)
    x = rng.normal(size=(420, 4)) + 100 * (modality == "small")[:, None]
    # large and middle meet as if alone: each sees (about) 1/2 others, expected 220 / 419
    assert modality_mixing(x, modality, k=10) == pytest.approx((0.5 / (220 / 419)) * 2 / 3, abs=0.05)


def test_pairs_on_one_place_mix_perfectly(rng):
    x = rng.normal(size=(60, 3))
    assert modality_mixing(np.vstack([x, x]), np.repeat(["rna", "adt"], 60), k=1) == 1


def test_silhouettes_equal_their_definition(make_pairs):
    x, y, labels = make_pairs()
    both, modality = np.vstack([x, y + 0.5]), np.repeat(["x", "y"], len(x))
    assert silhouette_mixing(both, modality) == pytest.approx(
        1 - abs(silhouette_samples(both, modality).mean()), abs=1e-6
    )
    assert cell_type_asw(x, labels) == pytest.approx((silhouette_samples(x, labels).mean() + 1) / 2, abs=1e-6)


@pytest.mark.data
def test_silhouettes_equal_the_protocol(protocol, make_pairs):
    """``score`` of the protocol computes both inline, so it runs on a data set made for it (rounded to 5 digits)."""
    x, y, labels = make_pairs(100)
    labels = labels.astype("<U8")
    labels[::10] = "Mis"
    has = np.ones(100, bool)
    empty = np.zeros((100, 1))
    data = protocol.Dataset("made", "adt", empty, empty, has, has, labels, labels, np.arange(100), empty[0], empty[0])
    expected = protocol.score(data, x, y, leiden=False)
    test = data.roles() == "test"
    both, twice = np.vstack([x[test], y[test]]), np.concatenate([labels[test]] * 2)
    assert round(silhouette_mixing(both, np.repeat([0, 1], test.sum())), 5) == expected["mod_mixing"]
    assert round(cell_type_asw(both, twice, exclude="Mis"), 5) == expected["ct_asw"]


def test_types_apart_have_width_near_one_and_excluded_cells_are_left_out(rng):
    labels = np.repeat(["a", "b", "unknown"], 50)
    x = rng.normal(size=(150, 3)) + 100 * (labels == "b")[:, None]
    assert cell_type_asw(x, labels, exclude="unknown") > 0.95
    assert cell_type_asw(x, labels) < 0.75


def test_a_sample_estimates_the_silhouette(make_pairs):
    x, _, labels = make_pairs(2000)
    assert cell_type_asw(x, labels, sample_size=500) == pytest.approx(cell_type_asw(x, labels), abs=0.02)
    assert cell_type_asw(x, labels, sample_size=500) == cell_type_asw(x, labels, sample_size=500, seed=0)


def test_bad_arguments_are_refused(rng):
    x = rng.normal(size=(20, 2))
    two = np.repeat(["a", "b"], 10)
    for function in (modality_mixing, silhouette_mixing):
        with pytest.raises(ValueError, match=r"`modality` to have at least 2 classes .* found 1 \('a'\)"):
            function(x, ["a"] * 20)
        with pytest.raises(ValueError, match="`modality` to have a value for every cell, found 1 missing"):
            function(x, [None] + ["a"] * 10 + ["b"] * 9)
    with pytest.raises(ValueError, match="`k` to be at most 19, the number of other profiles, found 20"):
        modality_mixing(x, two, k=20)
    with pytest.raises(ValueError, match="`labels` to have at least 2 classes .* found 1"):
        cell_type_asw(x, two, exclude="b")
    with pytest.raises(ValueError, match="`sample_size` to be at most 20"):
        cell_type_asw(x, two, sample_size=21)
    x[0] = np.nan
    with pytest.raises(ValueError, match="`x` to be finite"):
        cell_type_asw(x, two)
