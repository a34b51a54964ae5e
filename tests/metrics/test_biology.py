from __future__ import annotations

import networkx
import numpy as np
import pytest

from smalti.metrics import (
    biology_scores,
    cell_type_asw,
    clisi,
    graph_connectivity,
    nearest_neighbors,
    nmi_ari,
    total_score,
)


@pytest.fixture
def types(rng):
    labels = np.repeat(["B", "T", "NK", "Mono"], 60)
    centre = dict(zip("BTNM", np.eye(4) * 4, strict=True))
    return rng.normal(size=(240, 4)) + np.stack([centre[name[0]] for name in labels]), labels


def test_scores_are_those_of_the_single_functions(types):
    pytest.importorskip("igraph")
    x, labels = types
    found = biology_scores(x, labels)
    kmeans, leiden = nmi_ari(x, labels), nmi_ari(x, labels, method="leiden")
    expected = [kmeans.nmi, kmeans.ari, leiden.nmi, leiden.ari, cell_type_asw(x, labels), clisi(x, labels)]
    assert [
        found.nmi_kmeans, found.ari_kmeans, found.nmi_leiden, found.ari_leiden, found.asw, found.clisi
    ] == pytest.approx(expected)  # fmt: skip
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.connectivity == graph_connectivity(x, labels)


def test_types_apart_score_one_and_noise_scores_low(types, rng):
    pytest.importorskip("igraph")
    x, labels = types
    good, bad = biology_scores(10 * x, labels), biology_scores(rng.normal(size=x.shape), labels)
    assert good.mean > 0.85
    assert bad.mean < 0.3
    assert good.connectivity == 1


def test_unlabelled_cells_are_left_out_before_anything_is_computed(types, rng):
    pytest.importorskip("igraph")
    x, labels = types
    more, named = np.vstack([x, rng.normal(size=(30, 4))]), np.concatenate([labels, np.full(30, "?")])
    assert biology_scores(more, named, exclude="?") == biology_scores(x, labels)
    given = biology_scores(more, named, exclude="?", neighbors=nearest_neighbors(more))
    assert given == biology_scores(x, labels)


def test_connectivity_equals_the_pieces_that_networkx_finds(rng):
    labels = rng.integers(3, size=120)
    x = rng.normal(size=(120, 2)) * 3
    graph, shares = networkx.Graph(), []
    for i, near in enumerate(nearest_neighbors(x, k=4).indices):
        graph.add_edges_from((i, int(j)) for j in near)
    for code in range(3):
        rows = np.flatnonzero(labels == code)
        pieces = networkx.connected_components(graph.subgraph(rows.tolist()))
        shares.append(max(len(piece) for piece in pieces) / len(rows))
    assert graph_connectivity(x, labels, n_neighbors=4) == pytest.approx(np.mean(shares))
    assert min(shares) < 1


def test_a_type_in_two_places_is_not_connected(rng):
    labels = np.repeat(["split", "whole"], 100)
    x = rng.normal(size=(200, 3)) + 100 * (labels == "whole")[:, None]
    x[:30] -= 100
    assert graph_connectivity(x, labels) == pytest.approx((0.7 + 1) / 2)


def test_totals_have_the_weights_of_scib():
    assert total_score(0.5) == 0.5
    assert total_score(0.5, batch=1.0) == pytest.approx(0.7)
    assert total_score(0.5, batch=1.0, presence=0.0) == pytest.approx(0.5)


def test_one_type_is_refused(rng):
    with pytest.raises(ValueError, match="`labels` to have at least 2 classes"):
        biology_scores(rng.normal(size=(30, 2)), ["B"] * 30)
