from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from smalti.metrics import cell_type_asw, modality_decodability, modality_mixing, silhouette_mixing


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


@pytest.mark.parametrize("sizes", [(300, 300), (900, 100), (400, 300, 200)])
def test_the_modality_of_a_random_mixture_is_decoded_by_chance_whatever_the_sizes(sizes, rng):
    modality = np.repeat(np.arange(len(sizes)), sizes)
    z = rng.normal(size=(len(modality), 4))
    spread = 0.5 / np.sqrt(len(sizes) * min(sizes))
    assert modality_decodability(z, modality) == pytest.approx(1 / len(sizes), abs=4 * spread)


def test_modalities_apart_are_decoded_whatever_other_scores_say(rng):
    modality = np.repeat(["rna", "adt", "atac"], [60, 40, 30])
    z = rng.normal(size=(130, 4)) + 100 * (modality == "rna")[:, None] - 100 * (modality == "adt")[:, None]
    assert modality_decodability(z, modality) == 1


def test_decoding_equals_a_vote_of_neighbors_outside_the_fold(rng):
    modality = np.repeat([0, 1], 40)
    z = rng.normal(size=(80, 3)) + 0.8 * modality[:, None]
    # as many folds as profiles of a modality: each vote leaves one profile of each out
    found = modality_decodability(z, modality, k=1, n_folds=40)
    distance = cdist(z, z)
    np.fill_diagonal(distance, np.inf)
    nearly = (modality[distance.argmin(axis=1)] == modality).mean()
    assert found == pytest.approx(nearly, abs=0.05)
    assert 0.55 < nearly < 0.95


def test_a_large_modality_is_drawn_down_to_the_smallest(rng):
    modality = np.repeat([0, 1], [500, 20])
    z = rng.normal(size=(520, 2))
    # without the draw, the vote for the large one would be right for 500 of 520
    assert modality_decodability(z, modality) < 0.8
    assert modality_decodability(z, modality) == modality_decodability(z, modality, random_state=0)
    scores = {modality_decodability(z, modality, random_state=seed) for seed in range(5)}
    assert len(scores) > 1


def test_leading_components_miss_a_small_direction_that_parts_modalities(rng):
    modality = np.repeat([0, 1], 200)
    z = np.column_stack([2 * rng.normal(size=(400, 2)), 0.1 * rng.normal(size=400) + modality])
    assert modality_decodability(z, modality, n_components=2) == pytest.approx(0.5, abs=0.1)
    assert modality_decodability(z, modality, n_components=3) > 0.9


def test_decoding_refuses_what_it_cannot_split(rng):
    z = rng.normal(size=(12, 3))
    with pytest.raises(ValueError, match=r"at least 2 profiles, found \[11, 1\]"):
        modality_decodability(z, ["a"] * 11 + ["b"])
    with pytest.raises(ValueError, match="`k` to be at most 8, the number of profiles in a training fold"):
        modality_decodability(z, ["a"] * 6 + ["b"] * 6, k=9)
    with pytest.raises(ValueError, match="`n_components` to be at most 3, the number of dimensions"):
        modality_decodability(z, ["a"] * 6 + ["b"] * 6, n_components=4)
    with pytest.raises(ValueError, match="`n_folds` to be at least 2"):
        modality_decodability(z, ["a"] * 6 + ["b"] * 6, n_folds=1)


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
    for function in (modality_mixing, silhouette_mixing, modality_decodability):
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
