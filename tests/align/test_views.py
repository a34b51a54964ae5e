"""Views: standardised components, neighbours, landmarks."""

from __future__ import annotations

import numpy as np
import pytest
from align._planted import planted

from smalti.align import make_view


def test_every_cell_of_small_data_is_its_own_landmark():
    x = planted(50).components[0]
    view = make_view(x)
    np.testing.assert_array_equal(view.members.toarray(), np.eye(50))
    np.testing.assert_allclose(view.landmark_means(view.components), view.components)
    np.testing.assert_allclose(view.components.std(0), 1)


def test_landmarks_share_all_cells_and_stay_in_their_batch():
    x = planted(300).components[0]
    batch = np.arange(300) % 3
    view = make_view(x, batch=batch, n_landmarks=30, max_cells=100)
    assert len(view.landmarks) == 30
    np.testing.assert_allclose(np.asarray(view.members.sum(1)).ravel(), 1)
    assert view.mass.sum() == pytest.approx(1)
    entries = view.members.tocoo()
    assert (batch[entries.row] == batch[view.landmarks[entries.col]]).all()
    assert np.bincount(entries.row).max() <= 3


def test_means_over_landmarks_keep_the_mean_over_cells():
    x = planted(300).components[0]
    view = make_view(x, n_landmarks=40, max_cells=100)
    values = np.random.default_rng(0).normal(size=(300, 2))
    np.testing.assert_allclose(view.mass @ view.landmark_means(values), values.mean(0), atol=1e-12)


def test_smoothing_averages_over_the_nearest_cells():
    x = np.array([[0.0], [1.0], [10.0], [11.0]])
    view = make_view(x, n_neighbors=2)
    np.testing.assert_allclose(view.smooth(np.array([[1.0], [3.0], [5.0], [9.0]])).ravel(), [2, 2, 7, 7])


@pytest.mark.parametrize("bad", [np.ones(3), np.full((3, 2), np.nan), np.ones((0, 2))])
def test_components_that_are_no_table_of_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="finite components"):
        make_view(bad)
