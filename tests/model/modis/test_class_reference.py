from __future__ import annotations

import numpy as np
import pytest
import torch

from smalti.model.modis._class_reference import ClassReference

D = 5
SPREAD = np.array([3.0, 1.0, 1.0, 0.5, 0.2])
"""Standard deviations within classes, so that a Euclidean distance would not do."""


def draw(rng, labels, *, distance=12.0):
    """Return cells of classes whose centres lie on axes."""
    return (distance * np.eye(8, D)[labels] + SPREAD * rng.normal(size=(len(labels), D))).astype(np.float32)


@pytest.fixture
def fitted(rng):
    labels = np.repeat([0, 1, 2, -1], [150, 150, 60, 40])
    reference = ClassReference(5, D)
    reference.fit(draw(rng, labels), labels)
    return reference


def test_centres_are_class_means_and_classes_without_a_cell_have_none(rng):
    labels = rng.integers(-1, 3, 80)
    x = draw(rng, labels)
    reference = ClassReference(4, D)
    reference.fit(x, labels)
    assert reference.count.tolist() == [(labels == k).sum() for k in range(4)]
    for k in range(3):
        np.testing.assert_allclose(reference.centre[k], x[labels == k].mean(0), rtol=1e-4, atol=1e-4)
    assert (reference.centre[3] == 0).all()


def test_after_whitening_classes_are_as_wide_in_every_direction(fitted, rng):
    labels = rng.integers(0, 3, 3000)
    residual = torch.from_numpy(draw(rng, labels)) - fitted.centre[labels]
    covariance = torch.cov((residual @ fitted.whiten).T)
    torch.testing.assert_close(covariance, torch.eye(D), atol=0.4, rtol=0)  # shrunk towards a ball


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_as_many_new_cells_of_known_classes_fall_below_a_level_as_it_says(fitted, rng, level):
    p = fitted(torch.from_numpy(draw(rng, rng.integers(0, 3, 4000)))).numpy()
    assert (p >= 0).all()
    assert (p <= 1).all()
    assert (p < level).mean() == pytest.approx(level, abs=0.02 + 0.3 * level)


def test_planted_outliers_are_near_zero(fitted, rng):
    other = fitted(torch.from_numpy(draw(rng, np.full(200, 4))))
    assert (other < 0.01).float().mean() > 0.99
    # outside in a direction in which classes are narrow, though close in plain distance
    narrow = torch.from_numpy(draw(rng, np.zeros(200, dtype=int)))
    narrow[:, 4] += 3.0
    assert (fitted(narrow) < 0.01).float().mean() > 0.99


def test_few_labels_leave_it_open(rng):
    labels = np.arange(19) % 3
    reference = ClassReference(3, D)
    for x, y in ((draw(rng, labels), labels), (draw(rng, np.arange(8)), np.arange(8) % 3)):
        reference.fit(x, y)
        assert (reference(torch.full((4, D), 1e3)) == 1).all()
    fresh = ClassReference(3, D)
    fresh.fit(np.ones((5, D), np.float32), np.full(5, -1))
    assert (fresh(torch.zeros(2, D)) == 1).all()
    assert fresh.count.sum() == 0


def test_a_class_of_one_cell_is_known_though_its_spread_is_not(rng):
    labels = np.array([0] * 40 + [1] * 40 + [2])
    x = draw(rng, labels)
    reference = ClassReference(3, D)
    reference.fit(x, labels)
    np.testing.assert_allclose(reference.centre[2], x[-1], rtol=1e-5)
    new = torch.from_numpy(x[-1:])
    assert reference(new).item() > 0.9
    assert torch.isfinite(reference.quantiles).all()


def test_state_is_stored_whole(fitted, rng):
    other = ClassReference(5, D)
    other.load_state_dict(fitted.state_dict())
    x = torch.from_numpy(draw(rng, rng.integers(0, 5, 50)))
    torch.testing.assert_close(other(x), fitted(x), rtol=0, atol=0)


# -------------------------------------------------------------------- borrowed variation


@pytest.fixture
def borrowing(rng):
    """Two large classes and one of a single cell, repeated as a batch would repeat it."""
    labels = np.array([0] * 400 + [1] * 400 + [2])
    x = draw(rng, labels)
    reference = ClassReference(3, D)
    reference.fit(x, labels)
    rows = np.concatenate([np.arange(800), np.full(4000, 800)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield reference, torch.from_numpy(x[rows]), torch.from_numpy(labels[rows])


def test_a_small_class_gets_the_covariance_of_the_donors_around_its_own_centre(borrowing):
    reference, x, labels = borrowing
    found, altered = reference.borrow_variation(x, labels, 20)
    small = found[800:][altered[800:]]
    donors = torch.cat([x[:400] - x[:400].mean(0), x[400:800] - x[400:800].mean(0)])
    torch.testing.assert_close(torch.cov(small.T), torch.cov(donors.T), rtol=0.15, atol=0.15)
    torch.testing.assert_close(small.mean(0), x[-1], rtol=0, atol=0.25)


def test_a_quarter_of_a_small_class_is_shown_as_it_is(borrowing):
    reference, x, labels = borrowing
    found, altered = reference.borrow_variation(x, labels, 20)
    assert altered[800:].float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(found[~altered], x[~altered], rtol=0, atol=0)
    assert (found[altered] != x[altered]).any(dim=1).all()


def test_large_classes_and_unlabelled_cells_are_left_alone(borrowing):
    reference, x, labels = borrowing
    labels[801:1500] = -1
    kept = x.clone()
    found, altered = reference.borrow_variation(x, labels, 20)
    assert not altered[:800].any()
    assert not altered[801:1500].any()
    torch.testing.assert_close(found[:800], kept[:800], rtol=0, atol=0)
    torch.testing.assert_close(x, kept, rtol=0, atol=0)  # nothing is changed in place


@pytest.mark.parametrize("rows", [slice(800, None), slice(0, 800), slice(0, 0), slice(799, 803)])
def test_without_donors_or_small_classes_nothing_is_borrowed(borrowing, rows):
    reference, x, labels = borrowing
    found, altered = reference.borrow_variation(x[rows], labels[rows], 20)
    assert not altered.any()
    torch.testing.assert_close(found, x[rows], rtol=0, atol=0)
