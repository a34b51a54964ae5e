from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from smalti.metrics import nearest_neighbors
from smalti.metrics._neighbors import neighbor_links


def test_neighbours_are_those_of_all_distances(rng):
    x = rng.normal(size=(80, 5))
    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    found = nearest_neighbors(x, k=7)
    assert (found.indices == np.argsort(distance, axis=1)[:, :7]).all()
    np.testing.assert_allclose(found.distances, np.sort(distance, axis=1)[:, :7], atol=1e-6)
    assert found.exact
    assert found.k == 7


def test_a_cell_is_never_its_own_neighbour_even_among_copies(rng):
    x = np.repeat(rng.normal(size=(6, 3)), 10, axis=0)
    found = nearest_neighbors(x, k=5)
    assert (found.indices != np.arange(60)[:, None]).all()
    assert found.distances.max() == pytest.approx(0, abs=1e-6)


def test_the_graph_is_symmetric_and_has_every_link(rng):
    found = nearest_neighbors(rng.normal(size=(40, 3)), k=6)
    graph = found.graph(4).toarray()
    assert (graph == graph.T).all()
    assert graph[np.arange(40)[:, None], found.indices[:, :4]].min() == 1
    assert graph.max() == 1
    assert np.diag(graph).sum() == 0


@pytest.mark.slow
def test_the_approximate_search_finds_nearly_the_same(rng):
    x = rng.normal(size=(3000, 10)).astype(np.float32)
    exact, near = nearest_neighbors(x, k=30), nearest_neighbors(x, k=30, max_exact=100)
    assert not near.exact
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact.indices, near.indices, strict=True)]
    assert np.mean(shared) > 0.95 * 30
    assert (near.indices != np.arange(3000)[:, None]).all()


def test_links_of_queries_are_their_nearest_cells(rng):
    x, queries = rng.normal(size=(50, 4)), rng.normal(size=(20, 4))
    nearest = np.argsort(cdist(queries, x), axis=1)[:, :3]
    assert (neighbor_links(x, queries, 3).toarray().nonzero()[1].reshape(20, 3) == np.sort(nearest, axis=1)).all()


def test_more_neighbours_than_cells_are_refused(rng):
    with pytest.raises(ValueError, match="`k` to be at most 9, the number of other cells"):
        nearest_neighbors(rng.normal(size=(10, 2)), k=10)
